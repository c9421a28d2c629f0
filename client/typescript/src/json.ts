// JSON that is read in one way only.
//
// JSON.parse takes the last of two members of one name, rounds numbers above 2^53, and cannot tell 1.0
// from 1. Two readers of one receipt would then read two receipts. So documents are read by this
// parser, which refuses what docs/protocol.md refuses under "JSON documents".

/** A number with a fraction, an exponent, or a sign before zero. No document of DISEQ has one. */
export class Decimal {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  valueOf(): number {
    return Number(this.text);
  }

  toString(): string {
    return this.text;
  }
}

/** A JSON value. Integers beyond 2^53 - 1 are bigints, so that they are exact. Objects have no prototype. */
export type Json = null | boolean | number | bigint | Decimal | string | Json[] | { [name: string]: Json };

/** Says where in a document something is wrong, and what. */
export class DocumentError extends Error {
  /** The JSON pointer (RFC 6901) of the value, empty for the whole document. */
  readonly path: string;

  constructor(reason: string, path = "") {
    super(path === "" ? reason : `at ${path}: ${reason}`);
    this.name = "DocumentError";
    this.path = path;
  }
}

// Deeper documents are refused before they use up the stack. The deepest of DISEQ has 8 levels.
const maxDepth = 200;

/** Reads the whole of a text, or of its UTF-8, as one document. */
export function parseJson(document: string | Uint8Array): Json {
  let text: string;
  if (typeof document === "string") {
    text = document;
  } else {
    try {
      // With ignoreBOM a byte order mark stays in the text, where it is refused.
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(document);
    } catch {
      throw new DocumentError("it is not UTF-8");
    }
  }
  if (text.startsWith("\ufeff")) throw new DocumentError("it starts with a byte order mark: save it as UTF-8 without one");
  return new Parser(text).document();
}

const number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
// Characters of a string that stand for themselves. Control characters do not.
// eslint-disable-next-line no-control-regex
const plain = /[^"\\\u0000-\u001f]*/y;
const loneSurrogate = /\p{Surrogate}/u;
const escapes: Record<string, string> = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

class Parser {
  readonly #text: string;
  #at = 0;
  // The names and indices that lead to the value being read. They become a pointer only in an error.
  readonly #path: (string | number)[] = [];

  constructor(text: string) {
    this.#text = text;
  }

  document(): Json {
    this.#blanks();
    const value = this.#value();
    this.#blanks();
    if (this.#at < this.#text.length) throw new DocumentError(`something follows the document, after ${this.#at} characters`);
    return value;
  }

  #fail(): never {
    if (this.#at >= this.#text.length) throw new DocumentError("the document is cut off");
    throw new DocumentError(`not JSON: ${JSON.stringify(this.#text[this.#at])} after ${this.#at} characters`);
  }

  #blanks(): void {
    for (; this.#at < this.#text.length; this.#at++) {
      const c = this.#text.charCodeAt(this.#at);
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
    }
  }

  #take(word: string): void {
    if (!this.#text.startsWith(word, this.#at)) this.#fail();
    this.#at += word.length;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #pointer(): string {
    return this.#path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
  }

  #value(): Json {
    if (this.#path.length > maxDepth) throw new DocumentError(`more than ${maxDepth} levels`);
    switch (this.#text[this.#at]) {
      case "{":
        return this.#object();
      case "[":
        return this.#list();
      case '"':
        return this.#string();
      case "t":
        this.#take("true");
        return true;
      case "f":
        this.#take("false");
        return false;
      case "n":
        this.#take("null");
        return null;
      default:
        return this.#number();
    }
  }

  #number(): Json {
    const text = this.#match(number);
    if (text === undefined) this.#fail();
    if (/[.eE]/.test(text) || text === "-0") return new Decimal(text);
    const value = Number(text);
    return Number.isSafeInteger(value) ? value : BigInt(text);
  }

  #string(): string {
    this.#take('"');
    let out = "";
    for (;;) {
      out += this.#match(plain);
      const c = this.#text[this.#at];
      if (c === '"') break;
      if (c !== "\\") this.#fail();
      out += this.#escape();
    }
    this.#at++;
    if (loneSurrogate.test(out)) throw new DocumentError("a string with half of a surrogate pair", this.#pointer());
    return out;
  }

  #escape(): string {
    const c = this.#text[++this.#at];
    if (c === undefined) this.#fail();
    const simple = Object.hasOwn(escapes, c) ? escapes[c] : undefined;
    if (simple !== undefined) {
      this.#at++;
      return simple;
    }
    const digits = this.#text.slice(this.#at + 1, this.#at + 5);
    if (c !== "u" || !/^[0-9a-fA-F]{4}$/.test(digits)) this.#fail();
    this.#at += 5;
    return String.fromCharCode(Number.parseInt(digits, 16));
  }

  #list(): Json[] {
    const out: Json[] = [];
    this.#take("[");
    this.#blanks();
    if (this.#text[this.#at] === "]") {
      this.#at++;
      return out;
    }
    for (;;) {
      this.#blanks();
      this.#path.push(out.length);
      out.push(this.#value());
      this.#path.pop();
      this.#blanks();
      if (this.#text[this.#at] === "]") break;
      this.#take(",");
    }
    this.#at++;
    return out;
  }

  #object(): { [name: string]: Json } {
    // Without a prototype, a member that is named like a method of objects is a member like any other.
    const out = Object.create(null) as { [name: string]: Json };
    this.#take("{");
    this.#blanks();
    if (this.#text[this.#at] === "}") {
      this.#at++;
      return out;
    }
    for (;;) {
      this.#blanks();
      const name = this.#string();
      this.#path.push(name);
      if (name in out) throw new DocumentError("the member is named twice", this.#pointer());
      this.#blanks();
      this.#take(":");
      this.#blanks();
      out[name] = this.#value();
      this.#path.pop();
      this.#blanks();
      if (this.#text[this.#at] === "}") break;
      this.#take(",");
    }
    this.#at++;
    return out;
  }
}
