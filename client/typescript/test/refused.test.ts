// The documents that every reader has to take or to refuse. The Go verifier is held to the same file.
import { describe, expect, test } from "vitest";

import {
  Eras, readBlock, readChanges, readCheckpoint, readEvidence, readGenesis, readIdentity, readProof, readReceipt, verifyBlock, verifyEvidence,
  verifyIdentity, verifyProof, verifyReceipt, VerificationError, DocumentError,
} from "../src/verify.js";
import { samples, sampleBytes, trusted, type Sample } from "./files.js";

const genesis = trusted();
const checkpoint = readCheckpoint(sampleBytes(samples.accepted.find((s) => s.kind === "checkpoint") as Sample));

const readers: Record<string, (document: Uint8Array) => void> = {
  genesis: (d) => void readGenesis(d),
  checkpoint: (d) => void readCheckpoint(d),
  receipt: (d) => verifyReceipt(readReceipt(d), genesis),
  "receipt from checkpoint": (d) => verifyReceipt(readReceipt(d), checkpoint),
  changes: (d) => new Eras(genesis).followFinal(readChanges(d).changes),
  evidence: (d) => verifyEvidence(readEvidence(d), genesis),
  identity: (d) => verifyIdentity(readIdentity(d), genesis.chain_id),
  block: (d) => verifyBlock(readBlock(d), genesis),
  proof: (d) => verifyProof(readProof(d), genesis),
};
// Nodes alone read these.
const ofNodes = ["peers", "configuration", "submission"];

test("each kind of the file has a reader", () => {
  const kinds = new Set([...samples.accepted, ...samples.refused].map((s) => s.kind));
  expect([...kinds].sort()).toEqual([...Object.keys(readers), ...ofNodes].sort());
});

describe.each(Object.entries(readers))("%s", (kind, read) => {
  const of = (list: Sample[]) => list.filter((s) => s.kind === kind);

  test.each(of(samples.accepted).map((s) => [s.why ?? "plain", s] as const))("accepted: %s", (_, s) => {
    read(sampleBytes(s));
  });

  // One test for all: hundreds of them would be slow to report.
  test("refused", () => {
    const refused = of(samples.refused);
    expect(refused.length).toBeGreaterThan(3);
    const taken = refused.filter((s) => {
      try {
        read(sampleBytes(s));
        return true;
      } catch (e) {
        // Anything else is a mistake in the reader, and no refusal.
        if (!(e instanceof VerificationError || e instanceof DocumentError)) throw e;
        return false;
      }
    });
    expect(taken.map((s) => s.why)).toEqual([]);
  });
});

// Every member of a document with another value, one at a time. Each of them takes part in what is proven.
function* alterations(value: unknown): Generator<unknown> {
  if (typeof value === "number") yield value + 1;
  else if (typeof value === "boolean") yield !value;
  else if (typeof value === "string") yield (value.startsWith("1") ? "2" : "1") + value.slice(1);
  else if (Array.isArray(value)) {
    if (value.length > 0) yield [...value, value[0]];
    for (const [i, v] of value.entries()) {
      yield value.toSpliced(i, 1);
      for (const other of alterations(v)) yield value.with(i, other);
    }
  } else if (value !== null && typeof value === "object") {
    for (const [name, v] of Object.entries(value)) {
      const { [name]: _, ...rest } = value as Record<string, unknown>;
      if (!isZero(v)) yield rest;
      for (const other of alterations(v)) yield { ...value, [name]: other };
    }
  }
}

// An absent member counts as zero.
function isZero(v: unknown): boolean {
  return v === null || v === 0 || v === false || v === "" || (Array.isArray(v) && v.length === 0) || (typeof v === "string" && /^0+$/.test(v) && v.length === 64);
}

test.each([["receipt", 0], ["receipt", 4], ["block", 0], ["block", 4], ["proof", 0], ["proof", 1], ["evidence", 5]] as const)("%s %d altered anywhere is refused", (kind, n) => {
  const s = samples.accepted.filter((a) => a.kind === kind)[n] as Sample;
  const read = readers[kind] as (document: Uint8Array) => void;
  let count = 0;
  for (const altered of alterations(JSON.parse(s.text as string))) {
    const document = JSON.stringify(altered);
    count++;
    expect(() => read(new TextEncoder().encode(document)), document).toThrow();
  }
  expect(count).toBeGreaterThan(30);
});
