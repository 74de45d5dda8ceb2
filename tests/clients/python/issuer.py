"""A local issuer of tokens shaped like GitHub Actions': python issuer.py DIRECTORY.

Once it serves, DIRECTORY/address holds where. It publishes its keys as OpenID Connect has it, and `/token` gives a
token for a job: `?ref=refs/heads/main&repository=OWNER/NAME&audience=…`. It ends when its standard input does.
"""

import base64
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt

key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
pem = key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
signer = crypt.RSASigner.from_string(pem, "k1")


def number(value):
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


public = key.public_key().public_numbers()
jwks = {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1", "n": number(public.n), "e": number(public.e)}]}


class Issuer(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urlsplit(self.path)
        if asked.path == "/.well-known/openid-configuration":
            self.answer(json.dumps({"issuer": address, "jwks_uri": f"{address}/keys"}))
        elif asked.path == "/keys":
            self.answer(json.dumps(jwks))
        elif asked.path == "/token":
            self.answer(token(dict(parse_qsl(asked.query))))
        else:
            self.send_error(404)

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def token(asked):
    now = int(time.time())
    repository, ref = asked.get("repository", "haar/app"), asked["ref"]
    claims = {
        "iss": address, "aud": asked["audience"], "sub": f"repo:{repository}:ref:{ref}", "repository": repository,
        "ref": ref, "actor": "ada", "iat": now, "nbf": now - 600, "exp": now + 300,
    }
    return jwt.encode(signer, claims).decode()


server = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
address = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
with open(os.path.join(sys.argv[1], "jwks.json"), "w") as file:
    json.dump(jwks, file)
with open(os.path.join(sys.argv[1], "address.new"), "w") as file:
    file.write(address)
os.rename(os.path.join(sys.argv[1], "address.new"), os.path.join(sys.argv[1], "address"))
sys.stdin.read()
