"""Reads a secret with whatever default credentials there are, and says who that was: python external.py SECRET."""

import os
import sys

import google.auth
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud import secretmanager

credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
client = secretmanager.SecretManagerServiceClient(credentials=credentials, transport="rest")
name = f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/secrets/{sys.argv[1]}/versions/latest"
try:
    print("read:", client.access_secret_version(name=name).payload.data.decode())
except exceptions.Forbidden as refusal:
    print("denied:", refusal.message)
except auth_exceptions.GoogleAuthError as refusal:
    print("refused:", refusal)
