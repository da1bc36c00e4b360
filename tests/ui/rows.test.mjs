// What is promised of recorded text and of other pages, in a browser, a test for each: the names are those of tests/system/rows.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createServer } from "node:http";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { binary, until, World } from "./world.mjs";

/** Text that does something wherever it is taken for more than text. */
const HOSTILE = [
  `<img src=x onerror="document.title='hit'">`,
  `</script><script>document.title='hit'</script>`,
  `<svg onload="document.title='hit'"><a href="javascript:document.title='hit'">x</a></svg>`,
  `<iframe srcdoc="<script>parent.document.title='hit'</script>"></iframe>`,
  `javascript:document.title='hit'`,
  `{{7*7}}\${7*7}<%= 7*7 %>`,
  `\u202egnp.exe\u2066`,
  `"><style>*{display:none}</style>`,
];

function pair(number, text) {
  const path = `/${number}/${encodeURIComponent(text)}`;
  return {
    msgType: "rrpair", resource: text, ts: "2024-01-01T00:00:00Z", l7protocol: "http", duration: 1, tags: { [text]: text }, uuid: "", direction: "OUT",
    command: "GET", location: path, status: "200", service: text, namespace: text, cluster: text, session: text,
    http: {
      req: { url: path, uri: path, version: "1.1", method: "GET", host: "demo", headers: { "X-Hostile": [text] } },
      res: { contentType: "text/html", statusCode: 200, statusMessage: `200 ${text}`, headers: { Location: [text], "Content-Type": ["text/html"] }, bodyBase64: Buffer.from(`<title>${text}</title>`).toString("base64") },
    },
  };
}

