// The newest of the chain, kept up to date while the page is visible.

import { NodeError, type Block, type Status, type Validators } from "@diseq/client";

import type { Known } from "./condition.js";
import { nodeTime, session } from "./session.js";
import { Store } from "./store.js";

/** How many of the last blocks are kept. */
export const kept = 100;
/** How many sets of validators are kept: the last blocks are of few. */
const setsKept = 20;
/** For how many seconds messages are counted. */
export const counted = 60;
const statusEvery = 1000;
const validatorsEvery = 3000;
const again = 1000;
/** Many blocks in a short time are drawn at once. */
const drawEvery = 150;

export interface Live {
  status: Status | undefined;
  validators: Validators | undefined;
  /** The sets of validators that made the last blocks, by their hashes. */
  sets: ReadonlyMap<string, Validators>;
  /** Why the newest question got no answer. */
  problem: unknown;
  /** Why the node does not show its blocks: it refuses to. */
  unread: unknown;
  /** When the last answer came, of performance.now(). */
  answeredAt: number | undefined;
  /** When the last final block came, of performance.now(); one from before the page by the clocks. */
  blockAt: number | undefined;
  /** The last blocks without their messages, in rising order. */
  blocks: Block[];
  /** Messages by the second of the timestamps of their blocks, from the first block that the page read. */
  seconds: ReadonlyMap<number, number>;
  /** The timestamp of that block, in milliseconds; undefined without one. 0 is the beginning of the chain. */
  countedFrom: number | undefined;
  /** From the timestamp of a block until this node saw it final, in milliseconds. */
  latencies: { height: number; ms: number }[];
  /** The page is hidden, and asks nothing. */
  paused: boolean;
}

const empty: Live = {
  status: undefined, validators: undefined, sets: new Map(), problem: undefined, unread: undefined, answeredAt: undefined, blockAt: undefined, blocks: [],
  seconds: new Map(), countedFrom: undefined, latencies: [], paused: false,
};

export const live = new Store<Live>(empty);

let next: Partial<Live> = {};
let drawing = false;

// Changes what is known, and draws it soon.
function change(part: Partial<Live>): void {
  next = { ...next, ...part };
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    live.set({ ...live.value, ...next });
    next = {};
  }, drawEvery);
}

const current = (): Live => ({ ...live.value, ...next });

/** What is known at a time of performance.now(), as the conditions want it. */
export function known(l: Live, now: number): Known {
  return {
    status: l.status, problem: l.problem, validators: l.validators?.validators,
    sinceAnswer: l.answeredAt === undefined ? undefined : now - l.answeredAt, sinceBlock: l.blockAt === undefined ? undefined : now - l.blockAt,
  };
}

let control: AbortController | undefined;
// The height of the block that blockAt is about.
let dated = -1;

/** Follows the node until the page is hidden or another token is used. */
export function follow(): void {
  control?.abort();
  control = undefined;
  if (document.hidden) {
    change({ paused: true });
    return;
  }
  control = new AbortController();
  const signal = control.signal;
  dated = -1;
  change({ paused: false });
  void repeat(statusEvery, signal, () => askStatus(signal));
  void repeat(validatorsEvery, signal, async () => change({ validators: await session.value.validators({ signal }) }));
  void repeat(again, signal, async () => {
    try {
      await readBlocks(signal);
    } catch (error) {
      if (!signal.aborted && error instanceof NodeError && !error.temporary) change({ unread: error });
      throw error;
    }
  });
}

/** Follows from now on: when the page is shown again, and with each new token. */
export function begin(): void {
  document.addEventListener("visibilitychange", follow);
  session.subscribe(() => {
    live.set({ ...empty });
    next = {};
    follow();
  });
  follow();
}

