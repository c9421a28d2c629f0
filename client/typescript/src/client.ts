/**
 * A client of DISEQ nodes over their HTTP interface (/v1): it submits messages, reads their states and
 * receipts, and follows the chain. It needs fetch, which browsers and Node.js 20 have.
 *
 * A message's identity is its content, so it is always safe to submit the same bytes again. The client
 * relies on that: a submission that gets no answer, or that a node refuses for the moment, is repeated with
 * growing pauses. A client of several nodes tries the next one first. Reads are repeated after a refusal
 * for the moment only.
 *
 * A client believes the node: it checks the form of answers. What a node says is proven once it is
 * verified; see {@link Follower}.
 */

import { maxNumber } from "./bytes.js";
import {
  blockReader, changesReader, evidenceReader, genesisReader, proofReader, receiptReader, type Block, type Evidence, type FinalChange, type Genesis, type Proof,
  type Receipt,
} from "./documents.js";
import { messageId } from "./hashes.js";
import { parseJson, type Json } from "./json.js";
import {
  anything, base64, flag, hash, list, oneOf, open, optional, text, u32, u53, type Read, type Reader,
} from "./schema.js";
import { checkGenesis } from "./sets.js";
import { serverEvents } from "./sse.js";

/** An answer of a node other than success. */
export class NodeError extends Error {
  /** The HTTP status; 0 for the error that ends a stream. */
  readonly status: number;
  /** Stable, for programs, such as "pool_full" or "not_found"; empty for an answer of a proxy. */
  readonly code: string;
  /** For how many milliseconds the node asks to wait; 0 if it does not say. */
  readonly retryAfter: number;

  constructor(status: number, code: string, message: string, retryAfter = 0) {
    super(status === 0 ? `the node ended the stream: ${code}: ${message}` : `the node answered ${[status, code].join(" ").trim()}: ${message}`);
    this.name = "NodeError";
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get temporary(): boolean {
    return [429, 502, 503, 504].includes(this.status) || (this.status === 0 && this.code === "unavailable");
  }
}

/** A request that got no answer, or not all of it. */
export class ConnectionError extends Error {
  constructor(what: string, cause: unknown) {
    super(`${what}: ${cause instanceof Error ? reasons(cause) : String(cause)}`, { cause });
    this.name = "ConnectionError";
  }
}

// fetch hides the reason behind "fetch failed".
function reasons(e: Error): string {
  return e.cause instanceof Error ? `${e.message}: ${reasons(e.cause)}` : e.message;
}

const resultReader = open({ id: hash, status: oneOf("pending", "final"), receipt: optional(receiptReader) });
/** The answer to one submitted message. The receipt is there if it was waited for. */
export type SubmitResult = Read<typeof resultReader>;
const resultsReader = open({ results: list(resultReader) });

const messageReader = open({
  id: hash, status: oneOf("pending", "final"), height: optional(u53), index: optional(u32), data: base64, timestamp: u32,
});
/** The state of a message. Height and index are there once it is final. */
export type MessageStatus = Read<typeof messageReader>;

const statusReader = open({
  chain_id: text, node: optional(text), public_key: optional(hash), role: optional(text), ready: flag, reason: optional(text), caught_up: flag,
  storage_low: flag, height: u53, block_hash: hash, block_timestamp: u53, finalized_timestamp: optional(u53), round: optional(u32),
  leader: optional(u32), state_height: optional(u53), generation: u32, threshold: u32, validators: u32, evidence: optional(u53),
  peers: list(open({ name: text, public_key: hash, connected: flag, height: u53 })), vote_store: optional(flag), votes_from_height: optional(u53),
  pool: optional(open({ messages: u53, bytes: u53, max_bytes: u53 })),
  headroom: anything, target: anything, tolerance: anything, versions: anything, synchrony: anything,
});
/** A node's view of itself and of the chain. Clients without the right Observe get a short form. */
export type Status = Read<typeof statusReader>;

const validatorsReader = open({
  height: u53, generation: u32, threshold: u32, synchrony_delta_ms: u32, validators_hash: hash,
  tolerance: open({ crash: u32, byzantine: u32, byzantine_with_synchrony: u32 }),
  validators: list(open({ index: u32, name: text, public_key: hash, vrf_key: hash, reveals_made: u53, reveals_missed: u53 })),
});
/** The validator set in force at a height. */
export type Validators = Read<typeof validatorsReader>;

const blocksReader = open({ blocks: list(blockReader), next: u53 });
const evidencesReader = open({ evidence: list(evidenceReader) });
const errorReader = open({ error: open({ code: text, message: text }) });

/** What a client is made with. */
export interface ClientOptions {
  /** Sends the requests; the global fetch by default. */
  fetch?: typeof fetch;
  /** For how many milliseconds a request is repeated; 30,000 by default, 0 for one attempt at each node. */
  retryFor?: number;
  /** Called before each pause with the reason for it. */
  retrying?: (reason: unknown, pause: number) => void;
  /**
   * A bearer token for each request. `refused` is the token that a node has refused just now. Tokens are
   * sent over https, and over http to this machine alone.
   */
  token?: (refused?: string) => string | Promise<string>;
  /** A stream that is silent for so many milliseconds is opened again; 45,000 by default. Nodes send a comment every 15 s. */
  silence?: number;
}

/** What ends a request early. */
export interface Call {
  signal?: AbortSignal | undefined;
}

const maxRequestMessages = 10_000;
const maxRequestBytes = 8 << 20;
const maxReceipts = 256; // an answer has at most so many
const waitAtATime = 20_000; // proxies cut off a longer silence
const maxRetryAfter = 24 * 3600 * 1000;
const maxPause = 300_000;
const positionHeader = "Diseq-Stream-From";

interface Request {
  method: string;
  path: string;
  headers?: Record<string, string>;
  body?: Uint8Array<ArrayBuffer>;
  /** It may be sent again although it may have been carried out. */
  repeatable?: boolean;
  signal?: AbortSignal | undefined;
}

/** A client of one node, or of several nodes of one network. */
export class Client {
  readonly #nodes: string[] = [];
  readonly #options: ClientOptions;
  readonly #retryFor: number;
  // The index of the node that is asked first.
  #current = 0;

