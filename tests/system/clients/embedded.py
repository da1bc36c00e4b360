"""A SUT that embeds the mock: grpcio and the messages that reflection describes, no generated code.

Reads a plan from standard input and writes what became of it, both JSON; plan.rs says what is in them."""

import json
import sys
from urllib.parse import quote

import grpc
import jwt
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

plan = json.load(sys.stdin)
channel = grpc.insecure_channel(plan["api"])
reflected = ProtoReflectionDescriptorDatabase(channel)
pool = descriptor_pool.DescriptorPool(reflected)
PACKAGE = "countersign.responder.v1."


def message(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(PACKAGE + name))


def call(service, method, kind="unary_unary"):
    described = pool.FindServiceByName(PACKAGE + service).FindMethodByName(method)
    asked, told = (message_factory.GetMessageClass(end) for end in (described.input_type, described.output_type))
    path = f"/{PACKAGE}{service}/{method}"
    return asked, getattr(channel, kind)(path, request_serializer=asked.SerializeToString, response_deserializer=told.FromString)


told = {"requests": 0, "own": 0, "verified": {"PyJWT": 0}, "wrong": []}


def expect(what, got, expected):
    if got != expected:
        told["wrong"].append(f"{what}: {got}, not {expected}")


expect("services", sorted(reflected.get_services()), [PACKAGE + "AdminService", PACKAGE + "ResponderService", "grpc.health.v1.Health"])
health = health_pb2_grpc.HealthStub(channel)
ready = health.Check(health_pb2.HealthCheckRequest(service=PACKAGE + "ResponderService"))
expect("health", ready.status, health_pb2.HealthCheckResponse.SERVING)

Ask, respond = call("ResponderService", "Respond")
_, respond_stream = call("ResponderService", "RespondStream", "stream_stream")
AskMatch, match = call("ResponderService", "Match")
AskReset, reset = call("AdminService", "Reset")
AskSequences, list_sequences = call("AdminService", "ListSequences")


def fields(headers):
    return [{"name": name, "value": value.encode()} for name, value in headers.items()]


def request(step, held):
    headers = dict(step["headers"])
    if step["auth"]:
        headers["Authorization"] = "Bearer " + held["access_token"]
    body = step["body"]
    for name, value in held.items():
        body = body.replace("{" + name + "}", quote(value, safe=""))
    path, _, query = step["path"].partition("?")
    return {"method": step["method"], "path": path, "query": query, "headers": fields(headers), "body": body.encode()}


answered = respond(Ask(request={"method": "GET", "path": plan["jwks_path"]}))
keys = jwt.PyJWKSet.from_json(answered.answer.body.decode())
steps = []
for user in plan["users"]:
    held = {}
    for step in user["steps"]:
        what = f"{step['method']} {step['path']}"
        asked = request(step, held)
        explained = match(AskMatch(request=asked)).explanation
        answer = respond(Ask(request_id=what, request=asked))
        expect(what, answer.request_id, what)
        told["requests"] += 1
        if answer.WhichOneof("outcome") != "answer":
            told["wrong"].append(f"{what}: {answer}")
            continue
        if not explained.candidates or explained.candidates[explained.chosen].status != answer.answer.status:
            told["wrong"].append(f"{what}: the explanation is of something else: {explained}")
        body = answer.answer.body.decode()
        try:
            got = json.loads(body)
        except ValueError:
            got = body
        expected = step["expected"]
        if isinstance(got, dict) and isinstance(expected, dict):
            for name in [name for name in plan["tokens"] if name in got]:
                held[name] = got[name]
                key = keys[jwt.get_unverified_header(got[name])["kid"]]
                claims = jwt.decode(got[name], key.key, algorithms=plan["algs"], options={"verify_aud": False})
                expect(what, claims["sub"], step["subject"])
                told["verified"]["PyJWT"] += 1
                del got[name]
            expected = {name: value for name, value in expected.items() if name not in plan["tokens"]}
        if (answer.answer.status, got) == (step["status"], expected):
            told["own"] += 1
        else:
            told["wrong"].append(f"{what}: {answer.answer.status} {got}, not {step['status']} {expected}")
        steps.append(asked)

moved = list_sequences(AskSequences(moved_only=True, page_size=1000)).sequences
if not any(list.taken for list in moved):
    told["wrong"].append("no sequence has moved")
reset(AskReset())
expect("moved after the reset", len(list_sequences(AskSequences(moved_only=True)).sequences), 0)

# All again on one stream: in order, with the tokens of before.
asks = (Ask(request_id=str(nth), request=asked) for nth, asked in enumerate(steps))
for nth, answer in enumerate(respond_stream(asks)):
    expect("stream", (answer.request_id, answer.WhichOneof("outcome")), (str(nth), "answer"))

miss = respond(Ask(request={"method": "GET", "path": "/nowhere/at/all"}))
expect("miss", miss.miss.code, "no_recorded_response")
for wrong, code in [
    ({"request": {"method": "GET", "path": "no path"}}, grpc.StatusCode.INVALID_ARGUMENT),
    ({"request": {"method": "GET", "path": "/"}, "replay": "unknown"}, grpc.StatusCode.NOT_FOUND),
]:
    try:
        respond(Ask(**wrong))
        told["wrong"].append(f"{wrong} is answered")
    except grpc.RpcError as error:
        expect("code", error.code(), code)
        details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
        if b"countersign.dev" not in details:
            told["wrong"].append(f"{wrong}: no details")
json.dump(told, sys.stdout)
