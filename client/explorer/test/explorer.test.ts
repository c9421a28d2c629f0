// The page as nodes serve it, in a browser, on a network of four validators. DISEQ names the program, CHROMIUM
// the browser. PICTURES is a folder for a picture of each page, if it is set.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { Client, messageId } from "@diseq/client";
import type { Browser, BrowserContext, Download, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { accessible, launch } from "./browser.js";
import { Network } from "./network.js";

const diseq = process.env["DISEQ"] ?? "";
const program = process.env["CHROMIUM"] ?? "";
const pictures = process.env["PICTURES"] ?? "";
// Machines may be slow: nothing fails for that.
const patience = 60_000;

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const file = (name: string, content: string | Uint8Array) => ({ name, mimeType: "application/json", buffer: Buffer.from(content) });

describe.skipIf(diseq === "" || program === "")("the explorer", () => {
  let net: Network;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let client: Client;
  // Requests to others than the node, and errors of the page. There must be none.
  const foreign: string[] = [];
  const errors: string[] = [];

  const open = async (path: string, at: Page = page): Promise<void> => {
    // Another hash alone would not load the page again.
    await at.goto("about:blank");
    await at.goto(`${net.nodes[0]}/#/${path}`);
    await at.locator("h1").waitFor();
  };
  const downloaded = async (click: () => Promise<void>): Promise<Buffer> => {
    const [download]: [Download, void] = await Promise.all([page.waitForEvent("download"), click()]);
    return readFileSync(await download.path());
  };
  const panel = (title: string, at: Page = page) => at.getByRole("region", { name: title, exact: true });

  beforeAll(async () => {
    net = await Network.start(diseq);
    client = new Client(net.nodes);
    browser = await launch(program);
    context = await browser.newContext({ acceptDownloads: true });
    context.setDefaultTimeout(patience);
    context.on("request", (r) => /^(http:\/\/127\.0\.0\.1|blob:|about:|data:)/.test(r.url()) || foreign.push(r.url()));
    context.on("weberror", (e) => errors.push(String(e.error())));
    context.on("console", (m) => /Content Security Policy|TrustedHTML|Uncaught/.test(m.text()) && errors.push(m.text()));
    page = await context.newPage();
  });

  afterAll(async () => {
    await browser?.close();
    await net?.stop();
  });

  test("Live shows blocks as they come, and an idle chain as idle", async () => {
    await open("");
    await page.getByText("Idle", { exact: true }).first().waitFor();
    const tile = (name: string) => page.locator(".tile", { has: page.getByText(name, { exact: true }) }).locator(".value");
    const before = Number(await tile("Height").innerText());
    const [result] = await client.submitWait([bytes("the first message")]);
    const height = result?.receipt.height as number;
    const row = panel("Last blocks").getByRole("link", { name: String(height), exact: true });
    await row.waitFor();
    await expect.poll(async () => Number(await tile("Height").innerText()), { timeout: patience }).toBeGreaterThan(before);
    await expect.poll(() => tile("Finality").innerText(), { timeout: patience }).toMatch(/^[\d.]+ m?s$/);
    await row.click();
    await page.getByRole("heading", { name: `Block ${height}` }).waitFor();
  });

  test("a message is submitted, becomes final, and its receipt is kept", async () => {
    await open("submit");
    const text = '{"order": 1, "amount": 12345678901234567890}';
    await page.getByLabel("Text", { exact: true }).fill(text);
    await page.getByRole("button", { name: /^Submit/ }).click();
    await panel("Receipt").getByText("It verifies").waitFor();
    const receipt = await downloaded(() => page.getByRole("button", { name: "Save the receipt" }).click());
    expect(JSON.parse(receipt.toString()).message.id).toBe(messageId(bytes(text)));

    await page.getByRole("link", { name: messageId(bytes(text)) }).click();
    const data = panel("Data");
    await data.getByText('"amount": 12345678901234567890').waitFor(); // exact, and indented
    await data.getByRole("button", { name: "Hex" }).click();
    await data.getByText("7b 22 6f 72 64 65 72 22").waitFor();
    expect((await downloaded(() => data.getByRole("button", { name: "Save the bytes" }).click())).toString()).toBe(text);
  });

  test("a block that the node changed does not verify", async () => {
    const [result] = await client.submitWait([bytes("a message to be changed")]);
    const height = result?.receipt.height as number;
    await open(`block/${height}`);
    await panel("Check").getByText("It verifies").waitFor();
    const altered = await context.newPage();
    await altered.route(`**/v1/blocks/${height}`, async (route) => {
      const block = await (await route.fetch()).json();
      block.messages[0].data = Buffer.from("another message").toString("base64");
      block.messages[0].id = messageId(bytes("another message"));
      await route.fulfill({ json: block });
    });
    await open(`block/${height}`, altered);
    await panel("Check", altered).getByText("Refused").waitFor();
    expect(await altered.locator(".steps .failed").getAttribute("data-step")).toBe("inclusion");
    expect(await altered.locator(".steps .held").count()).toBe(4);
    await altered.close();
  });

  test("a receipt is checked against the reader's genesis document, step by step", async () => {
    const [result] = await client.submitWait([bytes("a message with a receipt")]);
    const receipt = await (await fetch(`${net.nodes[1]}/v1/messages/${result?.id}/receipt`)).text();
    await open("check");
    await page.getByText("So far it is the genesis document that this node shows").waitFor();
    await page.getByLabel(/^Choose a genesis document/).setInputFiles(net.genesis);
    await page.getByText("It is your genesis document genesis.json").waitFor();
    const choose = page.getByLabel(/^Choose a receipt/);
    await choose.setInputFiles(file("receipt.json", receipt));
    const verdict = panel("3. The result");
    await verdict.getByText("It verifies").waitFor();
    expect(await verdict.locator(".steps .held").count()).toBe(7);

    type Receipt = { message: { data: string; id: string }; header: { timestamp: number; messages_root: string }; certificate: { votes: { signature: string }[] }; chain_id: string; inclusion: { path: string[] } };
    const forge = async (name: string, alter: (r: Receipt) => void, step: string, held: string[]): Promise<void> => {
      const forged = JSON.parse(receipt) as Receipt;
      alter(forged);
      await choose.setInputFiles(file(`${name}.json`, JSON.stringify(forged)));
      await verdict.getByText(`${name}.json`).waitFor();
      await verdict.getByText("Refused").waitFor();
      expect(await verdict.locator(".steps .failed").evaluateAll((all) => all.map((l) => (l as HTMLElement).dataset["step"])), name).toEqual([step]);
      expect(await verdict.locator(".steps .held").evaluateAll((all) => all.map((l) => (l as HTMLElement).dataset["step"])), name).toEqual(held);
    };
    await forge("data", (r) => (r.message.data = Buffer.from("a forged message").toString("base64")), "message", ["document", "chain"]);
    await forge("other-message", (r) => {
      r.message.data = Buffer.from("a forged message").toString("base64");
      r.message.id = messageId(bytes("a forged message"));
    }, "inclusion", ["document", "chain", "message"]);
    await forge("time", (r) => r.header.timestamp++, "certificate", ["document", "chain", "message", "inclusion", "changes", "header"]);
    await forge("votes", (r) => r.certificate.votes.reverse(), "certificate", ["document", "chain", "message", "inclusion", "changes", "header"]);
    await forge("form", (r) => Object.assign(r, { surplus: 1 }), "document", []);
    await choose.setInputFiles(file("receipt.json", receipt));
    await verdict.getByText("It verifies").waitFor();
    await page.getByLabel(/^At least so many votes/).fill("5");
    await verdict.getByText("Refused").waitFor();
    expect(await verdict.locator(".steps .failed").getAttribute("data-step")).toBe("strength");
    await page.getByLabel(/^At least so many votes/).fill("0");
    await verdict.getByText("It verifies").waitFor();

    const other = readFileSync(net.genesis, "utf8").replace(/"chain_id": *"[^"]*"/, '"chain_id":"another-chain"');
    await page.getByLabel(/^Choose a genesis document/).setInputFiles(file("other.json", other));
    await verdict.getByText("Refused").waitFor();
    expect(await verdict.locator(".steps .failed").getAttribute("data-step")).toBe("chain");
    await page.getByLabel(/^Choose a genesis document/).setInputFiles(file("receipt.json", receipt));
    await page.getByText("This is neither a genesis document nor a checkpoint").waitFor();
  });

  test("absence is proven and checked", async () => {
    await open("search");
    await page.getByLabel("The text, with every blank").fill("never submitted");
    await page.getByRole("link", { name: "Find the message" }).click();
    await page.getByText("This node has never seen a message with this id").waitFor();
    await page.getByRole("button", { name: "Ask for a proof" }).click();
    await panel("Proof of absence").getByText("It verifies").waitFor();
    const proof = await downloaded(() => page.getByRole("button", { name: "Save the proof" }).click());
    await open("check");
    await page.getByLabel(/^Choose a receipt/).setInputFiles(file("absence.json", proof));
    await panel("3. The result").getByText(/^The message is absent from the state/).first().waitFor();
    const forged = JSON.parse(proof.toString());
    forged.included = true;
    await page.getByLabel(/^Choose a receipt/).setInputFiles(file("forged.json", JSON.stringify(forged)));
    await panel("3. The result").getByText("Refused").waitFor();
    expect(await page.locator(".steps .failed").getAttribute("data-step")).toBe("trie");
  });

  test("search leads to heights, ids and content, by the keyboard alone", async () => {
    await open("");
    const find = async (query: string): Promise<void> => {
      await page.keyboard.press("/");
      await page.keyboard.press("Control+a");
      await page.keyboard.type(query);
      await page.keyboard.press("Enter");
    };
    await find("1");
    await page.getByRole("heading", { name: "Block 1" }).waitFor();
    expect(await page.evaluate("document.activeElement.textContent")).toBe("Block 1");
    await find(messageId(bytes("the first message")));
    await panel("Data").getByText("the first message").waitFor();
    await page.evaluate("location.hash = '#/'");
    await page.getByRole("heading", { name: "Live" }).waitFor();
    await find("the first message");
    await panel("Data").getByText("the first message").waitFor();
    await open("search");
    await page.getByLabel("Or choose the file").setInputFiles(file("message.txt", "the first message"));
    await page.getByRole("link", { name: "Find the message" }).click();
    await panel("Data").getByText("the first message").waitFor();
    await open("block/999999");
    await page.getByText("There is no such block yet").waitFor();
  });

  test("a node that asks for a token gets it, and keeps none", async () => {
    const guarded = await context.newPage();
    await guarded.route("**/v1/**", async (route) => {
      if (route.request().headers()["authorization"] === "Bearer sesame") return route.continue();
      return route.fulfill({ status: 401, headers: { "WWW-Authenticate": "Bearer" }, json: { error: { code: "unauthenticated", message: "no credential" } } });
    });
    await open("", guarded);
    await guarded.getByText("This node asks who you are").first().waitFor();
    await guarded.getByLabel("Token").fill("sesame");
    await guarded.getByRole("button", { name: "Use it" }).click();
    await panel("Last blocks", guarded).getByRole("link").first().waitFor();
    expect(await guarded.getByLabel("Token").count()).toBe(0);
    expect(await guarded.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")).toBe('[{},{},""]');
    await guarded.reload();
    await guarded.getByText("This node asks who you are").first().waitFor();
    await guarded.close();
  });

  test("each page is accessible, in light and dark and on a phone", async () => {
    const id = messageId(bytes("the first message"));
    const { height } = await client.message(id);
    const pages: [string, string, string][] = [
      ["live", "", "Last blocks"], ["network", "network", "Validators"], ["block", `block/${height}`, "Check"], ["message", `message/${id}`, "Receipt"],
      ["search", "search", "By content"], ["check", "check", "1. What you trust"], ["submit", "submit", "The message"],
    ];
    for (const [name, size, scheme] of [["light", [1280, 900], "light"], ["dark", [1280, 900], "dark"], ["phone", [390, 844], "light"]] as const) {
      const look = await context.newPage();
      await look.setViewportSize({ width: size[0], height: size[1] });
      await look.emulateMedia({ colorScheme: scheme });
      for (const [title, path, part] of pages) {
        await open(path, look);
        await panel(part, look).waitFor();
        if (["block", "message"].includes(title)) await look.getByText("It verifies").waitFor();
        if (title === "live") await panel(part, look).getByRole("link").first().waitFor();
        if (title === "network") await look.locator(".votes .yes").first().waitFor();
        if (title === "check") await look.getByLabel(/^Choose a receipt/).setInputFiles(file("forged.json", '{"inclusion": {}}'));
        if (name !== "phone") await accessible(look, `${title}, ${name}`);
        const wide = await look.evaluate("document.documentElement.scrollWidth - innerWidth");
        expect(wide, `${title}, ${name}: wider than the screen`).toBeLessThanOrEqual(0);
        if (pictures !== "") {
          mkdirSync(pictures, { recursive: true });
          writeFileSync(join(pictures, `${title}-${name}.png`), await look.screenshot({ fullPage: true }));
        }
      }
      await look.close();
    }
  });

  test("a validator that is killed is seen, then the loss of the quorum, then a node that is gone", async () => {
    await open("network");
    const row = page.locator('[data-validator="v3"]');
    await row.and(page.locator('[data-link="linked"]')).waitFor();
    net.kill(3);
    await row.and(page.locator('[data-link="no link"]')).waitFor();
    await page.locator("#conditions").getByText("The next failure stops the chain").first().waitFor();
    await page.locator("#conditions").getByText("Without a link: v3.").waitFor();
    net.kill(2);
    await page.locator("#conditions").getByText("There is no quorum").first().waitFor();
    if (pictures !== "") writeFileSync(join(pictures, "no-quorum.png"), await page.screenshot({ fullPage: true }));
    net.kill(0);
    await page.locator("#conditions").getByText("The node does not answer").first().waitFor();
    if (pictures !== "") writeFileSync(join(pictures, "gone.png"), await page.screenshot({ fullPage: true }));
  });

  test("the page asks nobody but the node, and breaks no policy of its own", () => {
    expect(foreign).toEqual([]);
    expect(errors).toEqual([]);
  });
});
