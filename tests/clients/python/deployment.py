"""A service's life through Google's own library: deployment.py grpc|rest. What it prints is ../deployment.txt."""

import os
import sys

from google.api_core import exceptions
from google.cloud import run_v2

Kind = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
services = run_v2.ServicesClient(transport=sys.argv[1])
revisions = run_v2.RevisionsClient(transport=sys.argv[1])
parent = f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/locations/us-central1"
name = f"{parent}/services/tide"


def short(resource):
    return resource.split("/")[-1]


def template(**more):
    image = "us-docker.pkg.dev/cloudrun/container/hello"
    return {"containers": [{"image": image, **more}], "max_instance_request_concurrency": 10, "timeout": {"seconds": 30}}


def split(service, first, second):
    service.traffic = [
        {"type_": Kind, "revision": first, "percent": 75},
        {"type_": Kind, "revision": second, "percent": 25, "tag": "canary"},
    ]


def refused(call, error):
    try:
        call()
    except error:
        return True
    raise AssertionError("it was not refused")


def create():
    return services.create_service(parent=parent, service_id="tide", service={"template": template()})


made = create().result(timeout=60)
shown = [short(made.name), f"concurrency {made.template.max_instance_request_concurrency}", f"{made.template.timeout.seconds} s"]
state = made.terminal_condition.state.name.removeprefix("CONDITION_")
print("created:", ", ".join([*shown, state]) + f", {len(list(revisions.list_revisions(parent=name)))} revision")
refused(create, exceptions.Conflict)
print("again: already exists")

first = short(made.latest_ready_revision)
made.template = run_v2.RevisionTemplate(template(env=[{"name": "A", "value": "1"}]))
made = services.update_service(service=made).result(timeout=60)
second = short(made.latest_ready_revision)
print("updated:", len(list(revisions.list_revisions(parent=name))), "revisions")

split(made, first, second)
made = services.update_service(service=made).result(timeout=60)
shares = {status.revision: status for status in made.traffic_statuses}
assert shares[second].uri.startswith("http"), shares
print(f"split: {shares[first].percent} to the first, {shares[second].percent} to the second as {shares[second].tag}")
made.traffic = [{"type_": Kind, "revision": first, "percent": 60}]
refused(lambda: services.update_service(service=made).result(timeout=60), exceptions.InvalidArgument if sys.argv[1] == "grpc" else exceptions.BadRequest)
print("without a whole: refused")

print("listed:", ", ".join(short(service.name) for service in services.list_services(parent=parent)))
print("deleted:", short(services.delete_service(name=name).result(timeout=60).name))
refused(lambda: services.get_service(name=name), exceptions.NotFound)
print("asked again: not found")
