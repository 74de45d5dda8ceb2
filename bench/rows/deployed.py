"""A deployed service through the whole of haar, beside nginx in front of the very same instance.

The image that every first deploy uses runs as an instance of haar's. Requests reach it through haar's port; nginx
and its load enter the instance's network namespace, where its listening port is, so that both proxies stand before
one process (needs root). Requests take turns in alternating pairs. The instance is held to one CPU and answers a
page; what it uses itself is in neither proxy's figure. Deploying is timed as well: from the call that creates the
service to the first answer of it.
"""

import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from harness import load
from harness.bench import Missing, tool
from harness.haar import PROJECT, Haar, end, family, free_port, memory_mb
from harness.report import NO_LESS, NO_MORE, Bar, Result

REGION = "us-central1"
HOST = f"{REGION}-run.googleapis.com"
PARENT = f"/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services"
IMAGE = "us-docker.pkg.dev/cloudrun/container/hello"
PATIENCE = 20


def results(context):
    haar = Haar(context, context.directory("deployed") / "data")
    token = haar.token()
    begun = time.monotonic()
    url = deploy(haar, token)
    first_answer(haar, url)
    took = (time.monotonic() - begun) * 1000
    time.sleep(1)
    memory = memory_mb(haar.running()["pid"])["RSS"]
    rows = [
        Result("deployed", "create a service, to its first answer", "haar", "ms", (took,), Bar(1500)),
        Result("deployed", "idle with one service, RSS", "haar", "MB", (memory,)),
    ]
    rows += beside_nginx(context, haar, url)
    haar.stop()
    return rows


def service():
    annotations = {"autoscaling.knative.dev/minScale": "1", "autoscaling.knative.dev/maxScale": "1"}
    annotations["run.googleapis.com/cpu-throttling"] = "false"
    template = {
        "metadata": {"annotations": annotations},
        "spec": {"containerConcurrency": 1000, "containers": [{"image": IMAGE}]},
    }
    metadata = {"name": "measured", "annotations": {"run.googleapis.com/invoker-iam-disabled": "true"}}
    kinds = {"apiVersion": "serving.knative.dev/v1", "kind": "Service"}
    return {**kinds, "metadata": {**metadata, "namespace": PROJECT}, "spec": {"template": template}}


def deploy(haar, token):
    """Creates the service and gives its address, once it is ready."""
    try:
        haar.call("POST", HOST, PARENT, token, service())
    except RuntimeError as error:
        if ": 404 " in str(error) or ": 501 " in str(error):
            raise Missing("this haar has no Cloud Run yet") from error
        raise
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = haar.call("GET", HOST, f"{PARENT}/measured", token).get("status", {})
        ready = [one for one in status.get("conditions", []) if one["type"] == "Ready"]
        if ready and ready[0]["status"] == "True":
            return status["url"]
        if ready and ready[0]["status"] == "False":
            raise RuntimeError(f"the service does not start: {ready[0].get('message')}")
        time.sleep(0.002)
    raise RuntimeError(f"the service is not ready after {PATIENCE} s")


def first_answer(haar, url):
    """The page; `*.localhost` is this machine, whatever its resolver says."""
    host = url.split("://")[1].split(":")[0]
    request = urllib.request.Request(f"http://127.0.0.1:{haar.port}/", headers={"Host": host})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PATIENCE) as answer:
        return answer.read()


def beside_nginx(context, haar, url):
    """Alternating pairs of loads; the pages of both proxies are compared first."""
    if os.geteuid() != 0:
        return []
    host = url.split("://")[1].split(":")[0]
    server = haar.running()["pid"]
    instance, port = listening_instance(server)
    inside = [tool("nsenter", "util-linux"), f"--target={instance}", "--net"]
    nginx, nginx_url = start_nginx(context, inside, port, host)
    compare_pages(haar, url, inside, nginx_url)
    ours, theirs = [], []
    for _ in range(context.rounds + 1):
        ours.append(load.wrk(context, f"http://127.0.0.1:{haar.port}/", [f"Host: {host}"], [server]))
        theirs.append(load.wrk(context, nginx_url, [], family(nginx), inside))
    end(nginx)
    # The first pair warms up.
    return figures(ours[1:], theirs[1:])


def figures(ours, theirs):
    kinds = [("cpu_us", "CPU a request", "µs", NO_MORE), ("rate", "requests/s", "/s", NO_LESS)]
    rows = []
    for kind, name, unit, bar in kinds:
        what = f"a deployed service: {name}"
        mine, peers = (tuple(getattr(load, kind) for load in loads) for loads in (ours, theirs))
        rows.append(Result("deployed", what, "haar", unit, mine, bar, peers))
        rows.append(Result("deployed", what, "nginx proxy_pass", unit, peers))
    return rows


def listening_instance(server):
    """A process of an instance, and the port that it listens on in its own network namespace."""
    own = os.readlink("/proc/self/ns/net")
    for pid in family(server):
        if os.readlink(f"/proc/{pid}/ns/net") == own:
            continue
        sockets = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").glob("*") if os.path.lexists(fd)}
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                    port = int(fields[1].rsplit(":", 1)[1], 16)
                    if port not in (53, 80, 443):
                        return pid, port
    raise Missing("no instance that listens in a network namespace of its own")


def start_nginx(context, inside, upstream, host):
    """nginx in the instance's network namespace; gives its pid and address."""
    home, port = context.directory("nginx"), free_port()
    (home / "nginx.conf").write_text(
        f"worker_processes 2; daemon on; pid {home}/pid; error_log {home}/error.log;\n"
        "events { worker_connections 4096; }\n"
        f"http {{ access_log {home}/access.log combined; keepalive_requests 1000000000;\n"
        f"upstream app {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://app; proxy_http_version 1.1;\n"
        f'proxy_set_header Connection ""; proxy_set_header Host {host};\n'
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto http;\n"
        "proxy_set_header traceparent 00-$request_id-0000000000000001-00; } } }\n"
    )
    subprocess.run([*inside, tool("nginx", "nginx"), "-c", f"{home}/nginx.conf", "-p", home], check=True, timeout=10)
    pid = int((home / "pid").read_text())
    context.at_end(lambda: end(pid))
    return pid, f"http://127.0.0.1:{port}/"


def compare_pages(haar, url, inside, nginx_url):
    page = first_answer(haar, url)
    command = [*inside, tool("curl", "curl"), "-sSf", "--noproxy", "*", nginx_url]
    if subprocess.run(command, capture_output=True, timeout=10, check=True).stdout != page:
        raise RuntimeError("nginx and haar answer different pages")
