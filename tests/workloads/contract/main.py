"""What a container sees of its world, told to whoever asks. It answers HTTP/1.1, and HTTP/2 to who begins with it.

GET / tells everything in JSON; /sleep?SECONDS answers late, /cookie sets one, /exit?CODE ends the program, /sick makes
/health fail from then on, /weary?TIMES makes /ready fail so many times, /keep says whether it was asked before, /fill?MIB writes files, /metadata?PATH asks the
metadata server, /dial?HOST:PORT says what it heard there. On SIGTERM it says so on standard output.
"""

import json
import os
import signal
import socket
import stat
import sys
import threading
import time

FILES = """
/dev/fd /dev/full /dev/null /dev/ptmx /dev/random /dev/stdin /dev/stdout /dev/stderr /dev/tty /dev/urandom /dev/zero
/dev/console /dev/shm /dev/pts /dev/mqueue /proc/self/fd /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2
/tmp /var/tmp /var/log /etc/resolv.conf /etc/hosts /etc/hostname /dev/mem /dev/kmsg /dev/sda /proc/kcore /proc/sys
""".split()
CGROUPS = """
/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_period_us
/sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.weight /sys/fs/cgroup/cpu.max
""".split()
STARTED = str(time.time_ns())
# What was open before anything was opened: the listing itself is one.
OPEN = sorted(int(name) for name in os.listdir("/proc/self/fd"))
state = {"healthy": True, "weary": 0}


def attempt(call):
    """What came of a call, or the name of what went wrong."""
    try:
        return call()
    except OSError as error:
        return f"{type(error).__name__}: {error.strerror or error}"


def file(path):
    def look():
        found = os.stat(path)
        told = {"mode": stat.filemode(found.st_mode), "owner": found.st_uid}
        if os.path.islink(path):
            told["link"] = os.readlink(path)
        return told

    return attempt(look)


def written(directory):
    def write():
        path = f"{directory}/written-by-the-contract"
        with open(path, "w") as out:
            out.write("kept")
        with open(path) as back:
            content = back.read()
        os.remove(path)
        return content

    return attempt(write)


def text(path):
    def read():
        with open(path) as file:
            return file.read()

    return attempt(read)


def changed(path):
    """Whether a file of the kernel's takes its own content back: nothing changes if it does."""

    def write():
        with open(path) as file:
            content = file.read()
        with open(path, "w") as file:
            file.write(content)
        return "changed"

    return attempt(write)


def resolved(name):
    return attempt(lambda: sorted({info[4][0] for info in socket.getaddrinfo(name, 80, socket.AF_INET)}))


def stdin_ends():
    return attempt(lambda: os.read(0, 1) == b"")


def world():
    return {
        "started": STARTED,
        "environment": dict(os.environ),
        "arguments": sys.argv[1:],
        "command": open("/proc/self/cmdline").read().split("\0")[:-1],
        "directory": os.getcwd(),
        "user": os.getuid(),
        "group": os.getgid(),
        "groups": os.getgroups(),
        "umask": int(text("/proc/self/status").split("Umask:")[1].split()[0], 8),
        "status": dict(line.split(":\t", 1) for line in text("/proc/self/status").splitlines() if ":\t" in line),
        "pid": os.getpid(),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "hostname": socket.gethostname(),
        "stdin ends": stdin_ends(),
        "terminals": [os.isatty(fd) for fd in range(3)],
        "descriptors": OPEN,
        "files": {path: file(path) for path in FILES},
        "written": {path: written(path) for path in ["/", "/tmp", "/var/tmp", "/var/log", "/dev/shm", "/root", "/workspace"]},
        "cgroups": {path: text(path) for path in CGROUPS},
        "cgroups changed": {path: changed(path) for path in CGROUPS},
        "sysctl changed": {name: changed(f"/proc/sys/{name}") for name in ["kernel/hostname", "net/core/somaxconn", "vm/swappiness"]},
        "mounts": [line.split()[:4] for line in text("/proc/mounts").splitlines()],
        "memory": text("/proc/meminfo"),
        "processors": sorted(os.sched_getaffinity(0)),
        "resolv.conf": text("/etc/resolv.conf"),
        "hosts": text("/etc/hosts"),
        "resolved": {name: resolved(name) for name in ["metadata.google.internal", "run.googleapis.com", "localhost"]},
        "raw socket": attempt(lambda: bool(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))),
        "limits": text("/proc/self/limits"),
    }


