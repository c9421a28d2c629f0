import { expect, test } from "vitest";

import { EventParser, serverEvents } from "../src/sse.js";

const stream = "\ufeffid: 4\n\n: heartbeat\n\nid: 5\nevent: block\ndata: {\"a\":1}\n\ndata:x\r\ndata\r\ndata: y\r\rid\nretry: 10\nunknown: 1\nevent: error\ndata: z\n\ndata: cut off\n";
const events = [
  { type: "message", data: "", id: "4", dispatched: false },
  { type: "block", data: '{"a":1}', id: "5", dispatched: true },
  { type: "message", data: "x\n\ny", id: "5", dispatched: true },
  { type: "error", data: "z", id: "", dispatched: true },
];

test("events are the same however the stream is cut into parts", () => {
  for (let size = 1; size <= stream.length; size++) {
    const parser = new EventParser();
    const got = [];
    for (let at = 0; at < stream.length; at += size) got.push(...parser.push(stream.slice(at, at + size)));
    expect(got, `parts of ${size}`).toEqual(events);
  }
});

test("characters of several bytes may be cut in two", async () => {
  const bytes = new TextEncoder().encode("data: \u00e4\u{1f600}\n\n");
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const b of bytes) controller.enqueue(Uint8Array.of(b));
      controller.close();
    },
  });
  const got = [];
  for await (const e of serverEvents(body, 60_000)) got.push(e.data);
  expect(got).toEqual(["\u00e4\u{1f600}"]);
});

test("a stream that falls silent ends with an error, and its connection is closed", async () => {
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({ cancel: () => void (cancelled = true) });
  const read = async () => {
    for await (const _ of serverEvents(body, 5)) expect.unreachable();
  };
  await expect(read()).rejects.toThrow("silent for 5 ms");
  expect(cancelled).toBe(true);
});
