// The client against a server that refuses, breaks off and lies.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import { afterEach, expect, test } from "vitest";

import { Client, ConnectionError, NodeError, type Block, type ClientOptions } from "../src/index.js";
import { messageId } from "../src/verify.js";
import { samples, type Sample } from "./files.js";

const servers: Server[] = [];
afterEach(() => {
  for (const s of servers.splice(0)) {
    s.closeAllConnections();
    s.close();
  }
});

type Handler = (request: IncomingMessage, response: ServerResponse, body: Buffer) => void;

async function serve(handler: Handler): Promise<string> {
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => handler(request, response, Buffer.concat(parts)));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

// A port on which nothing listens.
async function nobody(): Promise<string> {
  const url = await serve(() => undefined);
  await new Promise((resolve) => servers.pop()?.close(resolve));
  return url;
}

function refusal(response: ServerResponse, status: number, code: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify({ error: { code, message: "for a test" } }));
}

const encode = (text: string) => new TextEncoder().encode(text);

// The messages of a submission.
function messagesOf(body: Buffer): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (let at = 0; at < body.length; ) {
    let [length, shift] = [0, 1];
    for (;;) {
      const b = body[at++] as number;
      length += (b & 0x7f) * shift;
      shift *= 0x80;
      if (b < 0x80) break;
    }
    out.push(body.subarray(at, at + length));
    at += length;
  }
  return out;
}

function accept(response: ServerResponse, body: Buffer): void {
  response.writeHead(202, { "Content-Type": "application/json" });
  response.end(JSON.stringify({ results: messagesOf(body).map((m) => ({ id: messageId(m), status: "pending" })) }));
}

test("a submission is repeated at the next node, and after a pause", async () => {
  let tries = 0;
  const pauses: number[] = [];
  const node = await serve((_, response, body) => (++tries < 3 ? refusal(response, 503, "busy") : accept(response, body)));
  const client = new Client([await nobody(), node], { retrying: (_, pause) => pauses.push(pause) });
  const messages = [encode("one"), new Uint8Array(300), encode("three")];
  const results = await client.submit(messages);
  expect(results.map((r) => r.id)).toEqual(messages.map(messageId));
  expect(tries).toBe(3);
  expect(pauses.length).toBeGreaterThan(0);
});

test("Retry-After is the pause, and an answer that time does not cure is an error at once", async () => {
  const answers: Handler[] = [
    (_, response) => refusal(response, 429, "pool_full", { "Retry-After": "1" }),
    (_, response) => refusal(response, 422, "malformed"),
  ];
  const node = await serve((...call) => answers.shift()?.(...call));
  const pauses: number[] = [];
  const failed = new Client(node, { retrying: (_, pause) => pauses.push(pause) }).submit([encode("x")]);
  await expect(failed).rejects.toMatchObject({ name: "NodeError", status: 422, code: "malformed", temporary: false });
  expect(pauses).toEqual([1000]);
});

test("messages are split into requests that the node takes", async () => {
  const counts: number[] = [];
  const node = await serve((_, response, body) => {
    const count = messagesOf(body).length;
    counts.push(count);
    if (count > 3) refusal(response, 413, "too_large");
    else accept(response, body);
  });
  const messages = Array.from({ length: 10 }, (_, i) => encode(`message ${i}`));
  expect((await new Client(node).submit(messages)).map((r) => r.id)).toEqual(messages.map(messageId));
  expect(counts).toEqual([10, 5, 2, 2, 2, 2, 2]);
});

test("an answer about another message is an error", async () => {
  const node = await serve((_, response) => response.end(JSON.stringify({ results: [{ id: "00".repeat(32), status: "pending" }] })));
  await expect(new Client(node).submit([encode("x")])).rejects.toThrow("the node answered 0000");
});

test("a read of a node that is not there is an error at once", async () => {
  let retried = false;
  const client = new Client(await nobody(), { retrying: () => void (retried = true) });
  await expect(client.status()).rejects.toBeInstanceOf(ConnectionError);
  expect(retried).toBe(false);
});

test("an answer of a proxy is an error with its status", async () => {
  const node = await serve((_, response) => response.writeHead(404, "Not Found").end("<html>\n</html>"));
  await expect(new Client(node).message("00".repeat(32))).rejects.toEqual(new NodeError(404, "", "Not Found"));
});

test("a refused token is replaced once, and no token travels in clear text", async () => {
  const seen: (string | undefined)[] = [];
  const node = await serve((request, response) => {
    seen.push(request.headers.authorization);
    if (request.headers.authorization === "Bearer new") response.end('{"error":{},"evidence":[]}');
    else refusal(response, 401, "unauthenticated");
  });
  expect(await new Client(node, { token: (refused) => (refused === "old" ? "new" : "old") }).evidence()).toEqual([]);
  expect(seen).toEqual(["Bearer old", "Bearer new"]);
  await expect(new Client(node, { token: () => "old" }).evidence()).rejects.toMatchObject({ status: 401 });
  for (const url of ["http://node.example", "http://127.0.0.1.example", "ftp://127.0.0.1"]) {
    expect(() => new Client(url, { token: () => "x" }), url).toThrow(TypeError);
  }
  expect(() => new Client([])).toThrow("no url");
});

