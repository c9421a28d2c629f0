// Every encoding and hash against the files that the Go implementation is held to.
import { describe, expect, test } from "vitest";

import { fromBase64, toHex } from "../src/bytes.js";
import type { Change, Commitment } from "../src/documents.js";
import { verifySignature } from "../src/ed25519.js";
import {
  changeHash, commitmentHash, encodeChange, encodeCommitment, encodeGenesis, encodeHeader, encodeNext, firstSet, genesisHash, genesisHeader,
  headerHash, messageId, messagesRoot, nextHash, rootFromPath, merkleLeaf, validatorsHash, withoutNames,
} from "../src/hashes.js";
import {
  Eras, encodeSigned, parseSigned, readChanges, readCheckpoint, readEvidence, readGenesis, readReceipt, signMessage, verifyEvidence,
  verifyReceipt, verifySigned, verifyTrieProof,
} from "../src/verify.js";
import { parseJson } from "../src/json.js";
import { trieProofReader } from "../src/documents.js";
import { fromHex, text, vectors } from "./files.js";

const v = vectors<Record<string, any>>("node/chain/testdata/vectors.json");

describe("the chain", () => {
  const genesis = readGenesis(text(v.genesis));
  const receipt = readReceipt(text(v.receipt));
  const changes = readChanges(text({ changes: v.changes, next: null }));
  // The change of the vectors is the first of the chain, with the endorsements of its encoding.
  const change = changes.changes[0] as Change;

  test("genesis", () => {
    expect(toHex(encodeGenesis(genesis))).toBe(v.genesis_encoding);
    expect(genesisHash(genesis)).toBe(v.genesis_hash);
    expect(headerHash(genesisHeader(genesis))).toBe(v.genesis_header_hash);
    expect(validatorsHash(withoutNames(firstSet(genesis)))).toBe(v.validators_hash);
  });

  test("message id", () => {
    expect(messageId(fromHex("0102030405"))).toBe(v.message_id_0102030405);
  });

  test("header", () => {
    expect(toHex(encodeHeader(receipt.header))).toBe(v["encoding of header"]);
    expect(headerHash(receipt.header)).toBe(v.header_hash);
  });

  test("commitment", () => {
    const c: Commitment = { epoch: 0, validator: 0, output: "01" + "00".repeat(31), proof: new TextEncoder().encode("proof") };
    expect(toHex(encodeCommitment(c))).toBe(v["encoding of commitment"]);
    expect(commitmentHash(c)).toBe(v.commitment_hash);
  });

  test("next set and change", () => {
    expect(toHex(encodeNext(change.next))).toBe(v.next_encoding);
    expect(nextHash(change.next)).toBe(v.next_hash);
    expect(validatorsHash(withoutNames(change.next))).toBe(v.next_validators_hash);
    const encoded = toHex(encodeChange(change));
    expect(encoded.startsWith(v.next_encoding)).toBe(true);
    expect(changeHash(change)).toBe(v.changes[0].header.change_hash);
  });

  test("messages root and inclusion path", () => {
    const messages = [0, 1, 2].map((i) => ({ data: new TextEncoder().encode(`message ${i}`), timestamp: i }));
    expect(messagesRoot(messages)).toBe(v.messages_root);
    const m = messages[1] as (typeof messages)[0];
    expect(rootFromPath(merkleLeaf(m.data, m.timestamp), 1, 3, v.receipt.inclusion.path)).toBe(v.messages_root);
  });

  test("receipts before and after changes, from genesis and from a checkpoint", () => {
    for (const name of ["receipt", "receipt_after_change", "receipt_after_changes"]) verifyReceipt(readReceipt(text(v[name])), genesis);
    verifyReceipt(readReceipt(text(v.receipt_from_checkpoint)), readCheckpoint(text(v.checkpoint)));
    expect(() => verifyReceipt(readReceipt(text(v.receipt_from_checkpoint)), genesis)).toThrow();
    const eras = new Eras(genesis);
    eras.followFinal(changes.changes);
    expect(eras.checkpoint()).toEqual(readCheckpoint(text(v.checkpoint)));
    verifyReceipt(readReceipt(text(v.receipt_from_checkpoint)), eras);
  });

  test("evidence", () => {
    for (const e of [...v.evidence.map((e: object) => ({ ...e, validator_changes: [] })), v.evidence_after_change]) {
      verifyEvidence(readEvidence(text(e)), genesis);
    }
  });
});

test.each(v.signatures as { case: string; public_key: string; message: string; signature: string; valid: boolean }[])(
  "a doubtful signature: $case", (s) => {
    expect(verifySignature(s.public_key, fromHex(s.message), s.signature)).toBe(s.valid);
  },
);

interface Signed { case: string; chain_id: string; author: string; content: string; data: string; id: string; valid: boolean }
const signed = vectors<Signed[]>("client/testdata/signed.json");
const honest = signed[0] as Signed;

test.each(signed)("a signed message: $case", (s) => {
  const m = parseSigned(fromHex(s.data));
  const verify = () => {
    if (m === undefined) throw new Error("it is no signed message");
    verifySigned(m, s.chain_id ?? honest.chain_id, s.author ?? m.author);
  };
  if (!s.valid) {
    expect(verify).toThrow();
    return;
  }
  verify();
  expect(toHex((m as { content: Uint8Array }).content)).toBe(s.content);
  expect(messageId(fromHex(s.data))).toBe(s.id);
  const again = signMessage(new Uint8Array(32).fill(1), s.chain_id, fromHex(s.content));
  expect(toHex(encodeSigned(again))).toBe(s.data);
  expect(() => verifySigned(again, s.chain_id, "11".repeat(32))).toThrow();
  expect(() => verifySigned(again, "other", s.author)).toThrow();
});

interface Trie { messages: string[]; root: string; proofs: { key: string; present: boolean; proof: object }[] }
const { tries } = vectors<{ tries: Trie[] }>("node/trie/testdata/vectors.json");

test.each(tries.map((t) => [t.messages.length, t] as const))("a trie of %d messages", (_, t) => {
  expect(t.proofs.length).toBeGreaterThan(0);
  const ids = t.messages.map((m) => messageId(fromBase64(m) as Uint8Array));
  for (const p of t.proofs) {
    const proof = trieProofReader.read(parseJson(text(p.proof)), "");
    expect(verifyTrieProof(t.root, p.key, proof)).toBe(p.present);
    expect(ids.includes(p.key)).toBe(p.present);
    // The same proof shows nothing for another root, nor about another key.
    expect(() => verifyTrieProof("11".repeat(32), p.key, proof)).toThrow();
    expect(() => verifyTrieProof(t.root, "22".repeat(32), proof)).toThrow();
  }
});
