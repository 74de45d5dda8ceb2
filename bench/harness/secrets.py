"""Secrets to measure with: made through the API, and asked for in both of its forms."""

import base64
import shutil
from concurrent.futures import ThreadPoolExecutor

from harness.haar import PROJECT, SECRETS, Caller, Haar

# 64 bytes, as peers were measured with.
PAYLOAD = bytes(range(48, 112))
# A secret and a version are two resources.
MANY = 5000
WRITERS = 32


def path(name):
    return f"/v1/projects/{PROJECT}/secrets/{name}/versions/latest:access"


def create(caller, name):
    """A secret with one version."""
    body = {"replication": {"automatic": {}}}
    caller.call("POST", SECRETS, f"/v1/projects/{PROJECT}/secrets?secretId={name}", body)
    version = {"payload": {"data": base64.b64encode(PAYLOAD).decode()}}
    caller.call("POST", SECRETS, f"/v1/projects/{PROJECT}/secrets/{name}:addVersion", version)


def check(answer):
    """Whether an answer to an access is right, to the byte."""
    if base64.b64decode(answer["payload"]["data"]) != PAYLOAD:
        raise RuntimeError("the payload is not the one that was stored")


def directory_with_many(context):
    """A data directory with 10,000 resources and a token for it; made once, and again when it cannot be used."""
    home = context.cache / "data-10000"
    done = home / "made"
    if done.exists():
        try:
            return home / "data", verified(context, home / "data")
        except (RuntimeError, TimeoutError):
            pass
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    fill(context, home / "data")
    done.touch()
    return home / "data", verified(context, home / "data")


def fill(context, data):
    haar = Haar(context, data)
    token = haar.token()

    def write(writer):
        with Caller(haar.connect(), token) as caller:
            for number in range(writer, MANY, WRITERS):
                create(caller, f"secret-{number}")

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    haar.stop()


def verified(context, data):
    """A token, once haar has started on the directory and the last secret is there."""
    haar = Haar(context, data)
    try:
        token = haar.token()
        check(haar.call("GET", SECRETS, path(f"secret-{MANY - 1}"), token))
        return token
    finally:
        haar.stop()


def grpc_request(name):
    """One gRPC frame: AccessSecretVersionRequest with `name`, its first field."""
    version = f"projects/{PROJECT}/secrets/{name}/versions/latest".encode()
    message = bytes([0x0A, len(version)]) + version
    return bytes([0]) + len(message).to_bytes(4, "big") + message
