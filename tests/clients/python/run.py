"""Cloud Run v2 through Google's own library: python run.py grpc|rest."""

import os
import sys

from google.api_core import exceptions
from google.cloud import run_v2

transport = sys.argv[1]
services = run_v2.ServicesClient(transport=transport)
revisions = run_v2.RevisionsClient(transport=transport)
parent = f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/locations/us-central1"
name = f"{parent}/services/{transport}-tide"
image = "us-docker.pkg.dev/cloudrun/container/hello"


def template(**more):
    return {"containers": [{"image": image, **more}], "max_instance_request_concurrency": 10, "timeout": {"seconds": 30}}


made = services.create_service(
    parent=parent, service_id=f"{transport}-tide", service={"template": template(), "labels": {"sea": "north"}}
).result(timeout=60)
assert made.name == name and made.uri.startswith("http"), made
assert made.terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED, made.terminal_condition
assert made.template.max_instance_request_concurrency == 10 and made.template.timeout.seconds == 30
try:
    services.create_service(parent=parent, service_id=f"{transport}-tide", service={"template": template()})
    raise AssertionError("made twice")
except exceptions.Conflict:
    pass

first = made.latest_ready_revision
made.template = run_v2.RevisionTemplate(template(env=[{"name": "A", "value": "1"}]))
changed = services.update_service(service=made).result(timeout=60)
assert changed.latest_ready_revision != first and changed.generation == made.generation + 1
assert [r.name for r in revisions.list_revisions(parent=name)].count(first) == 1
assert name in [s.name for s in services.list_services(parent=parent)]
revisions.delete_revision(name=first).result(timeout=60)

try:
    services.update_service(service={"name": name, "template": {"containers": [{"image": "gcr.io/no/such"}]}}).result(timeout=60)
    raise AssertionError("deployed an image that does not exist")
except exceptions.GoogleAPICallError as failure:
    assert "Image 'gcr.io/no/such' not found." in str(failure), failure

services.delete_service(name=name).result(timeout=60)
try:
    services.get_service(name=name)
    raise AssertionError("still there")
except exceptions.NotFound:
    pass
print("all as on Google")
