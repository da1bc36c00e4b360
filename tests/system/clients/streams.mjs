// A SUT in Node.js that listens to streams: ws speaks on a WebSocket, undici reads events, jose verifies the tokens in both.
//
// Reads `base`, `key`, the length of the `burst` and paths to `try` from standard input, and writes what it heard; streams.rs has the recording.
import { strict as assert } from "node:assert";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { jwtVerify } from "jose";
import { request } from "undici";
import WebSocket from "ws";

const plan = JSON.parse(readFileSync(0, "utf8"));
const subject = async (token) => (await jwtVerify(token, Buffer.from(plan.key), { algorithms: ["HS256"] })).payload.sub;

// Something that does not come is waited for no longer.
setTimeout(() => process.exit(1), 60_000).unref();

// What came, and in which kind of message.
const heard = [];
const socket = new WebSocket(`${plan.base.replace(/^http/, "ws")}/ws`, ["other", "chat"]);
let wanted = () => {};
socket.on("message", (bytes, binary) => {
  heard.push(binary ? { binary: bytes.toString("hex") } : bytes.toString());
  wanted();
});
const count = (all) =>
  new Promise((resolve) => {
    wanted = () => heard.length >= all && resolve();
    wanted();
  });
// One follows the other at once.
const [[upgrade]] = await Promise.all([once(socket, "upgrade"), once(socket, "open")]);
assert.equal(socket.protocol, "chat");
assert.equal(upgrade.headers["x-kept"], "yes");
await count(1);
socket.send("login");
await count(2);
const { access_token: token } = JSON.parse(heard[1]);
heard[1] = { subject: await subject(token) };
socket.send(JSON.stringify({ token }));
await count(3);
socket.send(Buffer.from([0xff, 0x00]));
await count(5);
socket.send("never said");
socket.send("burst");
await count(5 + plan.burst);
const pong = once(socket, "pong");
socket.ping("still there");
assert.equal((await pong)[0].toString(), "still there");
socket.close(4001, "enough");
const [code, reason] = await once(socket, "close");

// What a handshake comes to.
const outcome = (path) =>
  new Promise((resolve) => {
    const socket = new WebSocket(`${plan.base.replace(/^http/, "ws")}${path}`);
    let marker = "untouched";
    socket.on("unexpected-response", (_, answer) => resolve(answer.statusCode));
    socket.on("error", (why) => resolve(why.code ?? why.message));
    socket.on("upgrade", (answer) => (marker = answer.headers["x-speedscale-chaos"]));
    socket.on("open", () => {
      socket.close();
      resolve(marker);
    });
  });
const tried = {};
for (const path of plan.try) tried[path] = await outcome(path);

// Events as a client takes them apart: by empty lines, of fields.
const events = [];
const answer = await request(`${plan.base}/events`, { headers: { accept: "text/event-stream" } });
let text = "";
for await (const chunk of answer.body.setEncoding("utf8")) text += chunk;
for (const one of text.split("\n\n").filter(Boolean)) {
  const event = Object.fromEntries(one.split("\n").map((line) => [line.split(": ")[0], line.split(": ").slice(1).join(": ")]));
  if (event.event === "token") event.data = `token of ${await subject(event.data)}`;
  events.push(event);
}
console.log(JSON.stringify({ heard, closed: [code, reason.toString()], kind: answer.headers["content-type"], events, tried }));
process.exit();
