// The encodings and hashes of docs/protocol.md.

import { sha256 } from "@noble/hashes/sha2.js";

import { fromHex, textBytes, toHex, Writer } from "./bytes.js";
import type { Change, Certificate, Commitment, Genesis, Header, NextSet, ValidatorSet, Vote } from "./documents.js";

/** The protocol version that this package reads. */
export const protocolVersion = 2;

/** SHA-256 of a domain and an encoding, in hex. */
export function digest(domain: string, encoding: Uint8Array): string {
  return toHex(sha256.create().update(textBytes(domain)).update(encoding).digest());
}

/** The id of a message: it depends on the data alone. */
export function messageId(data: Uint8Array): string {
  const head = new Writer().raw(new Uint8Array(10)).u8(1).u64LE(data.length).finish();
  return toHex(sha256.create().update(head).update(data).digest());
}

export function encodeHeader(h: Header): Uint8Array {
  return new Writer()
    .u32(h.protocol_version).text(h.chain_id).u64(h.height).hex(h.parent_hash).u64(h.timestamp).u32(h.proposer)
    .hex(h.messages_root).u32(h.messages_count).u64(h.state_height).hex(h.state_root).hex(h.beacon)
    .hex(h.commitment_hash).hex(h.change_hash).hex(h.validators_hash).hex(h.next_validators_hash)
    .finish();
}

export function headerHash(h: Header): string {
  return digest("diseq/header", encodeHeader(h));
}

/** What the proposer of a block signs. */
export function headerSigning(hash: string): Uint8Array {
  return new Writer().ascii("diseq/header-signature").hex(hash).finish();
}

export function encodeCommitment(c: Commitment): Uint8Array {
  return new Writer().u64(c.epoch).u32(c.validator).hex(c.output).bytes(c.proof).finish();
}

export function commitmentHash(c: Commitment): string {
  return digest("diseq/commitment", encodeCommitment(c));
}

function writeSet(w: Writer, s: Omit<ValidatorSet, "validators"> & { validators: readonly { public_key: string; vrf_key: string }[] }): Writer {
  return w.u32(s.generation).u32(s.threshold).u32(s.synchrony_delta_ms)
    .list(s.validators, (v) => w.hex(v.public_key).hex(v.vrf_key));
}

export function encodeSet(s: ValidatorSet): Uint8Array {
  return writeSet(new Writer(), s).finish();
}

export function validatorsHash(s: ValidatorSet): string {
  return digest("diseq/validators", encodeSet(s));
}

function writeNext(w: Writer, s: NextSet): Writer {
  writeSet(w, s);
  for (const v of s.validators) w.text(v.name);
  return w;
}

export function encodeNext(s: NextSet): Uint8Array {
  return writeNext(new Writer(), s).finish();
}

/** The hash that endorsements sign. */
export function nextHash(s: NextSet): string {
  return digest("diseq/next", encodeNext(s));
}

export function encodeChange(c: Change): Uint8Array {
  const w = writeNext(new Writer(), c.next);
  return w.list(c.endorsements, (e) => w.u32(e.validator).hex(e.signature)).finish();
}

export function changeHash(c: Change): string {
  return digest("diseq/change", encodeChange(c));
}

/** The set of a genesis document, with the names of its members. */
export function firstSet(g: Genesis): NextSet {
  return { generation: 0, threshold: g.threshold, synchrony_delta_ms: g.synchrony_delta_ms, validators: g.validators };
}

/** A set without the names. */
export function withoutNames(s: NextSet): ValidatorSet {
  const validators = s.validators.map(({ public_key, vrf_key }) => ({ public_key, vrf_key }));
  return { generation: s.generation, validators, threshold: s.threshold, synchrony_delta_ms: s.synchrony_delta_ms };
}

