// Real binaries, and Chromium in front of the page that they serve.
//
// Whatever a page must not do is noticed on every page: violations of its policy, errors, dialogs, and requests to anywhere else.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const root = resolve(fileURLToPath(import.meta.url), "../../..");
const require = createRequire(join(root, "control-plane/ui/package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const binaries = process.env.COUNTERSIGN_BINARIES ?? join(root, "target/debug");
/** The path of a binary of ours. */
export const binary = (name) => join(binaries, name);
/** Screenshots are kept here, if anywhere. */
export const shots = process.env.COUNTERSIGN_SHOTS;

/** Starts a binary and reads the addresses that it prints. */
function start(name, args, listeners) {
  const child = spawn(binary(name), args, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const found = new Promise((done, failed) => {
    const hear = (bytes) => {
      said += bytes;
      const at = Object.fromEntries(Array.from(said.matchAll(/(\w+) +listening on (?:https?:\/\/)?(\S+)/g), ([, listener, address]) => [listener, address]));
      if (listeners.every((listener) => listener in at)) done(at);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("exit", (code) => failed(new Error(`${name} ended with ${code}: ${said}`)));
  });
  return { child, found, said: () => said };
}

/** An empty control plane, a responder with the secret `jwt-demo`, and a browser. */
export class World {
  static async start() {
    const world = new World();
    world.dir = mkdtempSync(join(tmpdir(), "countersign-ui-"));
    const secrets = join(world.dir, "secrets/jwt-demo");
    mkdirSync(secrets, { recursive: true });
    const key = spawnSync("openssl", ["genrsa", "-out", join(secrets, "tls.key"), "2048"]);
    assert.equal(key.status, 0, "openssl makes a key");
    world.plane = start("countersign-control-plane", ["--listen", "127.0.0.1:0", "--ui-listen", "127.0.0.1:0", "--data-dir", join(world.dir, "data")], ["grpc", "ui"]);
    const plane = await world.plane.found;
    world.ui = `http://${plane.ui}`;
    world.grpc = `http://${plane.grpc}`;
    world.responder = start(
      "countersign-responder",
      ["--name", "walk", "--control-plane", world.grpc, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--secret-dir", join(world.dir, "secrets"), "--cache-dir", join(world.dir, "cache")],
      ["data"],
    );
    world.data = (await world.responder.found).data;
    world.browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    });
    return world;
  }

  /** A page that notices what it must not do. */
  async page(options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "light", ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.odd = [];
    page.on("console", (message) => {
      if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) page.odd.push(message.text());
    });
    page.on("pageerror", (error) => page.odd.push(String(error)));
    page.confirms = [];
    page.on("dialog", (dialog) => {
      if (dialog.type() !== "confirm" || page.confirms.length === 0) page.odd.push(`dialog: ${dialog.message()}`);
      page.confirms.shift();
      void dialog.accept();
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(this.ui) && !request.url().startsWith("blob:")) page.odd.push(`request to ${request.url()}`);
    });
    // For work on the page: its files as they were built last, without building the binary again.
    if (process.env.COUNTERSIGN_DIST) {
      for (const file of ["app.js", "editor.js", "app.css", "icon.svg"]) {
        await page.route(`${this.ui}/${file}`, (route) => route.fulfill({ path: join(process.env.COUNTERSIGN_DIST, file) }));
      }
      const index = readFileSync(join(process.env.COUNTERSIGN_DIST, "index.html"), "utf8");
      await page.route(`${this.ui}/`, async (route) => route.fulfill({ response: await route.fetch(), body: index }));
    }
    return page;
  }

  /** Asks the mock. */
  async ask(path, init = {}) {
    return fetch(`http://${this.data}${path}`, init);
  }

  async stop() {
    await this.browser?.close();
    for (const process of [this.responder, this.plane]) {
      process?.child.removeAllListeners("exit");
      process?.child.kill("SIGKILL");
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Fails on findings of axe that are serious or worse. */
export async function accessible(page, where) {
  // The page's own policy stays as it is: the script comes in by the debugger.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).slice(0, 3).join("\n  ")}`);
  assert.deepEqual(told, [], `${where} is accessible`);
}

/** Looks at a screen in both colours. */
export async function look(page, name) {
  await page.waitForLoadState("networkidle").catch(() => undefined);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await accessible(page, `${name}, ${colorScheme}`);
    if (shots) await page.screenshot({ path: join(shots, `${name}-${colorScheme}.png`) });
  }
  await page.emulateMedia({ colorScheme: "light" });
}

/** Polls until something holds. */
export async function until(what, holds) {
  const end = Date.now() + 30_000;
  for (;;) {
    const found = await holds();
    if (found) return found;
    assert.ok(Date.now() < end, `${what} in time`);
    await new Promise((done) => setTimeout(done, 100));
  }
}
