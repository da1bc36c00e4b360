// A long recording: the table opens at once and scrolls to any place, because only what is in sight is fetched.
//
// `COUNTERSIGN_PAIRS=1000000 node --test tests/ui/table.test.mjs` measures it; then it has to open in a second.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { binary, until, World } from "./world.mjs";

const PAIRS = Number(process.env.COUNTERSIGN_PAIRS ?? 5000);
const ENDPOINTS = 400;

function line(number) {
  const path = `/v1/endpoint${number % ENDPOINTS}/item${number}`;
  return `${JSON.stringify({
    msgType: "rrpair", resource: "demo", ts: "2024-01-01T00:00:00Z", l7protocol: "http", duration: 1, tags: {}, uuid: "", direction: "OUT", command: "GET", location: path, status: number % 50 === 0 ? "503" : "200",
    http: { req: { url: `http://demo${path}`, uri: path, version: "1.1", method: "GET", host: "demo", headers: {} }, res: { contentType: "text/plain", statusCode: number % 50 === 0 ? 503 : 200, headers: {}, bodyBase64: "b2s=" } },
  })}\n`;
}

describe("a table of many pairs", { concurrency: false }, () => {
  let world;
  let page;
  before(async () => {
    world = await World.start();
    const path = join(world.dir, "many.jsonl");
    const file = openSync(path, "w");
    for (let number = 0; number < PAIRS; ) {
      let batch = "";
      for (const end = Math.min(number + 5000, PAIRS); number < end; number += 1) batch += line(number);
      writeSync(file, batch);
    }
    closeSync(file);
    const done = spawnSync(binary("countersign"), ["snapshot", "import", path, "--id", "many", "--server", world.grpc], { encoding: "utf8" });
    assert.equal(done.status, 0, done.stderr);
    page = await world.page();
  });
  after(async () => world?.stop());

  const row = (number) => page.getByRole("link", { name: `/v1/endpoint${number % ENDPOINTS}/item${number}`, exact: true });

  it("opens", async () => {
    await page.goto(`${world.ui}/#/snapshots`);
    await page.getByRole("link", { name: "many" }).waitFor();
    const began = performance.now();
    await page.goto(`${world.ui}/#/snapshots/many/traffic`);
    await row(0).waitFor();
    const took = performance.now() - began;
    console.log(`# ${PAIRS} pairs open in ${took.toFixed(0)} ms`);
    if (process.env.COUNTERSIGN_PAIRS) assert.ok(took < 1000, `${took} ms`);
  });

  it("scrolls to any place, and holds no more rows than are in sight", async () => {
    const rows = page.getByTestId("rows");
    for (const part of [0.5, 0.999, 0.25]) {
      const began = performance.now();
      await rows.evaluate((box, part) => (box.scrollTop = part * (box.scrollHeight - box.clientHeight)), part);
      const shown = () => rows.getByRole("row").evaluateAll((all) => all.slice(1).map((one) => Number(one.getAttribute("aria-rowindex")) - 2));
      const near = Math.round(part * PAIRS);
      const numbers = await until("the rows are there", async () => {
        const numbers = await shown();
        return Math.abs((numbers[0] ?? 0) - near) < PAIRS / 100 + 40 && (await row(numbers[5]).count()) > 0 ? numbers : undefined;
      });
      console.log(`# row ${numbers[0]} in ${(performance.now() - began).toFixed(0)} ms`);
      assert.ok(numbers.length < 60, `${numbers.length} rows`);
    }
    await rows.evaluate((box) => (box.scrollTop = box.scrollHeight));
    await row(PAIRS - 1).waitFor();
    assert.deepEqual(page.odd, []);
  });

  it("filters page by page", async () => {
    await page.goto(`${world.ui}/#/snapshots/many/traffic?filter=${encodeURIComponent('(status IS "503")')}`);
    await row(0).waitFor();
    await until("many are found", async () => Number(/^([\d,]+)/.exec(await page.getByRole("status").first().textContent())?.[1].replaceAll(",", "")) >= Math.min(100, PAIRS / 50));
    await page.getByRole("searchbox", { name: "Filter" }).fill(`item${PAIRS - 1}`);
    await page.getByRole("button", { name: "Filter", exact: true }).click();
    await row(PAIRS - 1).waitFor({ timeout: 300_000 });
  });
});
