// What a page pays for the verifier: bundled, minified, and compressed as servers compress.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "vite";
import { expect, test } from "vitest";

const limit = 30 * 1024;

const entry = "../src/verify.ts";

test("the verifier of receipts, blocks, proofs and changes takes less than 30 KiB", async () => {
  const source = fileURLToPath(new URL(entry, import.meta.url));
  const used = "import { Eras, readBlock, readChanges, readCheckpoint, readEvidence, readGenesis, readProof, readReceipt, verifyBlock, " +
    `verifyEvidence, verifyProof, verifyReceipt } from ${JSON.stringify(source)};\n` +
    "globalThis.verifier = { Eras, readBlock, readChanges, readCheckpoint, readEvidence, readGenesis, readProof, readReceipt, verifyBlock, " +
    "verifyEvidence, verifyProof, verifyReceipt };\n";
  const out = await build({
    configFile: false,
    logLevel: "error",
    plugins: [{ name: "entry", resolveId: (id) => (id === "virtual:entry" ? `\0${id}` : null), load: (id) => (id === "\0virtual:entry" ? used : null) }],
    resolve: { extensions: [".ts", ".js"] },
    build: { write: false, minify: "esbuild", target: "es2022", rollupOptions: { input: "virtual:entry", treeshake: true } },
  });
  const [bundle] = Array.isArray(out) ? out : [out];
  if (bundle === undefined || !("output" in bundle)) throw new Error("no bundle");
  const code = bundle.output.map((o) => (o.type === "chunk" ? o.code : "")).join("");
  const size = gzipSync(code, { level: 9 }).length;
  console.log(`verifier: ${code.length} bytes minified, ${size} bytes compressed`);
  expect(code).toContain("diseq/vote"); // it is in there
  expect(size).toBeLessThan(limit);
});

test("no source names a module of Node.js", () => {
  for (const file of ["verify.ts", "client.ts", "follow.ts", "index.ts", "beacon.ts"]) {
    const source = readFileSync(new URL(`../src/${file}`, import.meta.url), "utf8");
    expect(source, file).not.toMatch(/from "(node:|buffer|crypto|fs)/);
  }
});
