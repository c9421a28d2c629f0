// What a page pays for the verifier: bundled, minified, and compressed as servers compress.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

import { expect, test } from "vitest";

import { bundle } from "./bundle.js";

const limit = 30 * 1024;

test("the verifier of receipts, blocks, proofs and changes takes less than 30 KiB", async () => {
  const used = "Eras, readBlock, readChanges, readCheckpoint, readEvidence, readGenesis, readProof, readReceipt, verifyBlock, verifyEvidence, " +
    "verifyProof, verifyReceipt";
  const code = await bundle(`import { ${used} } from "verifier";\nglobalThis.verifier = { ${used} };\n`, { verifier: "verify.ts" });
  const size = gzipSync(code, { level: 9 }).length;
  console.log(`verifier: ${code.length} bytes minified, ${size} bytes compressed`);
  expect(code).toContain("diseq/vote"); // it is in there
  expect(size).toBeLessThan(limit);
});

test("no source imports a module of Node.js", () => {
  const sources = readdirSync(new URL("../src", import.meta.url));
  expect(sources).toContain("verify.ts");
  for (const file of sources) {
    const source = readFileSync(new URL(`../src/${file}`, import.meta.url), "utf8");
    for (const [, from] of source.matchAll(/from "([^"]+)"/g)) expect(from, file).toMatch(/^(\.\/|@noble\/)/);
  }
});
