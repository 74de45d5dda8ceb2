"""How many instances and services fit: 200 instances that start at once, 1,000 services that nobody calls, and a burst
of 1,000 requests at a service without instances.

The instances are busybox's httpd, a static program, with one CPU and 128 MiB each. They are counted by haar
itself, which counts one when its program runs; that all of them answer is asked afterwards. A service that nobody calls
has no instance: what it costs is memory of the serving process, after what was started to prove it has been retired.
"""

import concurrent.futures
import socket
import subprocess
import time

from harness.bench import ROOT, tool
from harness.haar import PROJECT, Caller, Haar, cpu_seconds, memory_mb
from harness.report import Bar, Result

HOST = "run.googleapis.com"
PARENT = f"/v2/projects/{PROJECT}/locations/us-central1/services"
IMAGE = "us-docker.pkg.dev/bench/tools/busybox:latest"
INSTANCES = 200
SERVICES = 1000
REQUESTS = 1000
CONCURRENCY = 80
# How many services are deployed side by side.
AT_ONCE = 8
PATIENCE = 300
# Serves a page from memory; a request that sleeps is what keeps a place taken.
SERVE = (
    "mkdir -p /www/cgi-bin; echo here > /www/index.html; "
    "printf '#!/bin/busybox sh\\n/bin/busybox sleep 1\\necho; echo slept' > /www/cgi-bin/sleep; "
    "chmod +x /www/cgi-bin/sleep; exec /bin/busybox httpd -f -p $PORT -h /www"
)


def results(context):
    rows = []
    for measure in (instances, burst, services):
        haar = Haar(context, context.directory("density") / "data", idle_after=1)
        token = haar.token()
        import_image(context, haar)
        rows += measure(context, haar, token)
        haar.stop()
    return rows


def import_image(context, haar):
    archive = context.scratch / "busybox.tar"
    script = ROOT / "tests" / "clients" / "busybox-image"
    subprocess.run(["sh", script, tool("busybox", "busybox-static"), archive], check=True, timeout=60)
    command = [haar.binary, "--data", haar.data, "images", "import", archive, "--name", IMAGE]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)


def instances(context, haar, token):
    """From the call that asks for 200 instances until as many run."""
    times = []
    create(haar, token, "many", {"maxInstanceCount": INSTANCES}, concurrency=1)
    for _ in range(min(context.rounds, 3)):
        await_instances(haar, "many", 0)
        begun = time.monotonic()
        scale(haar, token, "many", INSTANCES)
        await_instances(haar, "many", INSTANCES)
        times.append(time.monotonic() - begun)
        require(ask(haar, "many", "/", INSTANCES), 200, INSTANCES)
        scale(haar, token, "many", 0)
    delete(haar, token, "many")
    return [Result("density", f"{INSTANCES} instances start", "haar", "s", tuple(times), Bar(5))]


