"""Calls by somebody who may make none of them: python refused.py grpc|rest. Each refusal names its permission."""

import os
import sys

from google.api_core import exceptions
from google.cloud import logging, run_v2, secretmanager

transport = sys.argv[1]
project = f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}"
parent = f"{project}/locations/us-central1"


def access():
    client = secretmanager.SecretManagerServiceClient(transport=transport)
    client.access_secret_version(name=f"{project}/secrets/tide/versions/latest")


def services():
    list(run_v2.ServicesClient(transport=transport).list_services(parent=parent))


def deploy():
    template = {"containers": [{"image": "us-docker.pkg.dev/cloudrun/container/hello"}]}
    run_v2.ServicesClient(transport=transport).create_service(parent=parent, service_id="tide", service={"template": template})


def entries():
    list(logging.Client(_use_grpc=transport == "grpc").list_entries(max_results=1))


def write():
    logging.Client(_use_grpc=transport == "grpc").logger("tide").log_text("high")


for call in [access, services, deploy, entries, write]:
    try:
        call()
        print(call.__name__, "was allowed")
    except exceptions.Forbidden as refusal:
        permission = refusal.metadata["permission"]
        assert refusal.reason == "IAM_PERMISSION_DENIED", refusal.reason
        assert permission in refusal.message, refusal.message
        print("refused:", permission)