  /** The nodes' URLs, such as http://127.0.0.1:18080. A bare host:port stands for http. */
  constructor(nodes: string | readonly string[], options: ClientOptions = {}) {
    this.#options = options;
    this.#retryFor = options.retryFor ?? 30_000;
    for (const node of typeof nodes === "string" ? [nodes] : nodes) {
      const url = new URL(node.includes("://") ? node : `http://${node}`);
      if (!["http:", "https:"].includes(url.protocol) || url.search !== "" || url.hash !== "") throw new TypeError(`url ${node}: want http://host:port`);
      const local = ["localhost", "[::1]"].includes(url.hostname) || /^127\.[0-9.]+$/.test(url.hostname);
      if (options.token !== undefined && url.protocol !== "https:" && !local) throw new TypeError(`url ${node}: a token is sent over https only`);
      this.#nodes.push(url.href.replace(/\/$/, ""));
    }
    if (this.#nodes.length === 0) throw new TypeError("no url of a node");
  }

  /**
   * Submits messages in their order, result i for messages[i]. All of them are durable when it returns. As
   * many as fit share a request, and a request is accepted whole or not at all.
   */
  submit(messages: readonly Uint8Array[], call: Call = {}): Promise<SubmitResult[]> {
    return this.#submit(messages, maxRequestMessages, "", call);
  }

  /** Submits messages and waits until all are final. Every result has its receipt, not verified. */
  async submitWait(messages: readonly Uint8Array[], call: Call = {}): Promise<(SubmitResult & { receipt: Receipt })[]> {
    const query = `?wait=final&timeout=${waitAtATime}ms`;
    const results = await this.#submit(messages, maxRequestMessages, query, call);
    for (;;) {
      const left = results.flatMap((r, i) => (r.receipt === undefined ? [i] : []));
      if (left.length === 0) return results as (SubmitResult & { receipt: Receipt })[];
      call.signal?.throwIfAborted();
      const later = await this.#submit(left.map((i) => messages[i] as Uint8Array), maxReceipts, query, call);
      left.forEach((place, i) => (results[place] = later[i] as SubmitResult));
    }
  }

  async #submit(messages: readonly Uint8Array[], most: number, query: string, call: Call): Promise<SubmitResult[]> {
    const out: SubmitResult[] = [];
    while (out.length < messages.length) {
      const { body, count } = encodeBatch(messages, out.length, most);
      let results: SubmitResult[];
      try {
        ({ results } = await this.#ask(resultsReader, {
          method: "POST", path: `/v1/messages${query}`, headers: { "Content-Type": "application/vnd.diseq.batch" }, body, repeatable: true, signal: call.signal,
        }));
      } catch (e) {
        // The node's share of its pool is smaller than a request may be.
        if (!(e instanceof NodeError && e.status === 413 && count > 1)) throw e;
        most = Math.floor(count / 2);
        continue;
      }
      if (results.length !== count) throw new Error(`submit: the node answered with ${results.length} results for ${count} messages`);
      results.forEach((r, i) => {
        const want = messageId(messages[out.length + i] as Uint8Array);
        if (r.id !== want) throw new Error(`submit: message ${out.length + i} has id ${want}, the node answered ${r.id}`);
      });
      out.push(...results);
    }
    return out;
  }

  /** The state of a message. For one that the node has never seen the error has status 404. */
  message(id: string, call: Call = {}): Promise<MessageStatus> {
    return this.#get(messageReader, `/v1/messages/${id}`, call);
  }

  /**
   * The receipt of a final message, not verified. The changes of the validator set up to `generation` are
   * left out, for readers that have that set. While the message is pending the error has status 409.
   */
  receipt(id: string, call: Call & { generation?: number } = {}): Promise<Receipt> {
    return this.#get(receiptReader, `/v1/messages/${id}/receipt${above(call.generation)}`, call);
  }

  /**
   * Whether a message is in the state after a height, not verified. Without a height it is the newest state,
   * which no header certifies while the chain is idle: ask for the state_height of the latest header.
   */
  proof(id: string, call: Call & { height?: number } = {}): Promise<Proof> {
    return this.#get(proofReader, `/v1/proofs/${id}${call.height === undefined ? "" : `?height=${call.height}`}`, call);
  }

  /** A final block, not verified. */
  block(height: number | "latest", call: Call & { messages?: boolean } = {}): Promise<Block> {
    return this.#get(blockReader, `/v1/blocks/${height}${call.messages === false ? "?messages=false" : ""}`, call);
  }

  /** A page of at most so many final blocks, and the height at which the next page starts. */
  blocks(from: number, limit = 20, call: Call & { messages?: boolean } = {}): Promise<{ blocks: Block[]; next: number }> {
    return this.#get(blocksReader, `/v1/blocks?from=${from}&limit=${limit}${call.messages === false ? "&messages=false" : ""}`, call);
  }

  status(call: Call = {}): Promise<Status> {
    return this.#get(statusReader, "/v1/status", call);
  }

  /** The validator set in force at a height; without one, at the next height. */
  validators(call: Call & { height?: number } = {}): Promise<Validators> {
    return this.#get(validatorsReader, `/v1/validators${call.height === undefined ? "" : `?height=${call.height}`}`, call);
  }

  /** Changes of the validator set, from the one to a generation on, not verified. */
  changes(from: number, limit = 100, call: Call = {}): Promise<{ changes: FinalChange[]; next: number | null }> {
    return this.#get(changesReader, `/v1/changes?from=${from}&limit=${limit}`, call);
  }

  /** The evidence that the node has, not verified. */
  async evidence(call: Call & { generation?: number } = {}): Promise<Evidence[]> {
    return (await this.#get(evidencesReader, `/v1/evidence${above(call.generation)}`, call)).evidence;
  }

  /** The genesis document that the node has. What is verified with it is no better than the node's word. */
  async genesis(call: Call = {}): Promise<Genesis> {
    const g = await this.#get(genesisReader, "/v1/genesis", call);
    checkGenesis(g);
    return g;
  }

  /**
   * Final blocks from a height on, in order and without a gap, then each new one as it becomes final; without
   * a height, new ones only. They are not verified. A connection that breaks is opened again where it broke,
   * at the next node if there are several. One node must answer to begin with.
   */
  async *stream(call: Call & { from?: number; messages?: boolean } = {}): AsyncGenerator<Block, void, void> {
    let next = call.from;
    let [reached, failures, refusals] = [false, 0, 0];
    const pauses = new Pauses();
    for (;;) {
      const node = this.#current;
      let failed: unknown;
      try {
        const query = new URLSearchParams();
        if (next !== undefined) query.set("from", String(next));
        if (call.messages === false) query.set("messages", "false");
        const response = await this.#send(node, {
          method: "GET", path: `/v1/stream${query.size === 0 ? "" : `?${query}`}`, headers: { Accept: "text/event-stream" }, signal: call.signal,
        });
        reached = true;
        next ??= heightOf(response.headers.get(positionHeader));
        for await (const event of serverEvents(response.body as ReadableStream<Uint8Array>, this.#options.silence ?? 45_000)) {
          if (event.type === "error") throw streamError(event.data);
          if (!event.dispatched) {
            const before = heightOf(event.id);
            if (next === undefined && before !== undefined) next = before + 1;
          }
          if (!event.dispatched || event.type !== "block") continue;
          const block = blockReader.read(parseJson(event.data), "");
          if (next !== undefined && block.header.height !== next) throw new OrderError(`stream: block ${block.header.height} came where block ${next} was due`);
          yield block;
          next = block.header.height + 1;
          [failures, refusals] = [0, 0];
          pauses.reset();
        }
        failed = new ConnectionError(`GET ${this.#nodes[node]}/v1/stream`, new Error("the stream ended"));
      } catch (e) {
        failed = e;
      }
      call.signal?.throwIfAborted();
      if (failed instanceof OrderError || (failed as Error).name === "DocumentError") throw failed;
      if (failed instanceof NodeError) {
        reached = true;
        if (!failed.temporary) refusals++;
      }
      this.#leave(node);
      if (++failures % this.#nodes.length !== 0) continue; // another node may do better at once
      if (!reached || refusals >= this.#nodes.length) throw failed;
      refusals = 0;
      const wait = Math.max(pauses.next(), failed instanceof NodeError ? Math.min(failed.retryAfter, maxPause) : 0);
      this.#options.retrying?.(failed, wait);
      await pause(wait, call.signal);
    }
  }

  #get<T>(reader: Reader<T>, path: string, call: Call): Promise<T> {
    return this.#ask(reader, { method: "GET", path, signal: call.signal });
  }

  // Sends a request to one node after the other until one answers, and begins again after a pause as long as
  // that may help.
  async #ask<T>(reader: Reader<T>, q: Request): Promise<T> {
    const begun = Date.now();
    const pauses = new Pauses();
    for (;;) {
      let reason: unknown;
      let [later, after] = [false, 0];
      for (let i = 0; i < this.#nodes.length; i++) {
        const node = this.#current;
        try {
          return reader.read(await this.#once(node, q), "");
        } catch (e) {
          q.signal?.throwIfAborted();
          reason = e;
          if (e instanceof NodeError) {
            if (e.status < 500 && !e.temporary) throw e;
            later ||= e.temporary;
            if (e.retryAfter > 0 && (after === 0 || e.retryAfter < after)) after = Math.min(e.retryAfter, maxPause);
          } else if (e instanceof ConnectionError) {
            later ||= q.repeatable === true;
          } else {
            throw e;
          }
          this.#leave(node);
        }
      }
      const wait = after > 0 ? after : pauses.next();
      if (!later || Date.now() - begun + wait > this.#retryFor) throw reason;
      this.#options.retrying?.(reason, wait);
      await pause(wait, q.signal);
    }
  }

  async #once(node: number, q: Request): Promise<Json> {
    const response = await this.#send(node, q);
    let content: Uint8Array;
    try {
      content = new Uint8Array(await response.arrayBuffer());
    } catch (e) {
      throw new ConnectionError(`${q.method} ${this.#nodes[node]}${q.path}`, e);
    }
    return parseJson(content);
  }

  // Returns the response if it is a success. A token that the node refuses is replaced once.
  async #send(node: number, q: Request): Promise<Response> {
    const token = await this.#options.token?.();
    try {
      return await this.#sendAs(node, q, token);
    } catch (e) {
      if (token === undefined || !(e instanceof NodeError && e.status === 401)) throw e;
      const other = await this.#options.token?.(token);
      if (other === token) throw e;
      return this.#sendAs(node, q, other);
    }
  }

  async #sendAs(node: number, q: Request, token: string | undefined): Promise<Response> {
    const headers: Record<string, string> = { Accept: "application/json", ...q.headers };
    if (token !== undefined) headers["Authorization"] = `Bearer ${token}`;
    const url = `${this.#nodes[node]}${q.path}`;
    let response: Response;
    try {
      response = await (this.#options.fetch ?? fetch)(url, {
        method: q.method, headers, body: q.body ?? null, signal: q.signal ?? null, cache: "no-store",
        // What proves who the client is goes to the nodes that were named, and to nobody else.
        redirect: token === undefined ? "follow" : "error",
      });
    } catch (e) {
      throw new ConnectionError(`${q.method} ${url}`, e);
    }
    if (response.ok) return response;
    throw nodeError(response.status, await response.text().catch(() => ""), retryAfter(response.headers.get("Retry-After")), response.statusText);
  }

  #leave(node: number): void {
    if (this.#current === node) this.#current = (node + 1) % this.#nodes.length;
  }
}

