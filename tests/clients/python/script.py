"""The script of ../calls.json with Google's Python libraries and no option: python script.py grpc|rest TABLE CALLER.

The IAM library speaks gRPC only, so its calls go over gRPC in both runs.
"""

import json
import os
import re
import sys

from google.api_core import exceptions
from google.cloud import iam_admin_v1, iam_credentials_v1, resourcemanager_v3, secretmanager_v1
from google.iam.v1 import iam_policy_pb2
from google.protobuf import json_format

TRANSPORT, TABLE, CALLER = sys.argv[1:]
PROJECT = os.environ["GOOGLE_CLOUD_PROJECT"]
CLIENTS = {
    "secrets": (secretmanager_v1.SecretManagerServiceClient(transport=TRANSPORT), secretmanager_v1.types),
    "accounts": (iam_admin_v1.IAMClient(), iam_admin_v1.types),
    "credentials": (iam_credentials_v1.IAMCredentialsClient(transport=TRANSPORT), iam_credentials_v1.types),
    "projects": (resourcemanager_v3.ProjectsClient(transport=TRANSPORT), resourcemanager_v3.types),
}


def main():
    with open(TABLE, encoding="utf-8") as file:
        table = json.load(file)
    values = {"project": PROJECT, "caller": CALLER} | table["values"]
    for number, entry in enumerate(table["calls"], 1):
        try:
            answer = call(entry["call"], fill(entry["request"], values))
            values |= {name: at(answer, path) for name, path in entry.get("keep", {}).items()}
            shown = {path: at(answer, path) for path in entry.get("show", [])}
            outcome = ["OK", line(shown)]
        except exceptions.GoogleAPICallError as error:
            outcome = [code(error), message(error), line(details(error))]
        print(f"{number:02}", entry["call"], *outcome, sep=" | ")


def call(what, request):
    """Makes one call, and gives its answer in protobuf's JSON form."""
    service, method = what.split(".")
    client, types = CLIENTS[service]
    function = getattr(client, re.sub(r"(?<!^)([A-Z])", r"_\1", method).lower())
    kind = getattr(types, method + "Request", None)
    if kind is None:
        message = json_format.ParseDict(request, getattr(iam_policy_pb2, method + "Request")())
    else:
        message = kind.from_json(json.dumps(request))
    answer = function(request=message)
    return json_format.MessageToDict(getattr(answer, "_pb", answer)) if answer is not None else {}


def code(error):
    """Over REST the library keeps the HTTP status only; the status is in the answer."""
    if error.grpc_status_code is not None and TRANSPORT == "grpc":
        return error.grpc_status_code.name
    if hasattr(error.response, "json"):
        return error.response.json()["error"]["status"]
    return error.grpc_status_code.name


def message(error):
    """Over REST the library puts method and URL before the message."""
    return re.sub(r"^(GET|POST|PUT|PATCH|DELETE) \S+: ", "", error.message)


def details(error):
    """Over gRPC the library unpacks the details."""
    if hasattr(error.response, "json"):
        return error.response.json()["error"].get("details", [])
    typed = lambda detail: {"@type": f"type.googleapis.com/{detail.DESCRIPTOR.full_name}"}
    return [typed(detail) | json_format.MessageToDict(detail) for detail in error.details]


def fill(value, values):
    """The request with its ${names} filled in; values may hold names too."""
    text = json.dumps(value)
    while "${" in text:
        text = re.sub(r"\$\{(\w+)\}", lambda name: values[name[1]], text)
    return json.loads(text)


def at(answer, path):
    """A field of an answer; null when it is absent or empty."""
    for name in path.split("."):
        answer = (answer or {}).get(name)
    return answer or None


def line(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


main()
