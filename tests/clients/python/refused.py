"""The same call by somebody who may not make it: python refused.py grpc|rest."""

import os
import sys

from google.api_core import exceptions
from google.cloud import secretmanager

client = secretmanager.SecretManagerServiceClient(transport=sys.argv[1])
try:
    client.access_secret_version(name=f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/secrets/tide/versions/latest")
except exceptions.Forbidden as refusal:
    assert "secretmanager.versions.access" in refusal.message, refusal.message
    assert refusal.reason == "IAM_PERMISSION_DENIED", refusal.reason
    assert refusal.metadata["permission"] == "secretmanager.versions.access", refusal.metadata
    print("refused:", refusal.metadata["permission"])
