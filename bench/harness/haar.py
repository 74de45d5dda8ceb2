"""A running haar, started as people start it and spoken to as clients do."""

import http.client
import json
import os
import signal
import socket
import time
from pathlib import Path

PROJECT = "bench-project"
SECRETS = "secretmanager.googleapis.com"
# Longer than any start that is worth measuring.
PATIENCE = 30.0
# Short against what is measured, and long enough to leave both processors to haar.
POLL = 0.0002


class Haar:
    """One `haar up` in the foreground on a data directory. `started` is when it was spawned (monotonic seconds)."""

    def __init__(self, context, data, detached=False, idle_after=None):
        self.binary, self.data, self.port = context.haar, Path(data), free_port()
        self.pid = self.supervisor = None
        self.started = time.monotonic()
        arguments = [str(self.binary), "up", "--project", PROJECT, "--listen", f"127.0.0.1:{self.port}"]
        arguments += ["--detach"] if detached else []
        arguments += [f"--idle-after={idle_after}"] if idle_after is not None else []
        self.spawned = self._spawn(arguments)
        context.at_end(self.stop)

    def _spawn(self, arguments):
        environment = {**os.environ, "HAAR_DATA": str(self.data)}
        quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
        return os.posix_spawn(self.binary, arguments, environment, file_actions=quiet)

    def connect(self):
        """A connection, as soon as there can be one."""
        while True:
            stream = socket.socket()
            try:
                stream.connect(("127.0.0.1", self.port))
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return stream
            except ConnectionRefusedError:
                stream.close()
                self._give_up_if_late()
                time.sleep(POLL)

    def running(self):
        """What haar says of itself, as soon as it does."""
        while True:
            try:
                running = json.loads((self.data / "run.json").read_text())
            except (OSError, ValueError):
                running = {}
            if running.get("listen", "").endswith(f":{self.port}"):
                self.pid, self.supervisor = running["pid"], running.get("supervisor")
                return running
            self._give_up_if_late()
            time.sleep(POLL)

    def _give_up_if_late(self):
        if time.monotonic() > self.started + PATIENCE:
            raise TimeoutError(f"haar did not start within {PATIENCE:.0f} s")

    def token(self):
        """An access token of the owner, as `haar exec` gets it."""
        key = self.running()["control_key"]
        answer = self.call("POST", "127.0.0.1", "/_haar/credentials", key, {})
        return answer["access_token"]

    def call(self, method, host, path, token, body=None):
        """One REST call on a connection of its own; anything but 200 is an error."""
        with Caller(self.connect(), token) as caller:
            return caller.call(method, host, path, body)

    def stop(self):
        """Stops it, as `haar down` does, and waits."""
        if self.spawned is None:
            return
        for pid in {self.supervisor or self.pid or self.spawned}:
            end(pid)
        reap(self.spawned)
        self.spawned = None


class Caller:
    """A kept connection of one principal."""

    def __init__(self, stream, token):
        self.connection = http.client.HTTPConnection("127.0.0.1")
        self.connection.sock = stream
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def call(self, method, host, path, body=None):
        text = None if body is None else json.dumps(body)
        self.connection.request(method, path, text, {**self.headers, "Host": host})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content.decode()[:300]}")
        return json.loads(content)


def end(pid):
    """Asks a process of ours to end, insists after ten seconds, and returns when it is gone."""
    deadline = time.monotonic() + 10
    sign = signal.SIGTERM
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in _status(pid):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            return
        sign = signal.SIGKILL if time.monotonic() > deadline else 0
        time.sleep(0.005)


def reap(pid):
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def _status(pid):
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "\nState:\tZ"


def family(pid):
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def cpu_seconds(pids):
    """User and system time that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb(pid):
    """What a process has in memory, and its share of it where pages are shared, in MB (10^6 bytes)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return {"RSS": sizes["Rss"], "PSS": sizes["Pss"]}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
