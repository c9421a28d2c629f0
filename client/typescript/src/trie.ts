// Proofs of presence and absence in the state trie (docs/protocol.md, state trie).

import { sha256 } from "@noble/hashes/sha2.js";

import { fromHex, toHex, Writer } from "./bytes.js";
import type { TrieProof } from "./documents.js";
import { refuse } from "./errors.js";
import { messageId } from "./hashes.js";
import { noHash } from "./schema.js";

function bit(key: string, i: number): number {
  return (Number.parseInt(key.slice(2 * (i >> 3), 2 * (i >> 3) + 2), 16) >> (7 - (i & 7))) & 1;
}

function side(w: Writer, hash: string | null): Writer {
  return hash === null ? w.u8(0) : w.u8(1).u64LE(32).hex(hash);
}

function rootHash(left: string | null, right: string | null): string {
  return left === null && right === null ? noHash : toHex(sha256(side(side(new Writer().u8(0), left), right).finish()));
}

function branchHash(i: number, left: string, right: string): string {
  return toHex(sha256(side(side(new Writer().u64LE(1).u8(i).u8(0), left), right).finish()));
}

function leafHash(key: string, data: Uint8Array): string {
  const bits = new Uint8Array(256);
  fromHex(key).forEach((byte, i) => {
    for (let j = 0; j < 8; j++) bits[8 * i + j] = (byte >> (7 - j)) & 1;
  });
  const head = new Writer().u8(0).u64LE(256).raw(bits).u8(0).u8(1).u64LE(data.length).finish();
  return toHex(sha256.create().update(head).update(data).digest());
}

/** Decides whether a key is in the trie with a root; it refuses a proof that shows neither. */
export function verifyTrieProof(root: string, key: string, p: TrieProof): boolean {
  const wrong = (why: string): never => refuse("trie", `proof of key ${key}: ${why}`);
  if (p.key !== key) wrong(`it is of key ${p.key}`);
  const included = p.leaf !== null && p.leaf.key === key;
  if (p.kind !== (included ? "inclusion" : "absence")) wrong(`its kind ${JSON.stringify(p.kind)} does not fit its leaf`);
  const [first, ...branches] = p.nodes;
  if (first === undefined || branches.length > 255) return wrong(`it has ${p.nodes.length} nodes, want 1 to 256 and a leaf`);
  if (first.bit !== undefined) wrong("its root has a bit");
  if (rootHash(first.left, first.right) !== root || (p.root ?? noHash) !== root) wrong(`it leads to another root than ${root}`);
  let tested = 0;
  let want = bit(key, 0) === 0 ? first.left : first.right;
  if (want === null) {
    if (p.leaf !== null || branches.length > 0) wrong("nodes below an empty side of the root");
    return false;
  }
  for (const b of branches) {
    if (b.bit === undefined || b.left === null || b.right === null) return wrong("a branch lacks bit, left or right");
    if (b.bit <= tested) wrong(`a branch tests bit ${b.bit} after bit ${tested}`);
    if (branchHash(b.bit, b.left, b.right) !== want) wrong(`the branch on bit ${b.bit} does not have hash ${want}`);
    tested = b.bit;
    want = bit(key, tested) === 0 ? b.left : b.right;
  }
  const leaf = p.leaf;
  if (leaf === null) return wrong("it ends above a leaf");
  if (messageId(leaf.data) !== leaf.key) wrong(`the data of its leaf do not have key ${leaf.key}`);
  if (leafHash(leaf.key, leaf.data) !== want) wrong(`its leaf does not have hash ${want}`);
  if (included) return true;
  for (const i of [0, ...branches.map((b) => b.bit ?? 0)]) {
    if (bit(leaf.key, i) !== bit(key, i)) wrong(`its leaf is on another way: it differs in bit ${i}`);
  }
  return false;
}
