"""A SUT in Python: requests sends, PyJWT and authlib verify through the key set that the responder serves.

Reads a plan from standard input and writes what became of it, both JSON; plan.rs says what is in them."""

import concurrent.futures
import json
import sys
import warnings
from urllib.parse import quote

warnings.simplefilter("ignore")

import jwt
import requests
from authlib.jose import JsonWebKey, JsonWebToken
from requests.adapters import HTTPAdapter

plan = json.load(sys.stdin)
session = requests.Session()
for scheme in ["http://", "https://"]:
    session.mount(scheme, HTTPAdapter(pool_maxsize=32))
pyjwks = jwt.PyJWKClient(plan["jwks"])
keys = None


def with_pyjwt(token):
    key = pyjwks.get_signing_key_from_jwt(token)
    return jwt.decode(token, key.key, algorithms=plan["algs"], options={"verify_aud": False})


def with_authlib(token):
    global keys
    keys = keys or JsonWebKey.import_key_set(session.get(plan["jwks"]).json())
    claims = JsonWebToken(plan["algs"]).decode(token, keys)
    claims.validate()
    return claims


verifiers = {"PyJWT": with_pyjwt, "authlib": with_authlib}


def reason(why):
    """Why a library refuses a token, in words that all of them share."""
    from authlib.jose import errors

    known = [
        (jwt.ExpiredSignatureError, "expired"),
        (jwt.ImmatureSignatureError, "not yet valid"),
        (jwt.InvalidSignatureError, "bad signature"),
        (jwt.InvalidAudienceError, "wrong audience"),
        (jwt.InvalidIssuerError, "wrong issuer"),
        (jwt.InvalidAlgorithmError, "algorithm not allowed"),
        (jwt.PyJWKClientError, "no such key"),
        (jwt.DecodeError, "malformed"),
        (errors.ExpiredTokenError, "expired"),
        (errors.InvalidTokenError, "not yet valid"),
        (errors.BadSignatureError, "bad signature"),
        (errors.UnsupportedAlgorithmError, "algorithm not allowed"),
        (errors.DecodeError, "malformed"),
    ]
    if isinstance(why, errors.InvalidClaimError):
        return {"aud": "wrong audience", "iss": "wrong issuer"}.get(why.claim_name, str(why))
    for kind, word in known:
        if isinstance(why, kind):
            return word
    if isinstance(why, ValueError) and str(why) == "Key not found":
        return "no such key"
    return f"{type(why).__name__}: {why}"


def refusals():
    """How each library takes tokens that are unsound in one way each."""

    def strict_pyjwt(token):
        key = pyjwks.get_signing_key_from_jwt(token)
        jwt.decode(token, key.key, algorithms=plan["algs"], audience=plan["audience"], issuer=plan["issuer"])

    def strict_authlib(token):
        expected = {"iss": {"essential": True, "value": plan["issuer"]}, "aud": {"essential": True, "value": plan["audience"]}}
        keys = JsonWebKey.import_key_set(session.get(plan["jwks"]).json())
        JsonWebToken(plan["algs"]).decode(token, keys, claims_options=expected).validate()

    strict = {"PyJWT": strict_pyjwt, "authlib": strict_authlib}
    told = {name: {} for name in strict}
    for fault in plan["faults"]:
        token = session.get(plan["base"] + fault["path"]).json()["access_token"]
        for name, verifier in strict.items():
            try:
                verifier(token)
                told[name][fault["name"]] = "accepted"
            except Exception as why:
                told[name][fault["name"]] = reason(why)
    return told


if "faults" in plan:
    json.dump(refusals(), sys.stdout)
    sys.exit()
told = {"requests": 0, "own": 0, "verified": {name: 0 for name in verifiers}, "wrong": []}


def tokens_out(value):
    return {name: member for name, member in value.items() if name not in plan["tokens"]}


def verify(token, subject, what):
    for name, verifier in verifiers.items():
        try:
            claims = verifier(token)
            if claims["sub"] != subject:
                raise ValueError(f"sub is {claims['sub']}")
            told["verified"][name] += 1
        except Exception as why:
            told["wrong"].append(f"{what}: {name}: {type(why).__name__}: {why}")


def run(user):
    held = {}
    for step in user["steps"]:
        what = f"{step['method']} {step['path']}"
        headers = dict(step["headers"])
        if step["auth"]:
            headers["Authorization"] = "Bearer " + held["access_token"]
        body = step["body"]
        for name, value in held.items():
            body = body.replace("{" + name + "}", quote(value, safe=""))
        answer = session.request(step["method"], plan["base"] + step["path"], headers=headers, data=body.encode() or None)
        told["requests"] += 1
        try:
            got = answer.json()
        except ValueError:
            got = answer.text
        expected = step["expected"]
        if isinstance(got, dict) and isinstance(expected, dict):
            fresh = {name: got[name] for name in plan["tokens"] if name in got}
            for name, token in fresh.items():
                if token == expected.get(name):
                    told["wrong"].append(f"{what}: {name} is as recorded")
                verify(token, step["subject"], what)
            held.update(fresh)
            got, expected = tokens_out(got), tokens_out(expected)
        if (answer.status_code, got) == (step["status"], expected):
            told["own"] += 1
        else:
            told["wrong"].append(f"{what}: {answer.status_code} {got}, not {step['status']} {expected}")


with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for done in [pool.submit(run, user) for user in plan["users"]]:
        done.result()
json.dump(told, sys.stdout)
