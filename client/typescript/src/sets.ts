// The documents that readers trust, and the rules of validator sets.

import { textBytes } from "./bytes.js";
import { checkpointReader, genesisReader, MiB, type Checkpoint, type Genesis, type NamedValidator, type ValidatorSet } from "./documents.js";
import { keyProblem } from "./ed25519.js";
import { refuse } from "./errors.js";
import { firstSet, withoutNames } from "./hashes.js";
import { noHash, readDocument } from "./schema.js";

const chainIdForm = /^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$/;
const maxValidators = 100;
// The order of the groups of BLS12-381. VRF keys are below; hex of one length compares as numbers do.
const fieldOrder = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";

function within(what: string, value: number, low: number, high: number): void {
  if (value < low || value > high) refuse("document", `${what} is ${value}, allowed are ${low} to ${high}`);
}

function checkChainId(id: string): void {
  if (!chainIdForm.test(id)) {
    refuse("document", `chain_id ${JSON.stringify(id)}: want 1 to 64 of a-z, 0-9, '-' and '.', a letter or digit at both ends`);
  }
}

/** Checks size, threshold, Delta and keys of a set. */
export function checkSet(s: ValidatorSet): void {
  const n = s.validators.length;
  within("the size of the validator set", n, 1, maxValidators);
  if (2 * s.threshold <= n || s.threshold > n) refuse("document", `threshold ${s.threshold} of ${n} validators: want more than half, and at most all`);
  if (s.synchrony_delta_ms !== 0) within("synchrony_delta_ms", s.synchrony_delta_ms, 10, 60_000);
  const keys = new Set<string>([noHash]);
  s.validators.forEach((v, i) => {
    for (const key of [v.public_key, v.vrf_key]) {
      if (keys.has(key)) refuse("document", `validator ${i} has a key of zeros, or one that is in the set already: ${key}`);
      keys.add(key);
    }
  });
  s.validators.forEach((v, i) => {
    const problem = keyProblem(v.public_key);
    if (problem !== undefined) refuse("document", `validator ${i} has the public key ${v.public_key}: ${problem}`);
    if (v.vrf_key >= fieldOrder) refuse("document", `validator ${i} has a VRF key at or above the order of the field: ${v.vrf_key}`);
  });
}

function checkNames(validators: readonly NamedValidator[]): void {
  const names = new Set<string>();
  validators.forEach((v, i) => {
    const bytes = textBytes(v.name).length;
    if (bytes < 1 || bytes > 63 || names.has(v.name)) {
      refuse("document", `validator ${i} is named ${JSON.stringify(v.name)}: want 1 to 63 bytes, each name once`);
    }
    names.add(v.name);
  });
}

/** Reads a genesis document of at most 1 MiB and checks every member. */
export function readGenesis(document: string | Uint8Array): Genesis {
  const g = readDocument(genesisReader, document, MiB);
  checkGenesis(g);
  return g;
}

export function checkGenesis(g: Genesis): void {
  within("version", g.version, 1, 1);
  checkChainId(g.chain_id);
  checkNames(g.validators);
  checkSet(withoutNames(firstSet(g)));
  const p = g.parameters;
  within("min_block_interval_ms", p.min_block_interval_ms, 0, 60_000);
  within("beacon_interval", p.beacon_interval, 1, 1 << 20);
  within("max_message_bytes", p.max_message_bytes, 1, 4 * MiB);
  within("max_block_bytes", p.max_block_bytes, p.max_message_bytes + 8, 16 * MiB);
  within("round_timeout_ms", p.round_timeout_ms, 10, 600_000);
  within("max_round_timeout_ms", p.max_round_timeout_ms, p.round_timeout_ms, 3_600_000);
}

/** Reads a checkpoint of at most 1 MiB and checks every member. */
export function readCheckpoint(document: string | Uint8Array): Checkpoint {
  const c = readDocument(checkpointReader, document, MiB);
  checkCheckpoint(c);
  return c;
}

export function checkCheckpoint(c: Checkpoint): void {
  within("version", c.version, 1, 1);
  checkChainId(c.chain_id);
  if (c.hash === noHash) refuse("document", `hash is zero, want that of the header at height ${c.height}`);
  const generation = c.set.generation;
  if (generation > c.height || (generation === 0 && c.height > 0)) {
    refuse("document", `a set of generation ${generation} at height ${c.height}: each change takes a height, and generation 0 is of height 0`);
  }
  checkSet(c.set);
}
