// A SUT in Node.js that speaks gRPC: @grpc/grpc-js calls a recorded server, jose verifies the token that it was given.
//
// Reads `address`, `service` and `key` from standard input; calls.rs has the recording. Messages are put together by hand, for neither side has a schema.
import { strict as assert } from "node:assert";
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import { jwtVerify } from "jose";

const plan = JSON.parse(readFileSync(0, "utf8"));
const bytes = (value) => Buffer.from(value);
const client = new grpc.Client(plan.address, grpc.credentials.createInsecure(), {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
});
const options = () => ({ deadline: Date.now() + 20_000 });
const path = (method) => `${plan.service}/${method}`;

function varint(value) {
  const out = [];
  for (; value > 127; value >>>= 7) out.push((value & 127) | 128);
  return bytes([...out, value]);
}
const field = (number, value) => Buffer.concat([varint((number << 3) | 2), varint(value.length), value]);
function asked(size, sizes = []) {
  const body = size ? field(2, Buffer.alloc(size, 0x80)) : bytes([]);
  const packed = sizes.length ? field(1, Buffer.concat(sizes.map(varint))) : bytes([]);
  return Buffer.concat([field(3, Buffer.concat([body, bytes([8, 1])])), packed]);
}
// The text of a field; fields that are not of length are not looked for.
function text(message, number) {
  for (let at = 0; at < message.length; ) {
    const read = () => {
      let [value, shift] = [0, 0];
      for (;;) {
        const byte = message[at++];
        value |= (byte & 127) << shift;
        if (byte < 128) return value;
        shift += 7;
      }
    };
    const tag = read();
    const length = read();
    if ((tag & 7) !== 2) continue;
    if (tag >> 3 === number) return message.subarray(at, at + length).toString();
    at += length;
  }
}

function unary(method, message, metadata = new grpc.Metadata()) {
  return new Promise((resolve, reject) => {
    const told = {};
    const call = client.makeUnaryRequest(path(method), bytes, bytes, message, metadata, options(), (error, answer) =>
      error ? reject(error) : setImmediate(() => resolve({ ...told, answer })),
    );
    call.on("metadata", (metadata) => (told.metadata = metadata));
    call.on("status", (status) => (told.status = status));
  });
}
const code = (promise) => promise.then(() => grpc.status.OK, (error) => error);

const { answer, metadata, status } = await unary("UnaryCall", asked(271828, [314159]));
assert(answer.length > 314159);
assert.deepEqual(metadata.get("x-grpc-test-echo-initial"), ["test_initial_metadata_value"]);
assert.deepEqual(status.metadata.get("x-grpc-test-echo-trailing-bin"), [bytes([0xab, 0xab, 0xab])]);
assert((await unary("UnaryCall", asked(5 << 20, [1]))).answer.length > 5 << 20);

const failed = await code(unary("UnaryCall", asked(2)));
assert.deepEqual([failed.code, failed.details], [grpc.status.UNKNOWN, "test status message \u263a"]);
assert.equal((await code(unary("UnaryCall", asked(3)))).code, grpc.status.NOT_FOUND);
assert.equal((await code(unary("UnimplementedCall", bytes([])))).code, grpc.status.UNIMPLEMENTED);

const sizes = [31415, 9, 2653, 58979];
const down = [];
for await (const answer of client.makeServerStreamRequest(path("StreamingOutputCall"), bytes, bytes, asked(0, sizes), new grpc.Metadata(), options())) {
  down.push(answer.length);
}
assert(down.length === 4 && down.every((got, nth) => got > sizes[nth]), `${down}`);

await new Promise((resolve, reject) => {
  const up = client.makeClientStreamRequest(path("StreamingInputCall"), bytes, bytes, new grpc.Metadata(), options(), (error, answer) =>
    error ? reject(error) : resolve(answer),
  );
  for (const size of [27182, 8, 1828, 45904]) up.write(asked(size));
  up.end();
});

// Each message waits for the answer to the one before.
const talk = client.makeBidiStreamRequest(path("FullDuplexCall"), bytes, bytes, new grpc.Metadata(), options());
const said = [27182, 8, 1828, 45904];
let turn = 0;
talk.write(asked(said[0], [sizes[0]]));
for await (const answer of talk) {
  assert(answer.length > sizes[turn]);
  turn += 1;
  if (turn < said.length) talk.write(asked(said[turn], [sizes[turn]]));
  else talk.end();
}
assert.equal(turn, 4);

const token = text((await unary("Login", asked(1))).answer, 4);
const { payload } = await jwtVerify(token, bytes(plan.key), { algorithms: ["HS256"] });
assert.equal(payload.sub, "alice");
const bearer = new grpc.Metadata();
bearer.set("authorization", `Bearer ${token}`);
for (let again = 0; again < 2; again += 1) assert.equal(text((await unary("Me", bytes([]), bearer)).answer, 2), "alice");
client.close();
console.log(JSON.stringify({ fine: true }));