describe("rows", { concurrency: false }, () => {
  let world;
  let page;
  before(async () => {
    world = await World.start();
    const file = join(world.dir, "hostile.jsonl");
    writeFileSync(file, HOSTILE.map((text, number) => JSON.stringify(pair(number, text))).join("\n"));
    const done = spawnSync(binary("countersign"), ["snapshot", "import", file, "--id", "hostile", "--server", world.grpc], { encoding: "utf8" });
    assert.equal(done.status, 0, done.stderr);
    page = await world.page();
    // Whatever the policy stops would have been done without it.
    await page.addInitScript(() => {
      window.stopped = [];
      document.addEventListener("securitypolicyviolation", (event) => window.stopped.push(`${event.violatedDirective} ${event.blockedURI}`));
    });
  });
  after(async () => world?.stop());

  const go = (hash) => page.goto(`${world.ui}/${hash}`);

  it("u01_recorded_text_is_inert_wherever_it_is_shown", async () => {
    const seen = async (where) => {
      assert.notEqual(await page.title(), "hit", where);
      assert.equal(await page.locator("main img, main iframe, main script, main object, main style").count(), 0, where);
      assert.equal(await page.locator('a[href^="javascript:" i], [onerror], [onload]').count(), 0, where);
      assert.deepEqual(await page.evaluate(() => window.stopped), [], where);
    };
    await go("#/snapshots/hostile");
    await page.getByRole("heading", { name: "Endpoints" }).waitFor();
    await seen("the snapshot");
    await go("#/snapshots/hostile/traffic");
    await page.getByText(`${HOSTILE.length} pairs in recorded order`).waitFor();
    await seen("its traffic");
    for (const [number, text] of HOSTILE.entries()) {
      for (const view of ["", "?view=signature", "?view=tokens", "?view=served"]) {
        await go(`#/snapshots/hostile/pairs/${number}${view}`);
        await page.getByRole("heading", { name: /^Pair \d$/ }).waitFor();
        await seen(`pair ${number}${view}`);
      }
      await go(`#/snapshots/hostile/pairs/${number}`);
      await page.getByText(text, { exact: false }).first().waitFor();
    }
    // A filter of the address bar is recorded text, too, when somebody sends a link.
    await go(`#/snapshots/hostile/traffic?filter=${encodeURIComponent(HOSTILE[0])}`);
    await page.getByText("The filter cannot be used").waitFor();
    await seen("a filter");
    assert.deepEqual(page.odd, []);
  });

  it("u02_a_recorded_page_is_saved_as_bytes_that_nothing_opens", async () => {
    await go("#/snapshots/hostile/pairs/0");
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save" }).last().click();
    const saved = await download;
    assert.match(saved.suggestedFilename(), /^response-\d+\.bin$/);
    assert.ok(saved.url().startsWith("blob:"), saved.url());
    assert.equal(readFileSync(await saved.path(), "utf8"), `<title>${HOSTILE[0]}</title>`);
    assert.notEqual(await page.title(), "hit");
    // It was no navigation: the page is still there.
    assert.ok(page.url().startsWith(world.ui));
  });

  it("k14_no_page_shows_anything_of_a_key", async () => {
    const inline = "an inline canary that nobody is shown again";
    const run = (...words) => spawnSync(binary("countersign"), [...words, "--server", world.grpc], { encoding: "utf8" });
    const steps = (config) => [{ type: "json_path", config: { path: "access_token" } }, { type: "jwt_resign", config }];
    const chain = (config) => ({ filters: { filters: [{ include: true }] }, extractor: { type: "res_body" }, transforms: steps(config) });
    const file = join(world.dir, "keys.json");
    writeFileSync(file, JSON.stringify({ id: "keys", responder: [chain({ secretPath: "${{secret:jwt-demo/tls.key}}" }), chain({ key: inline })] }));
    for (const words of [["transform", "put", file], ["replay", "start", "hostile", "--transform", "keys", "--wait"]]) {
      const done = run(...words);
      assert.equal(done.status, 0, done.stderr);
    }
    const pem = readFileSync(join(world.dir, "secrets/jwt-demo/tls.key"), "utf8").split("\n");
    const canaries = [inline, pem[5], Buffer.from(inline).toString("base64")];
    // What the page was sent counts as well as what it shows.
    const sent = [];
    page.on("response", (answer) => void answer.body().then((bytes) => sent.push(bytes), () => undefined));
    for (const [hash, heading] of [["#/transforms", "Transforms"], ["#/replays", "Replays"], ["#/fleet", "Fleet"]]) {
      await go(hash);
      await page.getByRole("heading", { name: heading, level: 1 }).waitFor();
      const shown = await page.locator("body").innerText();
      assert.ok(canaries.every((canary) => !shown.includes(canary)), hash);
    }
    await go("#/snapshots/hostile/transform/advanced?transform=keys");
    await page.locator("main").waitFor();
    await go("#/transforms");
    await page.getByRole("link", { name: "keys", exact: true }).click();
    await page.waitForLoadState("networkidle");
    const told = Buffer.concat(sent).toString("latin1");
    assert.ok(told.includes("jwt-demo"), "the page was told of the secret");
    assert.ok(canaries.every((canary) => !told.includes(canary)), "and of nothing in it");
    assert.equal(run("replay", "delete", "hostile").status, 0);
  });

  it("u03_another_page_can_neither_call_nor_read_nor_frame_the_ui", async () => {
    const other = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<body>another page"));
    await new Promise((done) => other.listen(0, "127.0.0.1", done));
    try {
      const context = await world.browser.newContext();
      const foreign = await context.newPage();
      await foreign.goto(`http://127.0.0.1:${other.address().port}/`);
      const url = `${world.ui}/countersign.control.v1.SnapshotService/DeleteSnapshot`;
      const name = "projects/default/snapshots/hostile";
      const body = [0, 0, 0, 0, name.length + 2, 10, name.length, ...Buffer.from(name)];
      const tried = await foreign.evaluate(async ({ url, body, ui }) => {
        const bytes = new Uint8Array(body);
        const outcome = (call) => call.then(async (answer) => `${answer.type} ${answer.status}`, () => "refused");
        const form = document.createElement("form");
        Object.assign(form, { method: "post", action: url, enctype: "text/plain", target: "frame" });
        const frame = Object.assign(document.createElement("iframe"), { name: "frame" });
        document.body.append(frame, form);
        form.submit();
        const framed = Object.assign(document.createElement("iframe"), { src: ui });
        const loaded = new Promise((done) => (framed.onload = done));
        document.body.append(framed);
        await loaded;
        let inside = "";
        try {
          inside = framed.contentDocument?.body.innerText ?? "";
        } catch {
          inside = "";
        }
        return {
          simple: await outcome(fetch(url, { method: "POST", mode: "no-cors", body: bytes })),
          plain: await outcome(fetch(url, { method: "POST", mode: "no-cors", headers: { "content-type": "text/plain" }, body: bytes })),
          grpc: await outcome(fetch(url, { method: "POST", headers: { "content-type": "application/grpc-web+proto" }, body: bytes })),
          read: await outcome(fetch(ui)),
          inside,
        };
      }, { url, body, ui: world.ui });
      // The answers are kept from it by what they say of their use; that they were 403 is seen in tests/system/rows/console.rs.
      assert.deepEqual(tried, { simple: "refused", plain: "refused", grpc: "refused", read: "refused", inside: "" });
      await context.close();
    } finally {
      other.close();
    }
    const shown = spawnSync(binary("countersign"), ["snapshot", "show", "hostile", "--server", world.grpc], { encoding: "utf8" });
    assert.equal(shown.status, 0, shown.stderr);
    // The page itself may: the same call from it deletes the snapshot.
    await go("#/snapshots/hostile");
    page.confirms.push("delete");
    await page.getByRole("button", { name: "Delete", exact: true }).click();
    await until("it is gone", () => spawnSync(binary("countersign"), ["snapshot", "show", "hostile", "--server", world.grpc]).status === 3);
    assert.deepEqual(page.odd, []);
  });
});