// Repeats what ends or fails, with a pause.
async function repeat(pause: number, signal: AbortSignal, step: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    try {
      await step();
    } catch {
      // The status says whether the node answers.
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

// A node that hangs counts as one that does not answer.
const patience = 5000;

async function askStatus(signal: AbortSignal): Promise<void> {
  let status: Status;
  try {
    status = await session.value.status({ signal: AbortSignal.any([signal, AbortSignal.timeout(patience)]) });
  } catch (problem) {
    if (!signal.aborted) change({ problem });
    return;
  }
  if (signal.aborted) return;
  const now = performance.now();
  const part: Partial<Live> = { status, problem: undefined, answeredAt: now };
  const { latencies } = current();
  const final = status.finalized_timestamp ?? 0;
  if (final > 0 && status.height > 0) {
    if (status.height !== latencies.at(-1)?.height) {
      part.latencies = [...latencies, { height: status.height, ms: Math.max(0, final - status.block_timestamp) }].slice(-kept);
    }
    if (status.height > dated) {
      dated = status.height;
      part.blockAt = now - Math.max(0, nodeTime() - final);
    }
  }
  change(part);
}

async function readBlocks(signal: AbortSignal): Promise<void> {
  const client = session.value;
  const { header } = await client.block("latest", { messages: false, signal });
  const from = Math.max(0, header.height - kept + 1);
  const { blocks } = await client.blocks(from, kept, { messages: false, signal });
  change({ unread: undefined });
  add(blocks);
  await readSets(blocks, signal);
  const above = (blocks.at(-1)?.header.height ?? header.height) + 1;
  for await (const block of client.stream({ from: above, messages: false, signal })) {
    add([block]);
    dated = block.header.height;
    change({ blockAt: performance.now() });
    await readSets([block], signal);
  }
}

// The last blocks may be older than the set in force, and each set has names of its own.
async function readSets(blocks: readonly Block[], signal: AbortSignal): Promise<void> {
  for (const { header } of blocks) {
    const { sets } = current();
    if (header.height === 0 || sets.has(header.validators_hash)) continue;
    const set = await session.value.validators({ height: header.height, signal }).catch(() => undefined);
    if (set === undefined) return; // the page shows indices, and the next block asks again
    change({ sets: new Map([...sets, [header.validators_hash, set] as const].slice(-setsKept)) });
  }
}

function add(blocks: Block[]): void {
  count(blocks);
  const have = current().blocks;
  const below = blocks[0]?.header.height ?? Infinity;
  // What is read again replaces what was there: its certificate may be stronger.
  const joined = [...have.filter((b) => b.header.height < below), ...blocks].slice(-kept);
  const whole = joined.findLastIndex((b, i) => i > 0 && b.header.height !== (joined[i - 1] as Block).header.height + 1);
  change({ blocks: whole > 0 ? joined.slice(whole) : joined });
}

// A block that was counted is not counted again. After a gap, as of a page that was hidden, all begins anew.
function count(blocks: readonly Block[]): void {
  const [first] = blocks;
  if (first === undefined) return;
  const { blocks: have, seconds: before, countedFrom } = current();
  const last = have.at(-1)?.header.height ?? -1;
  const gap = countedFrom === undefined || first.header.height > last + 1;
  const seconds = new Map(gap ? [] : before);
  for (const { header } of blocks) {
    if (!gap && header.height <= last) continue;
    const second = Math.floor(header.timestamp / 1000);
    seconds.set(second, (seconds.get(second) ?? 0) + header.messages_count);
  }
  const oldest = Math.floor(nodeTime() / 1000) - 2 * counted;
  for (const second of seconds.keys()) if (second < oldest) seconds.delete(second);
  change({ seconds, countedFrom: gap ? (first.header.height === 0 ? 0 : first.header.timestamp) : countedFrom });
}

/** The name of a validator of a set, by default of the one in force; its index where the set is not known. */
export function nameOf(l: Live, index: number, setHash?: string): string {
  const set = setHash === undefined ? l.validators : l.sets.get(setHash);
  return set?.validators[index]?.name ?? `#${index}`;
}
