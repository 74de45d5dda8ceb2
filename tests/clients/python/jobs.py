"""Cloud Run's jobs through Google's own library: python jobs.py grpc|rest."""

import os
import sys

from google.api_core import exceptions
from google.cloud import run_v2

transport = sys.argv[1]
jobs = run_v2.JobsClient(transport=transport)
executions = run_v2.ExecutionsClient(transport=transport)
tasks = run_v2.TasksClient(transport=transport)
parent = f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/locations/us-central1"
name = f"{parent}/jobs/{transport}-tide"
image = "us-docker.pkg.dev/cloudrun/container/job"


def template(image=image, **more):
    return {"task_count": 2, "template": {"containers": [{"image": image}], "max_retries": 0, **more}}


made = jobs.create_job(
    parent=parent, job_id=f"{transport}-tide", job={"template": template(), "labels": {"sea": "north"}}
).result(timeout=60)
assert made.name == name and made.labels["sea"] == "north", made
assert made.terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED, made.terminal_condition
assert made.template.template.timeout.seconds == 600 and made.template.template.max_retries == 0
try:
    jobs.create_job(parent=parent, job_id=f"{transport}-tide", job={"template": template()})
    raise AssertionError("made twice")
except exceptions.Conflict:
    pass

ran = jobs.run_job(name=name).result(timeout=60)
assert ran.name.startswith(f"{name}/executions/{transport}-tide-") and ran.succeeded_count == 2, ran
assert [task.index for task in tasks.list_tasks(parent=ran.name)] == [0, 1]
assert executions.get_execution(name=ran.name).completion_time == ran.completion_time
assert jobs.get_job(name=name).latest_created_execution.name == ran.name.rsplit("/", 1)[1]

overrides = {"task_count": 1, "container_overrides": [{"env": [{"name": "FAIL_RATE", "value": "1"}]}]}
try:
    jobs.run_job(request={"name": name, "overrides": overrides}).result(timeout=60)
    raise AssertionError("succeeded")
except exceptions.GoogleAPICallError as failure:
    assert "failed with exit code: 1 and message: The container exited with an error." in str(failure), failure

made.template.template.containers[0].env = [run_v2.EnvVar(name="SLEEP_MS", value="600000")]
changed = jobs.update_job(job=made).result(timeout=60)
assert changed.generation == made.generation + 1
under_way = jobs.run_job(name=name)
cancelled = executions.cancel_execution(name=under_way.metadata.name).result(timeout=60)
completed = [c for c in cancelled.conditions if c.type_ == "Completed"][0]
assert completed.execution_reason == run_v2.Condition.ExecutionReason.CANCELLED, completed
executions.delete_execution(name=cancelled.name).result(timeout=60)
assert len(list(executions.list_executions(parent=name))) == 2

try:
    jobs.update_job(job={"name": name, "template": template("gcr.io/no/such")}).result(timeout=60)
    raise AssertionError("took an image that does not exist")
except exceptions.GoogleAPICallError as failure:
    assert "Image 'gcr.io/no/such' not found." in str(failure), failure

jobs.delete_job(name=name).result(timeout=60)
for gone in (lambda: jobs.get_job(name=name), lambda: executions.get_execution(name=ran.name)):
    try:
        gone()
        raise AssertionError("still there")
    except exceptions.NotFound:
        pass
print("all as on Google")
