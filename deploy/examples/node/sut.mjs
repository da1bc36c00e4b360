// A shop in Node.js that has its answers from an upstream, here a mock, and refuses tokens that jose does not accept.
//
// UPSTREAM  URLs of the upstream, with commas between; asked in turn
// JWKS_URL  where the issuer publishes its keys
// PORT      where it listens; a free port by default
import { createServer } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { Agent, request } from "undici";

const upstreams = process.env.UPSTREAM.split(",");
const keys = createRemoteJWKSet(new URL(process.env.JWKS_URL));
const dispatcher = new Agent({ connections: 32 });
const notPassedOn = new Set(["connection", "keep-alive", "transfer-encoding", "content-length", "date", "host"]);
const passedOn = (headers) => Object.fromEntries(Object.entries(headers).filter(([name]) => !notPassedOn.has(name.toLowerCase())));
let turn = 0;

async function answer(incoming, outgoing) {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const [scheme, token = ""] = (incoming.headers.authorization ?? "").split(" ");
  if (scheme.toLowerCase() === "bearer") {
    try {
      await jwtVerify(token, keys, { issuer: "https://shop.example", audience: "shop" });
    } catch (why) {
      outgoing.writeHead(401, { "content-type": "application/json" });
      return outgoing.end(JSON.stringify({ error: why.code ?? "ERR" }));
    }
  }
  const told = await request(upstreams[turn++ % upstreams.length] + incoming.url, {
    dispatcher,
    method: incoming.method,
    headers: passedOn(incoming.headers),
    body: chunks.length ? Buffer.concat(chunks) : undefined,
  });
  outgoing.writeHead(told.statusCode, passedOn(told.headers));
  outgoing.end(Buffer.from(await told.body.arrayBuffer()));
}

const server = createServer((incoming, outgoing) => {
  answer(incoming, outgoing).catch((why) => {
    outgoing.writeHead(502, { "content-type": "application/json" });
    outgoing.end(JSON.stringify({ error: String(why) }));
  });
});
server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => {
  console.log(`sut listening on http://127.0.0.1:${server.address().port}`);
});
