// The pictures of docs/explorer.md. `make explorer-pictures` runs this alone.
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { Client } from "@diseq/client";
import { test } from "vitest";

import { launch } from "./browser.js";
import { Network } from "./network.js";

const folder = process.env["PICTURES"] ?? "";

test.skipIf(folder === "")("the pictures", { timeout: 300_000 }, async () => {
  mkdirSync(folder, { recursive: true });
  const net = await Network.start(process.env["DISEQ"] ?? "");
  const browser = await launch(process.env["CHROMIUM"] ?? "");
  try {
    const page = await browser.newPage({ viewport: { width: 1120, height: 700 } });
    const open = (path: string) => page.goto(`${net.nodes[0]}/#/${path}`);
    const client = new Client(net.nodes[0] as string);
    const text = (s: string): Uint8Array => new TextEncoder().encode(s);
    await open("");
    // A minute of traffic, more and less of it, which goes on until the picture is taken.
    let [receipt, taken] = ["", false];
    const traffic = (async () => {
      for (let i = 0; !taken; i++) {
        const [result] = await client.submitWait(Array.from({ length: 1 + (i % 7) * (i % 4) }, (_, j) => text(`order ${i}.${j} of ${Date.now()}`)));
        receipt = JSON.stringify(await (await fetch(`${net.nodes[0]}/v1/messages/${result?.id}/receipt`)).json());
      }
    })();
    await new Promise((resolve) => setTimeout(resolve, 55_000));
    await page.getByText("Blocks become final").first().waitFor();
    await page.screenshot({ path: join(folder, "explorer-live.png"), clip: { x: 0, y: 0, width: 1120, height: 562 } });
    taken = true;
    await traffic;
    await open("network");
    await page.locator('[data-link="linked"]').first().waitFor();
    await page.locator(".votes .yes").first().waitFor();
    await page.screenshot({ path: join(folder, "explorer-network.png") });
    await open("check");
    await page.getByLabel(/^Choose a genesis document/).setInputFiles(net.genesis);
    const forged = JSON.parse(receipt) as { header: { timestamp: number } };
    forged.header.timestamp += 3_600_000;
    await page.getByLabel(/^Choose a receipt/).setInputFiles({ name: "forged.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(forged)) });
    const verdict = page.getByRole("region", { name: "3. The result" });
    await verdict.locator(".failed").waitFor();
    await verdict.screenshot({ path: join(folder, "explorer-check.png") });
  } finally {
    await browser.close();
    await net.stop();
  }
});
