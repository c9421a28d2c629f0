import { describe, expect, test } from "vitest";

import { leaderOrder, nextBeacon, verifyCommitment, verifyingKey, verifyVrf, vrfInput } from "../src/beacon.js";
import { fromHex, vectors } from "./files.js";

interface Vectors {
  verifying_key: string;
  proofs: { chain_id: string; epoch: number | bigint; beacon: string; public_key: string; input: string; output: string; proof: string }[];
  beacons: { beacon: string; epoch: number | bigint; output?: string | null; next: string }[];
  leaders: { chain_id: string; beacon: string; height: number | bigint; n: number; order: number[] }[];
}
const v = vectors<Vectors>("node/vrf/testdata/vectors.json");

test("the verifying key is that of the nodes", () => {
  expect(verifyingKey).toBe(v.verifying_key);
});

test.each(v.beacons)("the beacon after epoch $epoch", (b) => {
  expect(nextBeacon(b.beacon, b.epoch, b.output ?? undefined)).toBe(b.next);
});

test.each(v.leaders)("the leaders of height $height of $n validators", (l) => {
  expect(leaderOrder(l.chain_id, l.beacon, l.height, l.n)).toEqual(l.order);
});

describe.each(v.proofs)("the proof of epoch $epoch", (p) => {
  const proof = fromHex(p.proof);

  test("verifies", () => {
    expect(vrfInput(p.chain_id, p.epoch, p.beacon)).toBe(p.input);
    expect(verifyVrf(p.public_key, p.input, p.output, proof)).toBe(true);
    if (typeof p.epoch === "number") verifyCommitment({ epoch: p.epoch, validator: 0, output: p.output, proof }, p.chain_id, p.beacon, p.public_key);
  });

  test("does not verify when a part is altered", () => {
    const other = "11".repeat(32);
    expect(verifyVrf(other, p.input, p.output, proof)).toBe(false);
    expect(verifyVrf(p.public_key, other, p.output, proof)).toBe(false);
    expect(verifyVrf(p.public_key, p.input, other, proof)).toBe(false);
    expect(verifyVrf(p.public_key, p.input, "ff".repeat(32), proof)).toBe(false);
    expect(() => verifyCommitment({ epoch: 3, validator: 0, output: p.output, proof }, p.chain_id, p.beacon, p.public_key)).toThrow();
    // One bit in each field of the encoding.
    for (const at of [47, 95, 143, 191, 239, 287, 335, 383, 387, 419, 451, 483, 515, 547, 579, 627, 659, 663]) {
      const altered = proof.slice();
      altered[at] = (altered[at] as number) ^ 1;
      expect(verifyVrf(p.public_key, p.input, p.output, altered), `byte ${at}`).toBe(false);
    }
    for (const [first, why] of [[0x40, "infinity, not compressed"], [0xe0, "infinity with a sign"], [0xc0, "infinity"], [0x9f, "x above the modulus"]] as const) {
      const altered = proof.slice();
      altered.fill(first === 0x9f ? 0xff : 0, 336, 384);
      altered[336] = first;
      expect(verifyVrf(p.public_key, p.input, p.output, altered), why).toBe(false);
    }
    expect(verifyVrf(p.public_key, p.input, p.output, proof.subarray(1))).toBe(false);
    expect(verifyVrf(p.public_key, p.input, p.output, new Uint8Array(664))).toBe(false);
  });
});