class OrderError extends Error {}

function above(generation: number | undefined): string {
  return generation === undefined || generation === 0 ? "" : `?from=${generation}`;
}

function heightOf(value: string | null): number | undefined {
  return value !== null && /^[0-9]+$/.test(value) && Number(value) <= maxNumber ? Number(value) : undefined;
}

function told(body: string): { code: string; message: string } | undefined {
  try {
    const { error } = errorReader.read(parseJson(body), "");
    return error.code === "" ? undefined : error;
  } catch {
    return undefined; // an answer of a proxy
  }
}

function nodeError(status: number, body: string, after: number, statusText: string): NodeError {
  const error = told(body);
  if (error !== undefined) return new NodeError(status, error.code, error.message, after);
  const plain = body.trim();
  return new NodeError(status, "", plain === "" || /[\n<]/.test(plain) ? statusText : plain, after);
}

function streamError(data: string): Error {
  const error = told(data);
  return error === undefined ? new OrderError(`stream: an error event that holds none: ${data.slice(0, 200)}`) : new NodeError(0, error.code, error.message);
}

// Seconds, or a date (RFC 9110, section 10.2.3), in milliseconds.
function retryAfter(value: string | null): number {
  if (value === null) return 0;
  const ms = /^[0-9]+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(0, ms), maxRetryAfter);
}

