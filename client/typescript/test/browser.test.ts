// The client in a browser: the bundle verifies a receipt, and follows a stream that breaks. CHROMIUM names
// the browser.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, test } from "vitest";

import { bundle } from "./bundle.js";
import { samples, type Sample } from "./files.js";

const chromium = process.env["CHROMIUM"] ?? "";
const sample = (kind: string) => (samples.accepted.find((s) => s.kind === kind) as Sample).text as string;

const page = `
import { Client, readGenesis, readReceipt, verifyReceipt } from "client";

async function run() {
  const genesis = readGenesis(${JSON.stringify(sample("genesis"))});
  const receipt = readReceipt(${JSON.stringify(sample("receipt"))});
  verifyReceipt(receipt, genesis);
  receipt.header.timestamp++;
  let refused = "";
  try {
    verifyReceipt(receipt, genesis);
  } catch (e) {
    refused = e.step;
  }
  const heights = [];
  for await (const b of new Client(location.origin).stream({ from: 7 })) {
    heights.push(b.header.height);
    if (heights.length === 1) await fetch("/break", { method: "POST" });
    if (heights.length === 3) break;
  }
  return { refused, heights };
}
run().catch((e) => ({ failed: String(e) })).then((result) => fetch("/result", { method: "POST", body: JSON.stringify(result) }));
`;

test.skipIf(chromium === "")("a browser verifies and follows", { timeout: 600_000 }, async () => {
  const script = await bundle(page, { client: "index.ts" });
  const block = JSON.parse(sample("block"));
  const event = (height: number) => `id: ${height}\nevent: block\ndata: ${JSON.stringify({ ...block, header: { ...block.header, height } })}\n\n`;
  const asked: string[] = [];
  let breakStream = (): void => undefined;
  const stream = (url: string, response: ServerResponse) => {
    asked.push(url);
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    if (asked.length > 1) return void response.write(event(8) + event(9));
    // It breaks in the middle of block 8, once the page has read block 7: a browser drops what it has not read.
    breakStream = () => response.destroy();
    response.write(event(7) + event(8).slice(0, 100));
  };
  let tell = (_: string): void => undefined;
  const result = new Promise<string>((resolve) => (tell = resolve));
  const server = createServer((request, response) => {
    const url = request.url ?? "";
    if (url.startsWith("/v1/stream")) return void stream(url, response);
    if (url === "/break") {
      response.end();
      return void breakStream();
    }
    if (url === "/result") {
      let body = "";
      request.on("data", (part) => (body += part)).on("end", () => {
        response.end();
        tell(body);
      });
      return;
    }
    response.setHeader("Content-Type", url === "/script.js" ? "text/javascript" : "text/html; charset=utf-8");
    response.end(url === "/script.js" ? script : '<!doctype html><title>test</title><script type="module" src="/script.js"></script>');
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const profile = mkdtempSync(join(tmpdir(), "diseq-chromium-"));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const browser = spawn(chromium, ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", `--user-data-dir=${profile}`, url], { stdio: "ignore" });
  const gone = new Promise<number | null>((resolve) => browser.once("exit", resolve));
  try {
    const got = await Promise.race([result, gone.then((code) => expect.fail(`the browser ended with ${code}`))]);
    expect(JSON.parse(got)).toEqual({ refused: "certificate", heights: [7, 8, 9] });
    expect(asked).toEqual(["/v1/stream?from=7", "/v1/stream?from=8"]);
  } finally {
    browser.kill("SIGKILL");
    await gone;
    server.closeAllConnections();
    server.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
  }
});