const sample = JSON.parse((samples.accepted.find((s) => s.kind === "block") as Sample).text as string);
// A block of another height. The client does not verify it.
const block = (height: number): string => JSON.stringify({ ...sample, header: { ...sample.header, height } });
const event = (height: number): string => `id: ${height}\nevent: block\ndata: ${block(height)}\n\n`;

async function take(client: Client, count: number, options: Parameters<Client["stream"]>[0] = {}): Promise<number[]> {
  const heights: number[] = [];
  for await (const b of client.stream(options)) {
    heights.push((b as Block).header.height);
    if (heights.length === count) break;
  }
  return heights;
}

interface Script {
  /** What each connection sends, and whether it is cut in the middle or held open. */
  connections: { body?: string; end?: "cut" | "whole" | "open"; position?: number; refuse?: [number, string] }[];
  asked: string[];
}

function scripted(script: Script): Promise<string> {
  return serve((request, response) => {
    script.asked.push(request.url as string);
    const c = script.connections.shift();
    if (c === undefined) return void refusal(response, 500, "internal");
    if (c.refuse !== undefined) return void refusal(response, ...c.refuse);
    expect(request.headers.accept).toBe("text/event-stream");
    response.writeHead(200, { "Content-Type": "text/event-stream", ...(c.position === undefined ? {} : { "Diseq-Stream-From": String(c.position) }) });
    response.write(c.body ?? "", () => {
      if (c.end === "cut") response.destroy();
      else if (c.end !== "open") response.end();
    });
  });
}

const quick: ClientOptions = { retryFor: 0 };

test("a stream that breaks is resumed without a gap, in the middle of a block too", async () => {
  const script: Script = {
    asked: [],
    connections: [
      { body: event(7) + event(8).slice(0, 200), end: "cut" }, { refuse: [503, "busy"] }, { body: event(8) + event(9), end: "whole" },
      { body: `${event(10)}event: error\ndata: {"error":{"code":"unavailable","message":"gives way"}}\n\n`, end: "open" }, { body: event(11), end: "open" },
    ],
  };
  expect(await take(new Client(await scripted(script), quick), 5, { from: 7 })).toEqual([7, 8, 9, 10, 11]);
  expect(script.asked).toEqual([7, 8, 8, 10, 11].map((from) => `/v1/stream?from=${from}`));
});

test("a reader of new blocks resumes where its stream began", async () => {
  for (const first of [{ position: 42 }, { body: "id: 41\n\n" }]) {
    const script: Script = { asked: [], connections: [{ ...first, end: "whole" }, { body: event(42), end: "open" }] };
    expect(await take(new Client(await scripted(script), quick), 1)).toEqual([42]);
    expect(script.asked).toEqual(["/v1/stream", "/v1/stream?from=42"]);
  }
});

test("a block out of order ends the stream", async () => {
  const script: Script = { asked: [], connections: [{ body: event(7) + event(9), end: "open" }] };
  await expect(take(new Client(await scripted(script), quick), 3, { from: 7 })).rejects.toThrow("block 9 came where block 8 was due");
});

test("a block in another form ends the stream", async () => {
  const script: Script = { asked: [], connections: [{ body: 'event: block\ndata: {"header":{"height":7,"height":7}}\n\n', end: "open" }] };
  await expect(take(new Client(await scripted(script), quick), 1, { from: 7 })).rejects.toThrow("named twice");
});

test("a stream that no node can begin is an error", async () => {
  await expect(take(new Client([await nobody(), await nobody()], quick), 1)).rejects.toBeInstanceOf(ConnectionError);
  const script: Script = { asked: [], connections: [{ refuse: [403, "forbidden"] }] };
  await expect(take(new Client(await scripted(script), quick), 1)).rejects.toMatchObject({ status: 403 });
});

test("a reader that stops reading, or is told to, closes its connection", async () => {
  let closed = 0;
  let told = (): void => undefined;
  const node = await serve((_, response) => {
    response.on("close", () => {
      closed++;
      told();
    });
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(event(1));
  });
  const once = () => new Promise<void>((resolve) => (told = resolve));
  let gone = once();
  expect(await take(new Client(node), 1, { from: 1 })).toEqual([1]);
  await gone;
  gone = once();
  const stop = new AbortController();
  const reading = (async () => {
    for await (const _ of new Client(node).stream({ from: 1, signal: stop.signal })) stop.abort(new Error("enough"));
  })();
  await expect(reading).rejects.toThrow("enough");
  await gone;
  expect(closed).toBe(2);
});
