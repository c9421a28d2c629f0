// The page as nodes serve it, in a browser, on a network of four validators. DISEQ names the program, CHROMIUM
// the browser. PICTURES is a folder for a picture of each page, if it is set.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { Client, messageId } from "@diseq/client";
import type { Browser, BrowserContext, Download, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { voteSigning } from "../../typescript/src/hashes.js";
import { accessible, launch, patience } from "./browser.js";
import { Network } from "./network.js";

const diseq = process.env["DISEQ"] ?? "";
const program = process.env["CHROMIUM"] ?? "";
const pictures = process.env["PICTURES"] ?? "";
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

  const open = async (path: string, at: Page = page, node = net.nodes[0]): Promise<void> => {
    // Another hash alone would not load the page again.
    await at.goto("about:blank");
    await at.goto(`${node}/#/${path}`);
    await at.locator("h1").waitFor();
  };
  const downloaded = async (click: () => Promise<void>): Promise<Buffer> => {
    const [download]: [Download, void] = await Promise.all([page.waitForEvent("download"), click()]);
    return readFileSync(await download.path());
  };
  const receiptOf = async (id: string): Promise<string> => {
    const answer = await fetch(`${net.nodes[0]}/v1/messages/${id}/receipt`);
    if (!answer.ok) throw new Error(`the receipt of ${id}: ${answer.status} ${await answer.text()}`);
    return answer.text();
  };
  // Answers that are being altered are given up.
  const close = async (p: Page): Promise<void> => {
    await p.unrouteAll({ behavior: "ignoreErrors" });
    await p.close();
  };
  const panel = (title: string, at: Page = page) => at.getByRole("region", { name: title, exact: true });

  beforeAll(async () => {
    if (pictures !== "") mkdirSync(pictures, { recursive: true });
    net = await Network.start(diseq);
    // What this node has ordered, its page can show.
    client = new Client(net.nodes[0] as string);
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
    await close(altered);
  });

  test("a block that has not come yet is shown when it comes", async () => {
    const [result] = await client.submitWait([bytes("a message to wait for")]);
    const height = result?.receipt.height as number;
    const waiting = await context.newPage();
    let here = false;
    await waiting.route(`**/v1/blocks/${height}`, (route) =>
      here ? route.continue() : route.fulfill({ status: 404, json: { error: { code: "not_found", message: "no such block" } } }));
    await waiting.route("**/v1/status", async (route) => {
      const status = await (await route.fetch()).json();
      await route.fulfill({ json: here ? status : { ...status, height: height - 1 } });
    });
    await open(`block/${height}`, waiting);
    await waiting.getByText("There is no such block yet").waitFor();
    here = true;
    await panel("Check", waiting).getByText("It verifies").waitFor();
    await close(waiting);
  });

  test("a receipt is checked against the reader's genesis document, step by step", async () => {
    const [result] = await client.submitWait([bytes("a message with a receipt")]);
    const receipt = await receiptOf(result?.id as string);
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
    // The heading of a page that was opened has the focus, so that it is read out.
    const focused = async (heading: string): Promise<void> => {
      await page.getByRole("heading", { name: heading, exact: true }).and(page.locator(":focus")).waitFor();
    };
    const find = async (query: string): Promise<void> => {
      await page.keyboard.press("/");
      await page.keyboard.press("Control+a");
      await page.keyboard.type(query);
      await page.keyboard.press("Enter");
    };
    await find("1");
    await focused("Block 1");
    await find(messageId(bytes("the first message")));
    await panel("Data").getByText("the first message").waitFor();
    await focused("Message");
    await page.evaluate("location.hash = '#/'");
    await focused("Live");
    await find("the first message");
    await panel("Data").getByText("the first message").waitFor();
    await open("search");
    await page.getByLabel("Or choose the file").setInputFiles(file("message.txt", "the first message"));
    await page.getByRole("link", { name: "Find the message" }).click();
    await panel("Data").getByText("the first message").waitFor();
    await open("block/999999");
    await page.getByText("There is no such block yet").waitFor();
  });

  test("a page that is hidden asks nothing, and goes on when it is shown", async () => {
    const hidden = await context.newPage();
    const turn = (away: boolean): Promise<void> =>
      hidden.evaluate(`Object.defineProperty(document, "hidden", { value: ${away}, configurable: true }); document.dispatchEvent(new Event("visibilitychange"))`);
    const isStream = (r: { url(): string }): boolean => r.url().includes("/v1/stream");
    await Promise.all([hidden.waitForRequest(isStream), open("", hidden)]);
    const ended = hidden.waitForEvent("requestfailed", isStream);
    await turn(true);
    await ended;
    await panel("Last blocks", hidden).getByText("paused").waitFor();
    const asked: string[] = [];
    hidden.on("request", (r) => asked.push(r.url()));
    const [result] = await client.submitWait([bytes("nobody looks")]);
    const row = (at: Page) => panel("Last blocks", at).getByRole("link", { name: String(result?.receipt.height), exact: true });
    // Another page has it, and has asked for the status three times since.
    await open("");
    await row(page).waitFor();
    for (let i = 0; i < 3; i++) await page.waitForResponse((r) => r.url().endsWith("/v1/status"));
    expect(await row(hidden).count()).toBe(0);
    expect(asked).toEqual([]);
    await turn(false);
    await row(hidden).waitFor();
    await panel("Last blocks", hidden).getByText("as they come").waitFor();
    await close(hidden);
  });

  test("a node with an access file asks for a token, and the page says what the token lacks", async () => {
    const [reader, sender, wrong] = ["r", "s", "w"].map((c) => c.repeat(40)) as [string, string, string];
    const node = await net.guarded({
      clients: [
        { name: "reader", token: { file: "reader" }, allow: ["Read"] },
        { name: "sender", token: { file: "sender" }, allow: ["Submit"] },
      ],
    }, { reader, sender });
    const guarded = await context.newPage();
    const asks = guarded.locator("#conditions").getByText("This node asks who you are").first();
    const use = async (token: string): Promise<void> => {
      await guarded.getByLabel("Token").fill(token);
      await guarded.getByRole("button", { name: "Use it" }).click();
    };
    await open("", guarded, node);
    await asks.waitFor();
    await use(wrong);
    await guarded.getByText("One is in use.").waitFor();
    await asks.waitFor();
    await use(sender);
    await panel("Last blocks", guarded).getByText("The node does not show you its blocks").waitFor();
    await guarded.getByLabel("Token").waitFor({ state: "detached" });

    // The token is in the memory of the page alone.
    expect(await guarded.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")).toBe('[{},{},""]');
    await guarded.reload();
    await asks.waitFor();
    await use(reader);
    await panel("Last blocks", guarded).getByRole("link").first().waitFor();
    await guarded.getByLabel("Token").waitFor({ state: "detached" });
    await guarded.getByRole("link", { name: "Network", exact: true }).click();
    await panel("The node that answers", guarded).getByText("The node shows its short status only").waitFor();
    await guarded.locator('[data-validator="v0"][data-link="not shown"]').waitFor();
    await close(guarded);
  });

  test("evidence is shown, and checked in the browser", async () => {
    const { public_key, sign } = net.key(2);
    const { chain_id, validators } = JSON.parse(readFileSync(net.genesis, "utf8")) as { chain_id: string; validators: { public_key: string }[] };
    const vote = (hash: string) => {
      const v = { kind: "finalize", height: 1, round: 0, block_hash: hash.repeat(64) } as const;
      return { ...v, validator: validators.findIndex((v) => v.public_key === public_key), signature: sign(voteSigning(chain_id, v)) };
    };
    const piece = { chain_id, rule: "E1", public_key, first: vote("1"), second: vote("2"), validator_changes: [] };
    const shown = await context.newPage();
    let evidence: object[] = [piece];
    // No node of this network breaks a rule, so the answers are the test's. The votes are signed with the key of v2.
    await shown.route("**/v1/evidence*", (route) => route.fulfill({ json: { evidence } }));
    await shown.route("**/v1/status", async (route) => route.fulfill({ json: { ...(await (await route.fetch()).json()), evidence: evidence.length } }));
    await open("network", shown);
    await shown.locator("#conditions").getByText("A validator has broken a rule").first().waitFor();
    const panes = panel("Evidence", shown);
    await panes.getByRole("cell", { name: "E1", exact: true }).waitFor();
    if (pictures !== "") writeFileSync(join(pictures, "evidence.png"), await shown.screenshot({ fullPage: true }));
    await panes.getByRole("button", { name: "Check it" }).click();
    await panes.getByText("It verifies").waitFor();

    evidence = [{ ...piece, second: { ...piece.second, block_hash: "3".repeat(64) } }];
    await open("network", shown);
    await panes.getByRole("button", { name: "Check it" }).click();
    await panes.getByText("Refused").waitFor();
    expect(await panes.locator(".steps li").evaluateAll((all) => all.map((l) => `${(l as HTMLElement).dataset["step"]} ${l.className}`)))
      .toEqual(["document held", "changes held", "chain held", "votes failed"]);
    await close(shown);
  });

  test("a change of the validators is in the timeline, and later receipts verify through it", async () => {
    await open("network");
    const steps = panel("Changes of the validators").getByRole("listitem");
    await steps.getByText("Genesis: v0, v1, v2, v3; 3 of 4 must sign.").waitFor();
    await net.add(4);
    await steps.getByText("Generation 1: v4 came. Now 4 of 5 must sign.").waitFor();
    await page.locator('[data-validator="v4"][data-link="linked"]').waitFor();
    await panel("How many may fail").getByText("4 of 5 must sign").waitFor();

    const [result] = await client.submitWait([bytes("a message after the change")]);
    const receipt = await receiptOf(result?.id as string);
    await open("check");
    await page.getByLabel(/^Choose a genesis document/).setInputFiles(net.genesis);
    await page.getByLabel(/^Choose a receipt/).setInputFiles(file("receipt.json", receipt));
    await panel("3. The result").getByText("It verifies").waitFor();
    await page.locator('.steps [data-step="changes"]').getByText("1 change").waitFor();
    await open(`block/${result?.receipt.height}`);
    await panel("Check").getByText("It verifies").waitFor();
    // Blocks of the set before have the names of that set.
    await open("");
    await panel("Last blocks").getByRole("link", { name: String(result?.receipt.height), exact: true }).waitFor();
    await expect.poll(() => panel("Last blocks").getByRole("cell", { name: /^#[0-9]+$/ }).count(), { timeout: patience }).toBe(0);
  });

  const looks: [string, { width: number; height: number }, "light" | "dark"][] = [
    ["light", { width: 1280, height: 900 }, "light"], ["dark", { width: 1280, height: 900 }, "dark"], ["phone", { width: 390, height: 844 }, "light"],
  ];
  test.each(looks)("each page is accessible and fits: %s", async (name, size, scheme) => {
    const id = messageId(bytes("the first message"));
    const { height } = await client.message(id);
    const pages: [string, string, string][] = [
      ["live", "", "Last blocks"], ["network", "network", "Validators"], ["block", `block/${height}`, "Check"], ["message", `message/${id}`, "Receipt"],
      ["search", "search", "By content"], ["check", "check", "1. What you trust"], ["submit", "submit", "The message"],
    ];
    const look = await context.newPage();
    await look.setViewportSize(size);
    await look.emulateMedia({ colorScheme: scheme });
    for (const [title, path, part] of pages) {
      await open(path, look);
      await panel(part, look).waitFor();
      if (["block", "message"].includes(title)) await look.getByText("It verifies").waitFor();
      if (title === "live") await panel(part, look).getByRole("link").first().waitFor();
      if (title === "network") await look.locator(".votes .yes").first().waitFor();
      if (title === "check") await look.getByLabel(/^Choose a receipt/).setInputFiles(file("forged.json", '{"inclusion": {}}'));
      if (name !== "phone") await accessible(look, `${title}, ${name}`);
      const wide = (): Promise<number> => look.evaluate("document.documentElement.scrollWidth - innerWidth");
      await expect.poll(wide, { message: `${title}, ${name}: wider than the screen`, timeout: patience }).toBeLessThanOrEqual(0);
      if (pictures !== "") writeFileSync(join(pictures, `${title}-${name}.png`), await look.screenshot({ fullPage: true }));
    }
    await close(look);
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
