"""AccessSecretVersion with a token and IAM checked: 64 bytes, 32 connections, gRPC and REST over the plain port.

An answer is compared to the byte before each form is measured, and with gRPC, where a refusal is HTTP 200 too, the
form of the answer as well (`grpc-status: 0`). The caller is a service account that may read this one secret and
nothing else, so that a decision stands behind every answer. The two forms take turns.
"""

import subprocess

from harness import load, secrets
from harness.bench import tool
from harness.haar import PROJECT, SECRETS, Caller, Haar, family
from harness.report import Bar, Result

READER = f"reader@{PROJECT}.iam.gserviceaccount.com"
METHOD = "/google.cloud.secretmanager.v1.SecretManagerService/AccessSecretVersion"
RATE = 5000


def results(context):
    haar = Haar(context, context.directory("access") / "data")
    token = prepare(haar)
    pids = family(haar.running()["pid"])
    forms = {"gRPC": Grpc(context, haar, token, pids), "REST": Rest(context, haar, token, pids)}
    full = {name: [] for name in forms}
    paced = {name: [] for name in forms}
    for form in forms.values():
        form.check()
        form.full()
    for _ in range(context.rounds):
        for name, form in forms.items():
            full[name].append(form.full())
            paced[name].append(form.paced())
    haar.stop()
    return [result for name in forms for result in figures(name, full[name], paced[name])]


def figures(form, full, paced):
    what = f"AccessSecretVersion, {form}"
    return [
        Result("access", f"{what}: CPU a call", "haar", "µs", tuple(one.cpu_us for one in full), Bar(33)),
        Result("access", f"{what}: p99 at 5,000/s", "haar", "ms", tuple(one.p99_ms for one in paced), Bar(1)),
        Result("access", f"{what}: calls/s, load on the same CPUs", "haar", "/s", tuple(one.rate for one in full)),
        Result("access", f"{what}: p99 flat out", "haar", "ms", tuple(one.p99_ms for one in full)),
    ]


def prepare(haar):
    """A secret and a service account that may read it; gives the account's token."""
    owner = haar.token()
    with Caller(haar.connect(), owner) as caller:
        secrets.create(caller, "measured")
        account = {"accountId": "reader", "serviceAccount": {}}
        caller.call("POST", "iam.googleapis.com", f"/v1/projects/{PROJECT}/serviceAccounts", account)
        binding = {"role": "roles/secretmanager.secretAccessor", "members": [f"serviceAccount:{READER}"]}
        secret = f"/v1/projects/{PROJECT}/secrets/measured"
        caller.call("POST", SECRETS, f"{secret}:setIamPolicy", {"policy": {"bindings": [binding]}})
        key = haar.running()["control_key"]
    # What finds out what the machine allows has ended once the status is known.
    haar.call("GET", "127.0.0.1", "/_haar/status", key)
    return haar.call("POST", "127.0.0.1", "/_haar/credentials", key, {"principal": READER})["access_token"]


class Grpc:
    def __init__(self, context, haar, token, pids):
        self.context, self.pids = context, pids
        self.url = f"http://127.0.0.1:{haar.port}{METHOD}"
        self.body = context.scratch / "request.grpc"
        self.body.write_bytes(secrets.grpc_request("measured"))
        named = ["content-type: application/grpc", "te: trailers", f"authorization: Bearer {token}"]
        self.headers = [word for header in named for word in ("-H", header)]

    def check(self):
        head = self.context.scratch / "answer.head"
        command = [tool("curl", "curl"), "-sS", "-D", head, "--http2-prior-knowledge", "--data-binary", f"@{self.body}"]
        command += ["-H", f"Host: {SECRETS}", *self.headers, self.url]
        answer = subprocess.run(command, capture_output=True, timeout=10, check=True).stdout
        if secrets.PAYLOAD not in answer or "grpc-status: 0" not in head.read_text():
            raise RuntimeError(f"gRPC: a wrong answer: {head.read_text()}")
        self.answer_bytes = len(answer)

    def load(self, rate=None):
        arguments = [f"-d{self.body}", "-H", f":authority: {SECRETS}", *self.headers]
        return load.h2load(self.context, self.url, arguments, self.pids, rate, self.answer_bytes)

    def full(self):
        return self.load()

    def paced(self):
        return self.load(RATE)


class Rest:
    def __init__(self, context, haar, token, pids):
        self.context, self.haar, self.token, self.pids = context, haar, token, pids
        self.url = f"http://127.0.0.1:{haar.port}{secrets.path('measured')}"
        self.headers = [f"Host: {SECRETS}", f"Authorization: Bearer {token}"]

    def check(self):
        secrets.check(self.haar.call("GET", SECRETS, secrets.path("measured"), self.token))

    def full(self):
        return load.wrk(self.context, self.url, self.headers, self.pids)

    def paced(self):
        arguments = ["--h1", "-H", f":authority: {SECRETS}", "-H", self.headers[1]]
        return load.h2load(self.context, self.url, arguments, self.pids, RATE)
