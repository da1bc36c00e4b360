// A SUT in Node.js that speaks gRPC-Web as pages do: connect calls a recorded server of gRPC, jose verifies the token that it was given.
//
// Reads `bases`, `service` and `key` from standard input; calls.rs has the recording. The messages have a schema here, as generated code has one.
import { strict as assert } from "node:assert";
import { readFileSync } from "node:fs";
import { createFileRegistry, fromJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-node";
import { jwtVerify } from "jose";

const plan = JSON.parse(readFileSync(0, "utf8"));
const [, scope, name] = plan.service.match(/^\/(.*)\.(\w+)$/);
const field = (name, number, type, more) => ({ name, number, label: "LABEL_OPTIONAL", type: `TYPE_${type}`, ...more });
const payload = (number) => field("payload", number, "MESSAGE", { typeName: `.${scope}.Payload` });
const method = (name, serverStreaming = false) => ({ name, inputType: `.${scope}.Asked`, outputType: `.${scope}.Answered`, serverStreaming });
const schema = {
  name: "test.proto",
  package: scope,
  syntax: "proto3",
  messageType: [
    { name: "Payload", field: [field("kind", 1, "INT32"), field("body", 2, "BYTES")] },
    { name: "Asked", field: [field("sizes", 1, "INT32", { label: "LABEL_REPEATED" }), payload(3), field("token", 4, "STRING")] },
    {
      name: "Answered",
      field: [payload(1), field("username", 2, "STRING"), field("aggregated", 3, "INT32"), field("token", 4, "STRING")],
    },
  ],
  service: [{ name, method: [method("UnaryCall"), method("StreamingOutputCall", true), method("Login"), method("Me"), method("UnimplementedCall")] }],
};
const service = createFileRegistry(fromJson(FileDescriptorSetSchema, { file: [schema] })).getService(`${scope}.${name}`);
const asked = (size, sizes = []) => ({ sizes, payload: { kind: 1, body: new Uint8Array(size).fill(0x80) } });
const failure = (promise) => promise.then(() => assert.fail("the call ended well"), ConnectError.from);

async function calls(baseUrl, httpVersion) {
  const client = createClient(service, createGrpcWebTransport({ baseUrl, httpVersion, useBinaryFormat: true, defaultTimeoutMs: 20_000 }));
  const seen = {};
  const fields = { onHeader: (fields) => (seen.header = fields), onTrailer: (fields) => (seen.trailer = fields) };
  const answer = await client.unaryCall(asked(271828, [314159]), fields);
  assert.equal(answer.payload.body.length, 314159);
  assert.equal(seen.header.get("x-grpc-test-echo-initial"), "test_initial_metadata_value");
  assert.equal(seen.trailer.get("x-grpc-test-echo-trailing-bin"), "q6ur");
  assert.equal((await client.unaryCall(asked(5 << 20, [1]))).payload.body.length, 5 << 20);

  const failed = await failure(client.unaryCall(asked(2)));
  assert.equal(failed.code, Code.Unknown);
  assert.equal(failed.metadata.get("grpc-message"), "test status message %E2%98%BA");
  assert.equal((await failure(client.unaryCall(asked(3)))).code, Code.NotFound);
  assert.equal((await failure(client.unimplementedCall({}))).code, Code.Unimplemented);

  const sizes = [31415, 9, 2653, 58979];
  const down = [];
  for await (const answer of client.streamingOutputCall(asked(0, sizes))) down.push(answer.payload.body.length);
  assert.deepEqual(down, sizes);

  const { token } = await client.login(asked(1));
  const { payload } = await jwtVerify(token, Buffer.from(plan.key), { algorithms: ["HS256"] });
  assert.equal(payload.sub, "alice");
  const headers = { authorization: `Bearer ${token}` };
  for (let again = 0; again < 2; again += 1) assert.equal((await client.me({}, { headers })).username, "alice");
  return down.length;
}

const told = {};
for (const base of plan.bases) {
  for (const version of ["1.1", "2"]) told[`${new URL(base).protocol} ${version}`] = await calls(base, version);
}
console.log(JSON.stringify(told));
process.exit();
