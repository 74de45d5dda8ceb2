"""Short-lived credentials of a service account, each checked as whoever receives it does: python signed.py ACCOUNT."""

import base64
import json
import sys
import time

import google.auth
from google.auth import exceptions, impersonated_credentials, jwt
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import id_token

account = sys.argv[1]
source, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
session = AuthorizedSession(source)
target = impersonated_credentials.Credentials(source, account, ["https://www.googleapis.com/auth/cloud-platform"])

certificates = session.get(f"https://www.googleapis.com/robot/v1/metadata/x509/{account}").json()
signature = target.sign_bytes(b"tide")
certificates = session.get(f"https://www.googleapis.com/robot/v1/metadata/x509/{account}").json()
from google.auth import crypt
assert any(crypt.RSAVerifier.from_string(pem).verify(b"tide", signature) for pem in certificates.values())
jwks = session.get(f"https://www.googleapis.com/service_accounts/v1/jwk/{account}").json()
assert {key["kid"] for key in jwks["keys"]} == set(certificates)

url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}"
now = int(time.time())
claims = {"iss": account, "sub": account, "aud": "https://secretmanager.googleapis.com/", "iat": now, "exp": now + 3600}
signed = session.post(f"{url}:signJwt", json={"payload": json.dumps(claims)}).json()
assert jwt.decode(signed["signedJwt"], certs=certificates, audience=claims["aud"])["sub"] == account
late = session.post(f"{url}:signJwt", json={"payload": json.dumps({**claims, "exp": now + 13 * 3600})})
assert late.status_code == 400, late.text

tokens = impersonated_credentials.IDTokenCredentials(target, target_audience="https://a.example", include_email=True)
tokens.refresh(Request())
claims = id_token.verify_oauth2_token(tokens.token, Request(), "https://a.example")
assert claims["email"] == account and claims["email_verified"]
bare = session.post(f"{url}:generateIdToken", json={"audience": "https://a.example"}).json()["token"]
assert "email" not in json.loads(base64.urlsafe_b64decode(bare.split(".")[1] + "=="))

scope = ["https://www.googleapis.com/auth/cloud-platform"]
long = session.post(f"{url}:generateAccessToken", json={"scope": scope, "lifetime": "7200s"})
assert long.status_code == 400 and "allowServiceAccountCredentialLifetimeExtension" in long.text, long.text
print("all as on Google")
