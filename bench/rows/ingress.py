"""The ingress beside nginx: the same upstream, the same load, in alternating pairs (see bench/ingress/compare.sh).

The crate is measured alone, in the program `front`, because the instance of a deployed service is out of nginx's
reach; the row `deployed` measures the whole of haar. Both keep connections to the upstream, write an access log and
have as many threads.
"""

import os
import re
import subprocess

from harness.bench import ROOT, tool
from harness.report import NO_LESS, NO_MORE, Result

RATE = 2000


def results(context):
    for name, package in (("nginx", "nginx"), ("wrk", "wrk")):
        tool(name, package)
    for name in ("front", "pace"):
        context.example("ingress", name)
    return figures(compare(context))


def compare(context):
    settings = {"PAIRS": context.rounds, "SECONDS_EACH": context.seconds, "RATE": RATE, "PROFILE": context.profile}
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    environment["PATH"] += ":/usr/sbin"
    patience = 60 + context.rounds * context.seconds * 6
    command = ["sh", str(ROOT / "bench/ingress/compare.sh")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=patience)
    if ran.returncode != 0 or "Non-2xx" in ran.stdout:
        raise RuntimeError(f"compare.sh: {(ran.stderr or ran.stdout).strip()[-300:]}")
    return ran.stdout


def figures(text):
    ours, theirs = measurements(text, "ingress"), measurements(text, "nginx")
    kinds = [
        ("cpu", "CPU a request", "µs", NO_MORE),
        ("rate", "requests/s", "/s", NO_LESS),
        ("p99", "p99 at 2,000/s", "ms", NO_MORE),
    ]
    rows = []
    for kind, name, unit, bar in kinds:
        what = f"ingress, 1 KB: {name}"
        rows.append(Result("ingress", what, "haar's ingress", unit, ours[kind], bar, theirs[kind]))
        rows.append(Result("ingress", what, "nginx proxy_pass", unit, theirs[kind]))
    return rows


def measurements(text, name):
    """Every single measurement of one proxy."""
    loads = re.findall(rf"^{name}\s+([\d.]+) requests/s\s+([\d.]+) us CPU", text, re.M)
    paced = re.findall(rf"^{name}\s.*?p99\s+([\d.]+) us", text, re.M)
    return {
        "rate": tuple(float(rate) for rate, _ in loads),
        "cpu": tuple(float(cpu) for _, cpu in loads),
        "p99": tuple(float(micros) / 1000 for micros in paced),
    }