export function encodeGenesis(g: Genesis): Uint8Array {
  const p = g.parameters;
  return writeNext(new Writer().u32(g.version).text(g.chain_id).u64(g.time_ms), firstSet(g))
    .u32(p.min_block_interval_ms).u32(p.beacon_interval).u32(p.max_message_bytes).u32(p.max_block_bytes)
    .u32(p.round_timeout_ms).u32(p.max_round_timeout_ms)
    .finish();
}

/** The genesis hash, which is also the beacon of epoch 0. */
export function genesisHash(g: Genesis): string {
  return digest("diseq/genesis", encodeGenesis(g));
}

/** The header of block 0. */
export function genesisHeader(g: Genesis): Header {
  const none = "00".repeat(32);
  const set = validatorsHash(withoutNames(firstSet(g)));
  return {
    protocol_version: protocolVersion, chain_id: g.chain_id, height: 0, parent_hash: none, timestamp: g.time_ms, proposer: 0,
    messages_root: toHex(sha256(new Uint8Array())), messages_count: 0, state_height: 0, state_root: none, beacon: genesisHash(g),
    commitment_hash: none, change_hash: none, validators_hash: set, next_validators_hash: set,
  };
}

const kinds = { "": 0, notarize: 1, nullify: 2, finalize: 3, propose: 4 } as const;

/** What a validator signs with a vote. */
export function voteSigning(chainId: string, v: Pick<Vote, "kind" | "height" | "round" | "block_hash">): Uint8Array {
  return new Writer().ascii("diseq/vote").text(chainId).u8(kinds[v.kind]).u64(v.height).u32(v.round).hex(v.block_hash).finish();
}

export function encodeVote(v: Vote): Uint8Array {
  return new Writer().u8(kinds[v.kind]).u64(v.height).u32(v.round).hex(v.block_hash).u32(v.validator).hex(v.signature).finish();
}

export function encodeCertificate(c: Certificate): Uint8Array {
  const w = new Writer().u8(kinds[c.kind]).u64(c.height).u32(c.round).hex(c.block_hash);
  return w.list(c.votes, (v) => w.u32(v.validator).hex(v.signature)).finish();
}

// The messages of a block are the leaves of an RFC 6962 tree. The timestamp is little-endian.
export function merkleLeaf(data: Uint8Array, timestamp: number): Uint8Array {
  return sha256.create().update(new Writer().u8(0).u32LE(timestamp).finish()).update(data).digest();
}

const one = Uint8Array.of(1);

function merkleNode(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256.create().update(one).update(left).update(right).digest();
}

/** The root over the messages of a block. */
export function messagesRoot(messages: readonly { data: Uint8Array; timestamp: number }[]): string {
  let level = messages.map((m) => merkleLeaf(m.data, m.timestamp));
  if (level.length === 0) return toHex(sha256(new Uint8Array()));
  while (level.length > 1) {
    const up: Uint8Array[] = [];
    for (let i = 0; i < level.length; i += 2) {
      const [left, right] = [level[i] as Uint8Array, level[i + 1]];
      up.push(right === undefined ? left : merkleNode(left, right));
    }
    level = up;
  }
  return toHex(level[0] as Uint8Array);
}

/** The root that an inclusion path leads to (RFC 9162, section 2.1.3.2); undefined for a path of another length. */
export function rootFromPath(leaf: Uint8Array, index: number, size: number, path: readonly string[]): string | undefined {
  if (index >= size) return undefined;
  // Indices have 32 bits and shifts of numbers are signed: division by 2 is exact.
  const half = (n: number): number => Math.floor(n / 2);
  let fn = index;
  let sn = size - 1;
  let r = leaf;
  for (const sibling of path) {
    if (sn === 0) return undefined;
    const p = fromHex(sibling);
    if (fn % 2 === 1 || fn === sn) {
      r = merkleNode(p, r);
      for (; fn % 2 === 0 && fn !== 0; fn = half(fn)) sn = half(sn);
    } else {
      r = merkleNode(r, p);
    }
    fn = half(fn);
    sn = half(sn);
  }
  return sn === 0 ? toHex(r) : undefined;
}
