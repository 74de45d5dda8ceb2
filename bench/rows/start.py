"""From starting the process to its first right answer, on a new data directory and on one with 10,000 resources.

The clock starts before the process is made and ends when the answer is read: it holds execve, everything that is
opened and loaded, the first connection and one authenticated call. On a new directory the call lists the secrets,
with a token asked for in the measured time; with 10,000 resources it reads one secret of 5,000, with a token from
an earlier run. The directory's files are in the page cache.
"""

import time

from harness import secrets
from harness.haar import PROJECT, SECRETS, Haar
from harness.report import Bar, Result


def results(context):
    rounds = 4 * context.rounds
    data, token = secrets.directory_with_many(context)
    new = tuple(on_new_directory(context) for _ in range(rounds))
    stored = tuple(on_stored(context, data, token) for _ in range(rounds))
    what = "start to first right answer"
    return [
        Result("start", f"{what}, 10,000 resources", "haar", "ms", stored, Bar(12)),
        Result("start", f"{what}, new data directory", "haar", "ms", new, Bar(40)),
    ]


def on_new_directory(context):
    haar = Haar(context, context.directory("new") / "data")
    token = haar.token()
    answer = haar.call("GET", SECRETS, f"/v1/projects/{PROJECT}/secrets", token)
    took = time.monotonic() - haar.started
    haar.stop()
    if answer != {}:
        raise RuntimeError("a new haar has secrets")
    return took * 1000


def on_stored(context, data, token):
    haar = Haar(context, data)
    answer = haar.call("GET", SECRETS, secrets.path("secret-4242"), token)
    took = time.monotonic() - haar.started
    haar.running()
    haar.stop()
    secrets.check(answer)
    return took * 1000
