"""Secret Manager through Google's own library: python secrets.py grpc|rest."""

import os
import sys

from google.api_core import exceptions
from google.cloud import secretmanager
from google_crc32c import value as crc32c


def refused(error, call, saying=""):
    try:
        call()
    except error as refusal:
        assert saying in str(refusal), f"{saying!r} is not in {refusal}"
        return refusal
    raise AssertionError(f"it was not refused with {error.__name__}")


transport = sys.argv[1]
client = secretmanager.SecretManagerServiceClient(transport=transport)
project = f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}"
name = f"{project}/secrets/{transport}-tide"

made = client.create_secret(
    parent=project,
    secret_id=f"{transport}-tide",
    secret={"replication": {"automatic": {}}, "labels": {"sea": "north"}, "annotations": {"by": "moon"}},
)
assert made.name.endswith(f"/secrets/{transport}-tide") and made.etag and made.create_time
refused(exceptions.Conflict, lambda: client.create_secret(
    parent=project, secret_id=f"{transport}-tide", secret={"replication": {"automatic": {}}}))
refused(exceptions.BadRequest, lambda: client.create_secret(
    parent=project, secret_id="no good", secret={"replication": {"automatic": {}}}))

payload = bytes(range(256))
first = client.add_secret_version(parent=name, payload={"data": payload, "data_crc32c": crc32c(payload)})
assert first.name.endswith("/versions/1") and first.state == secretmanager.SecretVersion.State.ENABLED
refused(exceptions.BadRequest,
        lambda: client.add_secret_version(parent=name, payload={"data": payload, "data_crc32c": 1}))
refused(exceptions.BadRequest, lambda: client.add_secret_version(parent=name, payload={"data": b"x" * 65537}))
client.add_secret_version(parent=name, payload={"data": b"x" * 65536})

read = client.access_secret_version(name=f"{name}/versions/1")
assert read.payload.data == payload and read.payload.data_crc32c == crc32c(payload)
assert client.access_secret_version(name=f"{name}/versions/latest").name.endswith("/versions/2")

updated = client.update_secret(
    secret={"name": name, "labels": {"sea": "south"}, "version_aliases": {"old": 1}, "etag": made.etag},
    update_mask={"paths": ["labels", "version_aliases"]},
)
assert updated.labels == {"sea": "south"} and updated.annotations == {"by": "moon"}
assert client.access_secret_version(name=f"{name}/versions/old").payload.data == payload
refused(exceptions.BadRequest, lambda: client.update_secret(
    secret={"name": name, "labels": {}, "etag": made.etag}, update_mask={"paths": ["labels"]}))

assert [v.name.rsplit("/", 1)[1] for v in client.list_secret_versions(parent=name)] == ["2", "1"]
for number in range(3):
    client.create_secret(parent=project, secret_id=f"{transport}-{number}", secret={"replication": {"automatic": {}}})
paged = client.list_secrets(request={"parent": project, "page_size": 2, "filter": f"name:{transport}-"})
assert len(list(paged)) == 4

client.disable_secret_version(name=f"{name}/versions/1")
refused(exceptions.BadRequest, lambda: client.access_secret_version(name=f"{name}/versions/1"), "DISABLED")
client.enable_secret_version(name=f"{name}/versions/1")
client.destroy_secret_version(name=f"{name}/versions/1")
refused(exceptions.BadRequest, lambda: client.enable_secret_version(name=f"{name}/versions/1"))
refused(exceptions.BadRequest, lambda: client.access_secret_version(name=f"{name}/versions/1"), "DESTROYED")

policy = client.get_iam_policy(request={"resource": name})
policy.bindings.add(role="roles/secretmanager.secretAccessor", members=["allAuthenticatedUsers"])
stored = client.set_iam_policy(request={"resource": name, "policy": policy})
assert stored.bindings[0].role == "roles/secretmanager.secretAccessor"
refused(exceptions.Conflict, lambda: client.set_iam_policy(request={"resource": name, "policy": policy}))
held = client.test_iam_permissions(request={"resource": name, "permissions": ["secretmanager.versions.access"]})
assert list(held.permissions) == ["secretmanager.versions.access"]

client.delete_secret(name=name)
refused(exceptions.NotFound, lambda: client.get_secret(name=name), "not found")
print("all as on Google")
