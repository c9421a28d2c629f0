import { expect, test } from "vitest";

import { asJson, asText, bytes, duration, hexDump } from "../src/format.js";

test("JSON is indented, and nothing in it changes", () => {
  const exact = '{"a":12345678901234567890,"b":1.10,"c":[],"d":{},"e":"x , : { } \\" y","f":[1,true,null]}';
  const shown = asJson(exact) as string;
  expect(shown).toBe('{\n  "a": 12345678901234567890,\n  "b": 1.10,\n  "c": [],\n  "d": {},\n  "e": "x , : { } \\" y",\n  "f": [\n    1,\n    true,\n    null\n  ]\n}');
  expect(asJson("no JSON")).toBeUndefined();
  expect(asJson("12")).toBeUndefined();
});

test("bytes that a page cannot show are no text", () => {
  const text = (...b: number[]) => asText(Uint8Array.from(b));
  expect(text(0x68, 0x69, 0x0a, 0x09)).toBe("hi\n\t");
  expect(text(0xff)).toBeUndefined();
  expect(text(0x68, 0x00)).toBeUndefined();
  expect(text(0x1b, 0x5b)).toBeUndefined();
});

test("sizes and durations", () => {
  expect([0, 1, 1023, 1024, 20 << 20].map(bytes)).toEqual(["0 bytes", "1 byte", "1,023 bytes", "1.0 KiB", "20 MiB"]);
  expect([-5, 12, 999, 1000, 59_900, 3_600_000, 864e5 * 3].map(duration)).toEqual(["0 ms", "12 ms", "999 ms", "1.0 s", "60 s", "60 min", "3 d"]);
  expect(hexDump(new TextEncoder().encode("0123456789abcdef\n"))).toBe(
    "000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef\n000010  0a                                               .");
});