def keep():
    """Whether a file was there already."""
    path = "/tmp/kept"
    was_there = os.path.exists(path)
    open(path, "w").close()
    return "kept" if was_there else "absent"


def fill(mebibytes):
    with open("/tmp/filled", "wb") as out:
        for _ in range(mebibytes):
            out.write(b"x" * (1 << 20))


def metadata(path):
    """What the metadata server says, spoken to as plainly as can be."""
    with socket.create_connection(("metadata.google.internal", 80), 5) as stream:
        ask = f"GET {path} HTTP/1.1\r\nHost: metadata.google.internal\r\nMetadata-Flavor: Google\r\nConnection: close\r\n\r\n"
        stream.sendall(ask.encode())
        answer = b""
        while more := stream.recv(4096):
            answer += more
    return answer.decode()


def dial(address):
    """The first thing that somebody else says."""
    host, _, port = address.rpartition(":")

    def hear():
        with socket.create_connection((host, int(port)), 5) as stream:
            return stream.recv(100).decode()

    return attempt(hear)


def answer(path, request):
    """Status, more headers and body for a request."""
    path, _, query = path.partition("?")
    if path == "/sleep":
        time.sleep(float(query))
    if path == "/cookie":
        return 200, ["Set-Cookie: a=b"], "a cookie"
    if path == "/exit":
        os._exit(int(query))
    if path == "/sick":
        state["healthy"] = False
    if path == "/health":
        return (200 if state["healthy"] else 503), [], "health"
    if path == "/weary":
        state["weary"] = int(query)
    if path == "/ready":
        state["weary"] -= 1
        return (200 if state["weary"] < 0 else 503), [], "ready"
    if path == "/keep":
        return 200, [], keep()
    if path == "/fill":
        fill(int(query))
    if path == "/metadata":
        return 200, [], metadata(query)
    if path == "/dial":
        return 200, [], dial(query)
    if path == "/print":
        print("to standard output", flush=True)
        print("to standard error", file=sys.stderr, flush=True)
    return 200, [], json.dumps({"request": request, **world()})


def http2(stream):
    """The least that answers one request: settings, then headers and data, once the client's headers are there."""
    frame = lambda kind, flags, number, payload=b"": len(payload).to_bytes(3, "big") + bytes([kind, flags]) + number.to_bytes(4, "big") + payload
    stream.sendall(frame(4, 0, 0))
    reader = stream.makefile("rb")
    reader.read(24)
    while head := reader.read(9):
        length, kind, flags, number = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
        reader.read(length)
        if kind == 4 and not flags & 1:
            stream.sendall(frame(4, 1, 0))
        if kind == 6 and not flags & 1:
            stream.sendall(frame(6, 1, 0, b"\0" * 8))
        if number and flags & 1:
            # 0x88 is ":status: 200" in HPACK's static table.
            body = json.dumps({"request": {"protocol": "HTTP/2.0"}}).encode()
            stream.sendall(frame(1, 4, number, b"\x88") + frame(0, 1, number, body))


def http1(stream):
    head = b""
    while b"\r\n\r\n" not in head:
        more = stream.recv(4096)
        if not more:
            return
        head += more
    first, *lines = head.split(b"\r\n\r\n")[0].decode().split("\r\n")
    method, path, protocol = first.split(" ")
    headers = [line.split(": ", 1) for line in lines]
    status, more, body = answer(path, {"method": method, "path": path, "protocol": protocol, "headers": headers})
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body.encode())}", "Connection: close", *more]
    stream.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())


def serve(stream):
    with stream:
        try:
            (http2 if stream.recv(14, socket.MSG_PEEK | socket.MSG_WAITALL) == b"PRI * HTTP/2.0" else http1)(stream)
        except OSError:
            pass


def terminated(*_):
    print("terminated: SIGTERM", flush=True)
    if os.environ.get("STUBBORN"):
        return
    os._exit(0)


signal.signal(signal.SIGTERM, terminated)
time.sleep(float(os.environ.get("LATE", "0")))
listener = socket.create_server(("0.0.0.0", int(os.environ["PORT"])), backlog=128)
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
