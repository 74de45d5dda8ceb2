"""Reads secrets from Secret Manager, with whatever credentials the process runs under.

On Cloud Run these are the service account's, from the metadata server; on a laptop those of
`gcloud auth application-default login`. No key file is involved in either case.
"""

import google.auth
from google.cloud import secretmanager


def read(name: str, version: str = "latest") -> str:
    """The payload of a version of a secret of this project."""
    _, project = google.auth.default()
    client = secretmanager.SecretManagerServiceClient()
    path = client.secret_version_path(project, name, version)
    return client.access_secret_version(name=path).payload.data.decode()
