"""What the machine is, and whether it is quiet: a figure from a busy machine says little."""

import os
import platform
import subprocess
import time

# A machine counts as quiet when less than this share of it was busy for a second.
QUIET = 0.10


def describe(context):
    """What figures depend on, in words that name no machine."""
    return {
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "load_average_before": os.getloadavg()[0],
        "profile": context.profile,
        "haar": _output(str(context.haar), "--version"),
        "commit": _output("git", "-C", str(context.cache), "rev-parse", "--short", "HEAD"),
        "rounds": context.rounds,
        "seconds": context.seconds,
    }


def wait_until_quiet(patience):
    """Waits until nothing else runs, but not longer than that many seconds. Says what it was like in the end."""
    deadline = time.monotonic() + patience
    while True:
        busy = _busy_share(1.0)
        if busy < QUIET:
            return "quiet"
        if time.monotonic() > deadline:
            return f"{busy:.0%} busy with other things"


def _busy_share(seconds):
    idle, total = _ticks()
    time.sleep(seconds)
    idle_after, total_after = _ticks()
    return 1 - (idle_after - idle) / max(total_after - total, 1)


def _ticks():
    with open("/proc/stat") as stat:
        ticks = [int(number) for number in stat.readline().split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def _cpu_name():
    with open("/proc/cpuinfo") as info:
        names = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except OSError:
        return ""
