// Readers of values: what a member may hold, and what stands for one that is absent.

import { fromBase64, maxNumber } from "./bytes.js";
import { DocumentError, parseJson, type Json } from "./json.js";

/** Reads a value, or refuses it with a DocumentError that names its path. */
export interface Reader<T> {
  read(value: Json, path: string): T;
  /** The value of an absent member: zero, the empty string, the empty list. */
  zero(): T;
}

/** What a reader returns. */
export type Read<R> = R extends Reader<infer T> ? T : never;

function reader<T>(want: string, zero: () => T, convert: (value: Json) => T | undefined): Reader<T> {
  return {
    zero,
    read(value, path) {
      const out = value === null ? undefined : convert(value);
      if (out === undefined) throw new DocumentError(value === null ? "null in the place of a value" : `want ${want}`, path);
      return out;
    },
  };
}

/** An integer from 0 to a limit, without sign, fraction and exponent. */
export function integer(limit: number): Reader<number> {
  const want = `an integer from 0 to ${limit}, without fraction and exponent`;
  return reader(want, () => 0, (v) => (typeof v === "number" && v >= 0 && v <= limit ? v : undefined));
}

export const u8 = integer(0xff);
export const u32 = integer(0xffffffff);
/** A height, a time or a count. */
export const u53 = integer(maxNumber);

export const text: Reader<string> = reader("a string", () => "", (v) => (typeof v === "string" ? v : undefined));
export const flag: Reader<boolean> = reader("true or false", () => false, (v) => (typeof v === "boolean" ? v : undefined));

/** So many bytes in lower-case hex. They stay a string: equal bytes are equal strings. */
export function hex(bytes: number): Reader<string> {
  const form = new RegExp(`^[0-9a-f]{${2 * bytes}}$`);
  return reader(`${2 * bytes} digits of lower-case hex`, () => "00".repeat(bytes), (v) => (typeof v === "string" && form.test(v) ? v : undefined));
}

export const hash = hex(32);
export const signature = hex(64);
/** Zero, as hashes stand for "none". */
export const noHash = hash.zero();

export const base64: Reader<Uint8Array> = reader(
  "base64 as RFC 4648 has it in section 4: padded, without line breaks and stray bits",
  () => new Uint8Array(),
  (v) => (typeof v === "string" ? fromBase64(v) : undefined),
);

/** One of some strings. An absent member is the empty string, which no rule allows. */
export function oneOf<const T extends string>(...values: T[]): Reader<T | ""> {
  return reader<T | "">(values.join(" or "), () => "", (v) => values.find((one) => one === v));
}

export function list<T>(element: Reader<T>): Reader<T[]> {
  return {
    zero: () => [],
    read(value, path) {
      if (!Array.isArray(value)) throw new DocumentError(value === null ? "null in the place of a value" : "want an array", path);
      return value.map((v, i) => element.read(v, `${path}/${i}`));
    },
  };
}

/** A value, or null. An absent member is null. */
export function nullable<T>(inner: Reader<T>): Reader<T | null> {
  return { zero: () => null, read: (value, path) => (value === null ? null : inner.read(value, path)) };
}

/** A value that may be absent, and not null. */
export function optional<T>(inner: Reader<T>): Reader<T | undefined> {
  return { zero: () => undefined, read: inner.read };
}

/** Any value, not looked into. */
export const anything: Reader<Json> = { zero: () => null, read: (value) => value };

type Fields = Record<string, Reader<unknown>>;
type Values<F extends Fields> = { -readonly [K in keyof F]: Read<F[K]> };

function object<F extends Fields>(fields: F, refuseUnknown: boolean): Reader<Values<F>> {
  const read = (value: { [name: string]: Json }, path: string): Values<F> => {
    if (refuseUnknown) {
      for (const name in value) if (!Object.hasOwn(fields, name)) throw new DocumentError("unknown member", `${path}/${name}`);
    }
    const out = {} as Record<string, unknown>;
    for (const [name, field] of Object.entries(fields)) {
      const member = value[name];
      const got = member === undefined ? field.zero() : field.read(member, `${path}/${name}`);
      if (got !== undefined) out[name] = got;
    }
    return out as Values<F>;
  };
  return {
    zero: () => read({}, ""),
    read(value, path) {
      if (value === null) throw new DocumentError("null in the place of a value", path);
      if (typeof value !== "object" || Array.isArray(value) || Object.getPrototypeOf(value) !== null) throw new DocumentError("want an object", path);
      return read(value as { [name: string]: Json }, path);
    },
  };
}

/** An object that has no other members than these. */
export function closed<F extends Fields>(fields: F): Reader<Values<F>> {
  return object(fields, true);
}

/** An object of an answer, which newer nodes may add members to: they are ignored. */
export function open<F extends Fields>(fields: F): Reader<Values<F>> {
  return object(fields, false);
}

/** Reads a text of at most so many bytes as one document. */
export function readDocument<T>(what: Reader<T>, document: string | Uint8Array, limit: number): T {
  if (document.length > limit) throw new DocumentError(`longer than ${limit} bytes`);
  return what.read(parseJson(document), "");
}
