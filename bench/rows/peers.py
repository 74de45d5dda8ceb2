"""Peers, where their binaries are present: start to first answer, and idle memory.

Looked for in $HAAR_PEERS and PATH. They store and check nothing at start, so a plain answer to a listing counts.
"""

import http.client
import os
import shutil
import time

from harness.haar import POLL, end, free_port, memory_mb, reap
from harness.report import Result, Skipped

# How each is started, and what it is asked: port and scratch directory are filled in.
PEERS = {
    "fake-gcs-server": (
        "-scheme http -host 127.0.0.1 -port {port} -backend filesystem -filesystem-root {dir}".split(),
        "/storage/v1/b?project=bench-project",
    ),
}
PATIENCE = 30


def results(context):
    directories = os.pathsep.join([os.environ.get("HAAR_PEERS", ""), os.environ.get("PATH", "")])
    rows = []
    for name, (arguments, path) in PEERS.items():
        binary = shutil.which(name, path=directories)
        rows += measure(context, name, binary, arguments, path) if binary else [Skipped(name, "not installed")]
    return rows


def measure(context, name, binary, arguments, path):
    samples = [once(context, binary, arguments, path) for _ in range(context.rounds)]
    return [
        Result("peers", "start to first answer, nothing stored", name, "ms", tuple(took for took, _ in samples)),
        Result("peers", "idle, RSS", name, "MB", tuple(size for _, size in samples)),
    ]


def once(context, binary, arguments, path):
    port, home = free_port(), context.directory("peer")
    words = [binary, *(word.format(port=port, dir=home) for word in arguments)]
    quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
    begun = time.monotonic()
    pid = os.posix_spawn(binary, words, os.environ, file_actions=quiet)
    stop = lambda: (end(pid), reap(pid))
    context.at_end(stop)
    wait_for_answer(port, path, begun + PATIENCE)
    took = (time.monotonic() - begun) * 1000
    time.sleep(1)
    size = memory_mb(pid)["RSS"]
    stop()
    return took, size


def wait_for_answer(port, path, deadline):
    """Asks until the answer is 200."""
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except (ConnectionError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(POLL)
    raise TimeoutError(f"no answer on {path}")
