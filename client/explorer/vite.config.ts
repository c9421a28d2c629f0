import { fileURLToPath } from "node:url";

import { defineConfig } from "vite";

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

export default defineConfig({
  // The page works below any path, such as that of a proxy.
  base: "./",
  resolve: { alias: { "@diseq/client": path("../typescript/src/index.ts") } },
  // For development: the page from here, the interface from a node.
  server: { proxy: Object.fromEntries(["/v1", "/openapi.yaml"].map((path) => [path, process.env["NODE"] ?? "http://127.0.0.1:18080"])) },
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    outDir: process.env["EXPLORER_OUT"] ?? path("../../node/server/explorer/page"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    // The names stay: what is built again is compared with what is committed.
    rollupOptions: { output: { entryFileNames: "explorer/app.js", assetFileNames: "explorer/style[extname]" } },
  },
});
