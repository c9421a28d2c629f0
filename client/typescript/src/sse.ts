// Server-sent events (WHATWG HTML, section 9.2) from the body of a response. EventSource of browsers
// sends no headers of its own and is not in Node.js.

/** One event. Its id is the last one that the stream named. */
export interface ServerEvent {
  type: string;
  data: string;
  id: string;
  /** Whether the event has data. One without sets the id alone. */
  dispatched: boolean;
}

// The longest event is a block of messages of one byte.
const maxEvent = 256 << 20;

/** Parses lines into events. Comments keep a connection alive and are not events. */
export class EventParser {
  #rest = "";
  #sawReturn = false;
  #first = true;
  #data: string[] = [];
  #size = 0;
  #type = "";
  #id = "";
  #named = false;

  /** Takes a part of the stream and returns the events that it ends. */
  push(part: string): ServerEvent[] {
    if (this.#first && part !== "") {
      this.#first = false;
      if (part.startsWith("\ufeff")) part = part.slice(1);
    }
    const out: ServerEvent[] = [];
    // A carriage return ends a line at once. A line feed that follows, even in the next part, belongs to it.
    if (this.#sawReturn && part.startsWith("\n")) part = part.slice(1);
    if (part !== "") this.#sawReturn = part.endsWith("\r");
    const pieces = part.split(/\r\n|\r|\n/);
    for (let i = 0; i < pieces.length - 1; i++) {
      const event = this.#line(this.#rest + (pieces[i] as string));
      this.#rest = "";
      if (event !== undefined) out.push(event);
    }
    this.#rest += pieces[pieces.length - 1] as string;
    if (this.#size + this.#rest.length > maxEvent) throw new Error(`an event is longer than ${maxEvent} bytes`);
    return out;
  }

  #line(line: string): ServerEvent | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return undefined;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") {
      this.#data.push(value);
      this.#size += value.length;
    } else if (field === "event") {
      this.#type = value;
    } else if (field === "id" && !value.includes("\0")) {
      this.#id = value;
      this.#named = true;
    }
    return undefined;
  }

  #dispatch(): ServerEvent | undefined {
    const event = { type: this.#type === "" ? "message" : this.#type, data: this.#data.join("\n"), id: this.#id, dispatched: this.#data.length > 0 };
    const tells = event.dispatched || this.#named;
    this.#data = [];
    this.#size = 0;
    this.#type = "";
    this.#named = false;
    return tells ? event : undefined;
  }
}

/** Reads events until the body ends. A body that is silent for so many milliseconds counts as broken. */
export async function* serverEvents(body: ReadableStream<Uint8Array>, silence: number): AsyncGenerator<ServerEvent, void, void> {
  const reader = body.getReader();
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), silence);
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // It also ends the request when the caller stops to read.
    await reader.cancel().catch(() => undefined);
  }
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the stream was silent for ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
    promise.catch(() => undefined);
  }
}
