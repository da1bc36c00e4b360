// From an empty store to a signed token, by clicking; then what goes wrong: misses, conflicts, mistakes, and hostile recordings.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { look, root, until, World } from "./world.mjs";

const SECRET = "/home/speedscale/secret/jwt-demo/tls.key";

describe("the walk", { concurrency: false }, () => {
  let world;
  let page;
  before(async () => {
    world = await World.start();
    page = await world.page();
  });
  after(async () => world?.stop());

  const go = (hash) => page.goto(`${world.ui}/${hash}`);
  const button = (name) => page.getByRole("button", { name, exact: true });
  const link = (name) => page.getByRole("link", { name, exact: true });
  const editor = () => page.locator(".cm-content");
  /** The text of the editor. Lines out of sight are not drawn, so it is asked itself. */
  const document = () => editor().evaluate((content) => (content.cmTile ?? content.cmView).view.state.doc.toString());
  async function write(value) {
    await editor().click();
    await page.keyboard.press("Control+A");
    await page.keyboard.insertText(value);
  }

  it("shows what to do with an empty store", async () => {
    await go("");
    await page.getByRole("heading", { name: "Drop a recording here" }).waitFor();
    await look(page, "snapshots-empty");
    for (const [hash, title, shot] of [["#/transforms", "No transforms yet", "transforms-empty"], ["#/replays", "Nothing is served yet", "replays-empty"]]) {
      await go(hash);
      await page.getByRole("heading", { name: title }).waitFor();
      await look(page, shot);
    }
  });

  it("imports the example with its folders", async () => {
    await go("#/snapshots");
    await page.getByTestId("folder").setInputFiles(join(root, "deploy/example/recording"));
    await page.getByLabel("Name").fill("example");
    await look(page, "import");
    await button("Import 6 files").click();
    await page.getByText("6 pairs").waitFor();
    await button("Open the snapshot").click();
    await page.getByRole("heading", { name: "example", level: 1 }).waitFor();
    await page.getByRole("heading", { name: "Endpoints" }).waitFor();
    await look(page, "snapshot");
  });

  it("lists, filters and shows pairs with their tokens", async () => {
    await link("Traffic").click();
    await page.getByText("6 pairs in recorded order").waitFor();
    await page.getByRole("link", { name: "/oauth/token" }).first().waitFor();
    await look(page, "traffic");
    await page.getByRole("searchbox", { name: "Filter" }).fill('(location IS "/oauth/token")');
    await button("Filter").click();
    await page.getByText("2 of 6 pairs").waitFor();
    await page.getByRole("link", { name: "/oauth/token" }).first().click();
    await page.getByRole("heading", { name: /^Pair \d$/ }).waitFor();
    await look(page, "pair");
    await page.getByRole("link", { name: /^Tokens/ }).click();
    await page.getByText("Issued here.").first().waitFor();
    assert.match(await page.locator("main").innerText(), /"sub": "alice"|"sub": "bob"/);
    assert.match(await page.locator("main").innerText(), /Expired \d+ years? ago; when it was recorded it was good for 1 hour/);
    await look(page, "pair-tokens");
    await page.getByRole("link", { name: "Signature" }).click();
    await page.getByText("http:url", { exact: true }).waitFor();
    await go("#/snapshots/example/traffic?filter=%28nonsense");
    await page.getByText("The filter cannot be used").waitFor();
    await go("#/snapshots/example/tokens");
    await page.getByText("2 tokens in").waitFor();
    await look(page, "tokens");
  });

  it("adds JWT Resign, whose JSON is that of the example", async () => {
    await go("#/snapshots/example");
    await link("Edit transform").click();
    await page.getByRole("heading", { name: "No chains yet" }).waitFor();
    await look(page, "editor-empty");
    await page.getByRole("link", { name: /^Responder/ }).click();
    await button("Add JWT Resign").click();
    await page.getByText("body access_token").waitFor();
    await page.getByLabel("Secret path").fill(SECRET);
    await look(page, "resign");
    await button("Add chain").last().click();
    await page.getByText("runs on this pair").waitFor();
    await page.getByRole("button", { name: /^Steps/ }).click();
    await page.getByText("jwt_resign").first().waitFor();
    await look(page, "editor");
    await page.getByRole("link", { name: /^Advanced/ }).click();
    await editor().waitFor();
    const expected = JSON.parse(readFileSync(join(root, "deploy/example/transform.json"), "utf8"));
    assert.deepEqual(JSON.parse(await document()), { ...expected, id: "example" });
    await look(page, "editor-advanced");
    await button("Save").click();
    await page.getByText("Saved").waitFor();
  });

  it("points at the line of a mistake while it is typed", async () => {
    const sound = await document();
    const lines = sound.split("\n");
    const at = lines.findIndex((line) => line.includes("secretPath"));
    await write(sound.replace(SECRET, "/etc/passwd"));
    const gutter = page.locator(".cm-lint-marker-error");
    await gutter.first().waitFor();
    const marked = async () => gutter.first().evaluate((marker) => {
      const { top, height } = marker.getBoundingClientRect();
      const middle = top + height / 2;
      const numbers = Array.from(marker.getRootNode().querySelectorAll(".cm-lineNumbers .cm-gutterElement"));
      const beside = ({ top, bottom }) => top <= middle && middle < bottom;
      return Number(numbers.find((one) => beside(one.getBoundingClientRect()))?.textContent);
    });
    assert.equal(await marked(), at + 1);
    await page.getByText("this path names no secret", { exact: false }).first().waitFor();
    await look(page, "editor-mistake");
    await write(sound.replace('"responder": [', '"responder": [,'));
    await page.getByText("the template is no JSON", { exact: false }).first().waitFor();
    assert.equal(await marked(), lines.findIndex((line) => line.includes('"responder"')) + 1);
    await write(sound);
    await page.getByText("valid", { exact: true }).waitFor();
  });

  it("does not lose what somebody else has saved meanwhile", async () => {
    const other = await world.page();
    await other.goto(`${world.ui}/#/snapshots/example/transform/responder`);
    await other.getByRole("button", { name: "Add chain" }).click();
    await other.getByRole("button", { name: "Save", exact: true }).click();
    await other.getByText("Saved").waitFor();
    assert.deepEqual(other.odd, []);
    await other.context().close();
    await page.getByRole("link", { name: /^Responder/ }).click();
    const chain = page.getByRole("button", { name: "Chain 1", exact: true });
    if ((await chain.getAttribute("aria-expanded")) === "false") await chain.click();
    await page.getByRole("textbox", { name: "path", exact: true }).first().fill("token");
    await button("Save").click();
    await page.getByText("Somebody else has saved this meanwhile").waitFor();
    await look(page, "conflict");
    await button("Take theirs").click();
    await page.getByRole("region", { name: "Chain 2" }).waitFor();
    await button("Remove chain 2").click();
    await button("Save").click();
    await page.getByText("Saved").waitFor();
  });

  it("suggests chains, and saves a template under another name", async () => {
    await button("Suggest chains").click();
    await page.getByText(/2 tokens are re-signed/).waitFor();
    await look(page, "suggest");
    await button("Cancel").click();
    await button("Save as template").click();
    await page.getByRole("dialog").getByLabel("Name").fill("jwt-demo");
    await page.getByRole("dialog").getByRole("button", { name: "Save", exact: true }).click();
    await page.getByRole("heading", { name: "jwt-demo", level: 1 }).waitFor();
    await go("#/transforms");
    await link("jwt-demo").waitFor();
    await look(page, "transforms");
  });

  it("clones standard, which is protected, and adds the secret by name", async () => {
    await go("#/test-configs/standard");
    await page.getByText("protected", { exact: true }).waitFor();
    await button("Clone").click();
    await page.getByLabel("Name of the copy").fill("mine");
    await page.getByRole("dialog").getByRole("button", { name: "Clone", exact: true }).click();
    await page.getByRole("heading", { name: "mine", level: 1 }).waitFor();
    await look(page, "test-config-traffic");
    await link("Cluster").click();
    await page.getByLabel("Name of a secret").fill("jwt-demo");
    await button("Add secret").click();
    await page.getByText("jwt-demo", { exact: true }).waitFor();
    await look(page, "test-config-cluster");
    await button("Save").click();
    await page.getByText("Saved").waitFor();
    await link("Advanced").click();
    await editor().waitFor();
    const config = JSON.parse(await document());
    assert.deepEqual([config.id, config.cluster.secrets], ["mine", ["jwt-demo"]]);
    await write((await document()).replace('"numReplicas": 1', '"timing": "sometimes"'));
    await page.locator(".cm-lint-marker-error").first().waitFor();
    await look(page, "test-config-mistake");
    await go("#/test-configs/standard/advanced");
    page.confirms.push("leave");
  });

  it("starts a replay, and shows the hit and the token", async () => {
    page.confirms.length = 0;
    await page.context().close();
    page = await world.page();
    await go("#/replays/new?snapshot=example");
    await page.getByLabel("Test config").selectOption("mine");
    await page.getByLabel("Transform").selectOption("example");
    await look(page, "replay-new");
    await button("Start replay").click();
    await page.getByText("ready", { exact: true }).waitFor();
    await page.getByRole("cell", { name: "jwt-demo/tls.key", exact: true }).waitFor();
    await page.getByText("RSA 2048").waitFor();
    await page.getByText("nothing has been asked yet", { exact: false }).waitFor().catch(() => undefined);
    await look(page, "replay-ready");
    const answer = await world.ask("/oauth/token", {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: "client_id=shop-web&grant_type=password&username=alice&password=looking-glass",
    });
    assert.equal(answer.status, 200);
    const { access_token: token } = await answer.json();
    const claims = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
    assert.ok(claims.exp * 1000 > Date.now(), "the token is current");
    await until("the hit is shown", async () => (await page.getByTestId("hits").textContent({ timeout: 1000 }).catch(() => "")) === "1");
    assert.equal(await page.getByTestId("signed").textContent(), "1");
  });

  it("shows a miss, and makes it match", async () => {
    const miss = () => world.ask("/api/me?trace=1");
    await miss();
    assert.equal((await miss()).status, 404);
    await button("Make this match").first().waitFor();
    await look(page, "replay");
    await button("Make this match").first().click();
    await page.getByText("the replay was started again", { exact: false }).waitFor();
    await until("the request is answered", async () => (await miss()).status === 200);
    await page.getByRole("button", { name: "Roll back" }).click();
    await until("it is a miss again", async () => (await miss()).status === 404);
    await go("#/replays");
    await link("example").first().waitFor();
    await look(page, "replays");
  });

  it("shows the fleet", async () => {
    await go("#/fleet");
    await page.getByText("1 of 1 connected").waitFor();
    await page.getByText("SQLite, in the data directory").waitFor();
    await look(page, "fleet");
  });

  it("leaves what was recorded inert", async () => {
    const evil = `<script>alert(1)</script><img src="http://evil.test/x" onerror="alert(2)">{{7*7}}\u202egnp.exe`;
    const url = `/x/%3Cscript%3Ealert(3)%3C/script%3E`;
    const pair = {
      msgType: "rrpair", resource: evil, ts: "2024-01-01T00:00:00Z", l7protocol: "http", duration: 1, tags: { [evil]: evil }, uuid: "", direction: "OUT",
      command: "GET", location: url, status: "200", service: evil, namespace: "javascript:alert(4)",
      http: {
        req: { url: `http://demo${url}`, uri: url, version: "1.1", method: "GET", host: "demo", headers: { "X-Evil": [evil] } },
        res: { contentType: "text/html", statusCode: 200, statusMessage: "200 OK", headers: { Location: ["javascript:alert(5)"], "Content-Type": ["text/html"] }, bodyBase64: Buffer.from(evil).toString("base64") },
      },
    };
    const file = join(world.dir, "evil.jsonl");
    writeFileSync(file, `${JSON.stringify(pair)}\n`);
    await go("#/snapshots");
    await page.getByTestId("files").setInputFiles(file);
    await button("Import 1 file").click();
    await button("Open the snapshot").click();
    await page.getByRole("heading", { name: "Endpoints" }).waitFor();
    await link("Traffic").click();
    await page.getByRole("link", { name: /script/ }).first().click();
    await page.getByText("alert(1)", { exact: false }).first().waitFor();
    assert.equal(await page.locator("main img, main script, main iframe").count(), 0);
    assert.equal(await page.locator('a[href^="javascript:"]').count(), 0);
    assert.ok((await page.locator("main").innerText()).includes("{{7*7}}"));
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save" }).last().click();
    assert.equal((await download).suggestedFilename(), "response-0.bin");
  });

  it("deletes what it was asked to, and nothing without being asked", async () => {
    await go("#/snapshots/evil");
    page.confirms.push("delete");
    await button("Delete").click();
    await page.getByRole("heading", { name: "Snapshots", level: 1 }).waitFor();
    await until("it is gone from the list", async () => (await link("evil").count()) === 0);
  });

  it("needed neither dialogs, nor errors, nor anybody else", () => {
    assert.deepEqual(page.odd, []);
  });
});
