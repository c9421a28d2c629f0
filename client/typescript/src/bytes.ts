// Bytes as documents write them, and as hashes and signatures read them.

const utf8 = new TextEncoder();

/** The UTF-8 of a text. */
export function textBytes(text: string): Uint8Array {
  return utf8.encode(text);
}

/** Lower-case hex. */
export function toHex(bytes: Uint8Array): string {
  let out = "";
  for (const b of bytes) out += b.toString(16).padStart(2, "0");
  return out;
}

/** Reads lower-case hex. */
export function fromHex(hex: string): Uint8Array {
  if (!/^(?:[0-9a-f]{2})*$/.test(hex)) throw new TypeError(`no lower-case hex: ${JSON.stringify(hex.slice(0, 80))}`);
  const out = new Uint8Array(hex.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return out;
}

/** Base64 with padding (RFC 4648, section 4). */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  const step = 0x8000; // the arguments of one call
  for (let i = 0; i < bytes.length; i += step) binary += String.fromCharCode(...bytes.subarray(i, i + step));
  return btoa(binary);
}

/** Reads padded base64 without line breaks and with its unused bits zero; undefined for all else. */
export function fromBase64(text: string): Uint8Array | undefined {
  // atob alone takes blanks, missing padding and stray bits.
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  let binary: string;
  try {
    binary = atob(text);
  } catch {
    return undefined;
  }
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < out.length; i++) out[i] = binary.charCodeAt(i);
  return text.endsWith("=") && !text.endsWith(toBase64(out.subarray(out.length - (out.length % 3)))) ? undefined : out;
}

/** Whether two byte strings are equal. What is compared is public, so time does not matter. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((v, i) => v === b[i]);
}

/** The largest number in a document or an encoding: 2^53 - 1. */
export const maxNumber = Number.MAX_SAFE_INTEGER;

/** Writes the canonical encoding of docs/protocol.md: integers big-endian, strings with their length. */
export class Writer {
  #parts: Uint8Array[] = [];
  #length = 0;

  raw(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    this.#length += bytes.length;
    return this;
  }

  /** The bytes of a text, such as a domain, without a length. */
  ascii(text: string): this {
    return this.raw(textBytes(text));
  }

  hex(hex: string): this {
    return this.raw(fromHex(hex));
  }

  u8(v: number): this {
    return this.raw(Uint8Array.of(v));
  }

  u32(v: number): this {
    const b = new Uint8Array(4);
    new DataView(b.buffer).setUint32(0, v);
    return this.raw(b);
  }

  u32LE(v: number): this {
    const b = new Uint8Array(4);
    new DataView(b.buffer).setUint32(0, v, true);
    return this.raw(b);
  }

  u64(v: number | bigint): this {
    const b = new Uint8Array(8);
    new DataView(b.buffer).setBigUint64(0, exact(v));
    return this.raw(b);
  }

  u64LE(v: number | bigint): this {
    const b = new Uint8Array(8);
    new DataView(b.buffer).setBigUint64(0, exact(v), true);
    return this.raw(b);
  }

  bytes(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes);
  }

  text(text: string): this {
    return this.bytes(textBytes(text));
  }

  list<T>(values: readonly T[], write: (value: T) => void): this {
    this.u32(values.length);
    values.forEach(write);
    return this;
  }

  finish(): Uint8Array {
    const out = new Uint8Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }
}

// A number above 2^53 - 1 has lost bits already: to hash it would be to hash another one.
function exact(v: number | bigint): bigint {
  if (typeof v === "number" && !Number.isSafeInteger(v)) throw new RangeError(`${v} is not an exact integer`);
  return BigInt(v);
}
