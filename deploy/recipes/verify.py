"""Verifies tokens of a JSON document, on stdin, with a key set: python verify.py JWKS-URL MEMBER...

Prints the claims of each. Needs PyJWT: pip install 'pyjwt[crypto]'.
"""

import json
import sys

import jwt

url, *members = sys.argv[1:]
document = json.load(sys.stdin)
client = jwt.PyJWKClient(url)
for member in members:
    token = document
    for name in member.split("."):
        token = token[name]
    key = client.get_signing_key_from_jwt(token).key
    claims = jwt.decode(token, key, algorithms=["RS256", "ES256", "EdDSA"], options={"verify_aud": False})
    print(member, json.dumps(claims))
