"""A shop in Python that has its answers from an upstream, here a mock, and refuses tokens that PyJWT does not accept.

UPSTREAM      URLs of the upstream, with commas between; asked in turn
JWKS_URL      where the issuer publishes its keys, for RS256 and its kin
HS256_KEY     instead of it: a file that holds the secret that tokens are signed with
PORT          where it listens; a free port by default"""

import itertools
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import local

import jwt
import requests

upstreams = itertools.cycle(os.environ["UPSTREAM"].split(","))
secret = open(os.environ["HS256_KEY"], "rb").read() if "HS256_KEY" in os.environ else None
keys = None if secret else jwt.PyJWKClient(os.environ["JWKS_URL"])
here = local()
NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "date", "server", "host"}


def verify(token):
    """The claims of a token, or an exception that says what is wrong with it."""
    key = secret or keys.get_signing_key_from_jwt(token).key
    algorithms = ["HS256"] if secret else ["RS256", "ES256", "EdDSA"]
    return jwt.decode(token, key, algorithms=algorithms, options={"verify_aud": False})


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        # Passwords and API keys are for the upstream to judge.
        if scheme.lower() == "bearer" and token.count(".") == 2:
            try:
                verify(token)
            except jwt.PyJWTError as why:
                return self.send(401, {"content-type": "application/json"}, json.dumps({"error": type(why).__name__}).encode())
        if not hasattr(here, "session"):
            here.session = requests.Session()
            here.session.trust_env = False
        passed = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED_ON}
        here.session.cookies.clear()
        told = here.session.request(self.command, next(upstreams) + self.path, headers=passed, data=body, allow_redirects=False)
        headers = {name: value for name, value in told.headers.items() if name.lower() not in NOT_PASSED_ON}
        self.send(told.status_code, headers, told.content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def send(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 0))), Shop)
server.daemon_threads = True
print(f"sut listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