def burst(context, haar, token):
    """Requests at once, each of which takes a second, at a service that has no instance."""
    counts, times = [], []
    needed = -(-REQUESTS // CONCURRENCY)
    create(haar, token, "burst", {"maxInstanceCount": INSTANCES}, concurrency=CONCURRENCY)
    for _ in range(min(context.rounds, 3)):
        await_instances(haar, "burst", 0)
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answers = pool.submit(ask, haar, "burst", "/cgi-bin/sleep", REQUESTS)
            most = 0
            while not answers.done():
                most = max(most, count(haar, "burst"))
                time.sleep(0.1)
            require(answers.result(), 200, REQUESTS)
        times.append(time.monotonic() - begun)
        counts.append(most)
    delete(haar, token, "burst")
    what = f"burst of {REQUESTS:,} requests of 1 s at no instance, {CONCURRENCY} at a time"
    return [
        Result("density", f"{what}: instances", "haar", "", tuple(counts), Bar(needed)),
        Result("density", f"{what}: until the last answer", "haar", "s", tuple(times)),
    ]


def services(context, haar, token):
    """What 1,000 services add to the serving process, and what CPU it and its helpers use with them."""
    pid = haar.running()["pid"]
    # One has been deployed and called before: what the first costs is not what each costs.
    create(haar, token, "first", {}, CONCURRENCY)
    require(ask(haar, "first", "/", 1), 200, 1)
    before = memory_mb(pid)["RSS"]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        made = [pool.submit(create, haar, token, f"idle-{n}", {}, CONCURRENCY) for n in range(SERVICES)]
        for one in made:
            one.result()
    deadline = time.monotonic() + PATIENCE
    while any(service["instances"] for service in status(haar)["services"]) and time.monotonic() < deadline:
        time.sleep(1)
    # What is written down now and again has been written down.
    time.sleep(35)
    added = memory_mb(pid)["RSS"] - before
    used = cpu_seconds([pid])
    time.sleep(10)
    share = (cpu_seconds([pid]) - used) / 10 * 100
    return [
        Result("density", f"{SERVICES:,} idle services: memory added (RSS)", "haar", "MB", (added,), Bar(100)),
        Result("density", f"{SERVICES:,} idle services: CPU", "haar", "%", (share,), Bar(0.5, text="none")),
    ]


def create(haar, token, name, scaling, concurrency):
    """Creates a service and waits until it serves."""
    resources = {"limits": {"cpu": "1", "memory": "128Mi"}}
    container = {"image": IMAGE, "command": ["/bin/busybox", "sh", "-c", SERVE], "resources": resources}
    template = {"containers": [container], "maxInstanceRequestConcurrency": concurrency}
    if scaling:
        template["scaling"] = scaling
    body = {"template": template, "invokerIamDisabled": True}
    finish(haar, token, haar.call("POST", HOST, f"{PARENT}?serviceId={name}", token, body))


def scale(haar, token, name, least):
    """Asks for so many instances, without a new revision."""
    body = {"scaling": {"minInstanceCount": least}}
    haar.call("PATCH", HOST, f"{PARENT}/{name}?updateMask=scaling", token, body)


def delete(haar, token, name):
    finish(haar, token, haar.call("DELETE", HOST, f"{PARENT}/{name}", token))


def finish(haar, token, operation):
    """Waits for the end of an operation."""
    deadline = time.monotonic() + PATIENCE
    with Caller(haar.connect(), token) as caller:
        while not operation.get("done"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{operation['name']} is not done after {PATIENCE} s")
            time.sleep(0.005)
            operation = caller.call("GET", HOST, f"/v2/{operation['name']}")
    if "error" in operation:
        raise RuntimeError(operation["error"]["message"])


def status(haar):
    return haar.call("GET", "127.0.0.1", "/_haar/status", haar.running()["control_key"])


def count(haar, name):
    """How many instances of a service run."""
    its = [service["instances"] for service in status(haar)["services"] if service["name"] == name]
    return sum(its)


def await_instances(haar, name, wanted):
    deadline = time.monotonic() + PATIENCE
    while (seen := count(haar, name)) != wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} has {seen} instances and not {wanted} after {PATIENCE} s")
        time.sleep(0.01)


def ask(haar, name, path, requests):
    """As many requests at once, and the status of each answer; 0 where there was none."""
    url = next(service["url"] for service in status(haar)["services"] if service["name"] == name)
    head = f"GET {path} HTTP/1.1\r\nHost: {url.split('://')[1].split(':')[0]}\r\nConnection: close\r\n\r\n"
    streams = [socket.create_connection(("127.0.0.1", haar.port), PATIENCE) for _ in range(requests)]
    for stream in streams:
        stream.sendall(head.encode())
    return [answer(stream) for stream in streams]


def answer(stream):
    with stream:
        text = b""
        while part := stream.recv(65536):
            text += part
    words = text.split(b" ", 2)
    return int(words[1]) if len(words) > 1 else 0


def require(statuses, wanted, number):
    if statuses.count(wanted) != number:
        raise RuntimeError(f"{number} requests were answered so: { {s: statuses.count(s) for s in set(statuses)} }")
