"""Memory when idle: `haar up --detach` with everything on, a second after its first answer.

The process that serves is what the bar is about; its supervisor and helpers are counted beside it. Their RSS holds
the program's own pages, which they share, once each: PSS divides them.
"""

import time

from harness.haar import PROJECT, SECRETS, Haar, family, memory_mb
from harness.report import Bar, Result


def results(context):
    samples = [idle(context) for _ in range(context.rounds)]
    pick = lambda who, kind: tuple(sample[who][kind] for sample in samples)
    count = len(family_names(samples))
    return [
        Result("memory", "idle, RSS", "haar", "MB", pick("server", "RSS"), Bar(18)),
        Result("memory", "idle, PSS", "haar", "MB", pick("server", "PSS")),
        Result("memory", "idle, RSS", "its supervisor", "MB", pick("supervisor", "RSS")),
        Result("memory", f"idle, PSS, all {count} processes", "haar", "MB", pick("all", "PSS")),
    ]


def family_names(samples):
    return samples[0]["pids"]


def idle(context):
    haar = Haar(context, context.directory("idle") / "data", detached=True)
    haar.call("GET", SECRETS, f"/v1/projects/{PROJECT}/secrets", haar.token())
    time.sleep(1)
    pids = family(haar.supervisor)
    sizes = {pid: memory_mb(pid) for pid in pids}
    sample = {
        "pids": pids,
        "server": sizes[haar.pid],
        "supervisor": sizes[haar.supervisor],
        "all": {"PSS": sum(size["PSS"] for size in sizes.values())},
    }
    haar.stop()
    return sample
