"""What a sandbox adds to the time until a program's first byte, with runc beside it (example `cold_start`).

A static program is executed bare, in a sandbox as a service's instance gets it (eight layers, limits, the
metadata server's sockets), and by runc where that is installed; the kinds take turns. The bar is about what is
added, so the bare program's median is taken off.
"""

import re
import subprocess

from harness.bench import tool
from harness.report import Bar, Result

# Enough for a 99th percentile to mean something.
ROUNDS = 200
NAMES = {
    "bare exec": "bare",
    "sandbox, prepared, 8 layers, limits, listeners": "full",
    "sandbox, unprepared": "unprepared",
    "runc": "runc",
}


def results(context):
    tool("gcc", "gcc libc6-dev")
    program = context.example("sandbox", "cold_start")
    ran = subprocess.run([program, str(ROUNDS)], capture_output=True, text=True, timeout=180, cwd=context.scratch)
    if ran.returncode != 0:
        raise RuntimeError(f"cold_start: {ran.stderr.strip()[-300:]}")
    return figures(parse(ran.stdout))


def parse(text):
    lines = re.findall(r"^(.+?)\s+median\s+([\d.]+) ms\s+p99\s+([\d.]+) ms", text, re.M)
    return {NAMES[name]: (float(median), float(p99)) for name, median, p99 in lines if name in NAMES}


def figures(times):
    bare = times["bare"][0]
    what = "cold start added over bare exec"
    rows = [
        added(f"{what}: median", "haar's sandbox", times["full"][0] - bare, Bar(8)),
        added(f"{what}: p99", "haar's sandbox", times["full"][1] - bare, Bar(20)),
        added(f"{what}: median, nothing prepared", "haar's sandbox", times["unprepared"][0] - bare),
    ]
    if "runc" in times:
        rows += [
            added(f"{what}: median", "runc", times["runc"][0] - bare),
            added(f"{what}: p99", "runc", times["runc"][1] - bare),
        ]
    return rows


def added(what, who, value, bar=None):
    return Result("cold_start", what, who, "ms", (value,), bar)
