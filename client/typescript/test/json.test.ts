import { expect, test } from "vitest";

import { fromBase64, fromHex, toBase64, toHex, Writer } from "../src/bytes.js";
import { Decimal, DocumentError, parseJson } from "../src/json.js";
import { base64, closed, open, list, nullable, text, u32, u53, readDocument } from "../src/schema.js";

test("integers are exact, however large", () => {
  expect(parseJson("[0,9007199254740991,9007199254740993,18446744073709551615,-9007199254740993]")).toEqual(
    [0, 9007199254740991, 9007199254740993n, 18446744073709551615n, -9007199254740993n]);
  expect(parseJson("[1.0,1e2,-0]")).toEqual([new Decimal("1.0"), new Decimal("1e2"), new Decimal("-0")]);
  const sample = closed({ height: u53 });
  expect(readDocument(sample, '{"height":9007199254740991}', 100)).toEqual({ height: 9007199254740991 });
  for (const value of ["9007199254740992", "-1", "-0", "1.0", "1e2", '"1"', "null"]) {
    expect(() => readDocument(sample, `{"height":${value}}`, 100), value).toThrow(DocumentError);
  }
  expect(() => new Writer().u64(2 ** 53)).toThrow(RangeError);
});

test("a document is read in one way only", () => {
  for (const document of [
    '{"a":1,"a":1}', '{"a":1,"\\u0061":1}', '{"a":1}{}', '{"a":1}x', '{"a":1', "", "{,}", "[1,]", '{"a":1,}', "\ufeff{}", "{}\u00a0", "01", "+1", ".5",
    "1.", "1e", "NaN", "tru", "'a'", '"a', '"\t"', '"\\x"', '"\\u12"', '"\\ud800"', '"\\udc00\\ud800"', '"\ud800"', "/**/{}", "[".repeat(1000),
  ]) {
    expect(() => parseJson(document), document).toThrow(DocumentError);
  }
  expect(() => parseJson(Uint8Array.of(0x22, 0xff, 0x22))).toThrow(DocumentError);
  expect(() => parseJson(Uint8Array.of(0xef, 0xbb, 0xbf, 0x7b, 0x7d))).toThrow(DocumentError);
  expect(parseJson(' \r\n\t[ "\\u0061\\ud83d\\ude00\\n\\/" , true , false , null , { } , [ ] ] ')).toEqual(
    ["a\u{1f600}\n/", true, false, null, Object.create(null), []]);
});

test("a member named like a method of objects is a member like any other", () => {
  const sample = open({ toString: text, list: list(u32) });
  expect(readDocument(open({ list: list(u32) }), '{"__proto__":{"list":[1]},"list":[2]}', 100)).toEqual({ list: [2] });
  expect(readDocument(sample, "{}", 10)).toEqual({ toString: "", list: [] });
  expect(() => readDocument(closed({}), '{"constructor":1}', 100)).toThrow("at /constructor: unknown member");
});

test("what is refused is named by its path", () => {
  expect(() => parseJson('{"a":[0,{"b/~":1,"b/~":2}]}')).toThrow("at /a/1/b~1~0: the member is named twice");
  const sample = closed({ inner: list(closed({ count: u32 })), maybe: nullable(text), data: base64 });
  expect(() => readDocument(sample, '{"inner":[{"count":1},{"count":4294967296}]}', 100)).toThrow("at /inner/1/count: want an integer from 0 to 4294967295");
  expect(() => readDocument(sample, '{"inner":null}', 100)).toThrow("at /inner: null in the place of a value");
  expect(() => readDocument(sample, '{"Inner":[]}', 100)).toThrow("at /Inner: unknown member");
  expect(() => readDocument(sample, "{}    ", 4)).toThrow("longer than 4 bytes");
  expect(readDocument(sample, '{"maybe":null}', 100)).toEqual({ inner: [], maybe: null, data: new Uint8Array() });
});

test("base64 has one form for each byte string", () => {
  for (let n = 0; n < 10; n++) {
    const bytes = Uint8Array.from({ length: n }, (_, i) => 251 + 37 * i);
    expect(fromBase64(toBase64(bytes))).toEqual(bytes);
  }
  expect(fromBase64(toBase64(new Uint8Array(200_000)))?.length).toBe(200_000);
  for (const other of ["AQI", "AQJ=", "AQ\nI=", "AQI= ", "_-8=", "AQI==", "=", "====", "A===", "AA=A", "AR=="]) expect(fromBase64(other), other).toBeUndefined();
});

test("hex has one form for each byte string", () => {
  expect(fromHex("00ff10")).toEqual(Uint8Array.of(0, 255, 16));
  expect(toHex(fromHex("00ff10"))).toBe("00ff10");
  for (const other of ["0", "0g", "0F", " 00", "0x00", "00\n"]) expect(() => fromHex(other), other).toThrow(TypeError);
});