// 0.1 s, doubled each time up to 5 s, each half as long or half as long again at random, so that clients
// that failed together do not return together.
class Pauses {
  #next = 100;

  next(): number {
    const out = this.#next * (0.5 + Math.random());
    this.#next = Math.min(2 * this.#next, 5000);
    return out;
  }

  reset(): void {
    this.#next = 100;
  }
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }, ms);
    if (signal?.aborted) aborted();
    signal?.addEventListener("abort", aborted, { once: true });
  });
}

// As many messages as fit in a request, at least one: repeated uvarint length and that many bytes.
function encodeBatch(messages: readonly Uint8Array[], first: number, most: number): { body: Uint8Array<ArrayBuffer>; count: number } {
  const parts: Uint8Array[] = [];
  let [size, count] = [0, 0];
  for (let i = first; i < messages.length && count < most; i++, count++) {
    const m = messages[i] as Uint8Array;
    if (count > 0 && size + 10 + m.length > maxRequestBytes) break;
    const length = uvarint(m.length);
    parts.push(length, m);
    size += length.length + m.length;
  }
  const body = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return { body, count };
}

function uvarint(n: number): Uint8Array {
  const out: number[] = [];
  for (; n >= 0x80; n = Math.floor(n / 0x80)) out.push((n % 0x80) | 0x80);
  return Uint8Array.from([...out, n]);
}
