import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// Two scripts of fixed names, so that the built page can be embedded into the binary: the page, and the code editor, which is loaded when it is needed.
export default defineConfig({
  plugins: [svelte()],
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
