// A SUT in Node.js: undici sends, jose verifies through the key set that the responder serves.
//
// Reads a plan from standard input and writes what became of it, both JSON; plan.rs says what is in them.
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { createLocalJWKSet, createRemoteJWKSet, customFetch, jwtVerify } from "jose";
import { Agent, request } from "undici";

const plan = JSON.parse(readFileSync(0, "utf8"));
const dispatcher = new Agent({ connections: 16, allowH2: plan.base.startsWith("https") });
const fetchKeys = async (url) => {
  const answer = await request(url, { dispatcher });
  return new Response(await answer.body.text(), { status: answer.statusCode });
};
const remote = createRemoteJWKSet(new URL(plan.jwks), { [customFetch]: fetchKeys });
let local;
const keySet = async () => (local ??= createLocalJWKSet(await (await fetchKeys(plan.jwks)).json()));
const verifiers = {
  "jose, remote key set": (token) => jwtVerify(token, remote, { algorithms: plan.algs }),
  "jose, kept key set": async (token) => jwtVerify(token, await keySet(), { algorithms: plan.algs }),
};
const told = { requests: 0, own: 0, verified: {}, wrong: [] };
for (const name of Object.keys(verifiers)) told.verified[name] = 0;

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const withoutTokens = (value) => Object.fromEntries(Object.entries(value).filter(([name]) => !plan.tokens.includes(name)));

async function verify(token, subject, what) {
  for (const [name, verifier] of Object.entries(verifiers)) {
    try {
      const { payload } = await verifier(token);
      if (payload.sub !== subject) throw new Error(`sub is ${payload.sub}`);
      told.verified[name] += 1;
    } catch (why) {
      told.wrong.push(`${what}: ${name}: ${why.code ?? why.name}: ${why.message}`);
    }
  }
}

async function run(user) {
  const held = {};
  for (const step of user.steps) {
    const what = `${step.method} ${step.path}`;
    const headers = { ...step.headers };
    if (step.auth) headers.authorization = `Bearer ${held.access_token}`;
    let body = step.body;
    for (const [name, value] of Object.entries(held)) body = body.replaceAll(`{${name}}`, encodeURIComponent(value));
    const answer = await request(plan.base + step.path, { method: step.method, headers, body: body || undefined, dispatcher });
    told.requests += 1;
    const text = await answer.body.text();
    let got = text;
    try {
      got = JSON.parse(text);
    } catch {}
    let expected = step.expected;
    if (isObject(got) && isObject(expected)) {
      for (const name of plan.tokens.filter((name) => name in got)) {
        if (got[name] === expected[name]) told.wrong.push(`${what}: ${name} is as recorded`);
        held[name] = got[name];
        await verify(got[name], step.subject, what);
      }
      [got, expected] = [withoutTokens(got), withoutTokens(expected)];
    }
    if (answer.statusCode === step.status && isDeepStrictEqual(got, expected)) told.own += 1;
    else told.wrong.push(`${what}: ${answer.statusCode} ${JSON.stringify(got)}, not ${step.status} ${JSON.stringify(expected)}`);
  }
}

// Why jose refuses a token, in words that all libraries share.
function reason(why) {
  if (why.code === "ERR_JWT_CLAIM_VALIDATION_FAILED") {
    return { nbf: "not yet valid", aud: "wrong audience", iss: "wrong issuer" }[why.claim] ?? why.message;
  }
  const words = {
    ERR_JWT_EXPIRED: "expired",
    ERR_JWS_SIGNATURE_VERIFICATION_FAILED: "bad signature",
    ERR_JWKS_NO_MATCHING_KEY: "no such key",
    ERR_JOSE_ALG_NOT_ALLOWED: "algorithm not allowed",
    ERR_JWS_INVALID: "malformed",
  };
  return words[why.code] ?? `${why.code ?? why.name}: ${why.message}`;
}

// How jose takes tokens that are unsound in one way each.
async function refusals() {
  const strict = { algorithms: plan.algs, audience: plan.audience, issuer: plan.issuer };
  const told = {};
  for (const fault of plan.faults) {
    const answer = await request(plan.base + fault.path, { dispatcher });
    const { access_token: token } = await answer.body.json();
    told[fault.name] = await jwtVerify(token, remote, strict).then(() => "accepted", reason);
  }
  return { jose: told };
}

if (plan.faults) {
  console.log(JSON.stringify(await refusals()));
} else {
  await Promise.all(plan.users.map(run));
  console.log(JSON.stringify(told));
}
await dispatcher.close();
