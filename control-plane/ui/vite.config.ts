import { svelte } from "@sveltejs/vite-plugin-svelte";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** Writes the licences of all packages that went into the page, as these ask for. */
function licences(): Plugin {
  return {
    name: "licences",
    generateBundle(_options, bundle) {
      const found = new Map<string, string>();
      for (const chunk of Object.values(bundle)) {
        for (const id of chunk.type === "chunk" ? Object.keys(chunk.modules) : []) {
          const [, home] = /^\0?(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id) ?? [];
          if (home === undefined || found.has(home) || !existsSync(join(home, "package.json"))) continue;
          const { name, version, license } = JSON.parse(readFileSync(join(home, "package.json"), "utf8")) as Record<string, string>;
          const file = readdirSync(home).find((one) => /^licen[cs]e/i.test(one));
          found.set(home, `${name} ${version}, ${license}\n\n${file ? readFileSync(join(home, file), "utf8").trim() : ""}\n`);
        }
      }
      const source = [...found.values()].sort().join(`\n${"-".repeat(80)}\n\n`);
      this.emitFile({ type: "asset", fileName: "licences.txt", source });
    },
  };
}

// Two scripts of fixed names, so that the built page can be embedded into the binary: the page, and the code editor, which is loaded when it is needed.
export default defineConfig({
  plugins: [svelte(), licences()],
  base: "/",
  build: {
    target: "es2022",
    cssCodeSplit: false,
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    rollupOptions: {
      output: {
        entryFileNames: "app.js",
        chunkFileNames: "editor.js",
        assetFileNames: (asset) => (asset.names.some((name) => name.endsWith(".css")) ? "app.css" : "[name][extname]"),
      },
    },
  },
  server: { proxy: { "^/countersign\\.": "http://127.0.0.1:4181" } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
