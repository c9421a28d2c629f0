/**
 * The random beacon of a chain and the leaders that follow from it (docs/protocol.md, VRF). It stands apart
 * from the verifier: a receipt needs none of it, and the pairings of its proofs are large.
 */

import { bls12_381 as bls } from "@noble/curves/bls12-381.js";
import { sha256 } from "@noble/hashes/sha2.js";

import { fromHex, textBytes, toHex, Writer } from "./bytes.js";
import type { Commitment } from "./documents.js";
import { refuse } from "./errors.js";

const { Fr, Fp } = bls.fields;
const G1 = bls.G1.Point;
const G2 = bls.G2.Point;
type Point = InstanceType<typeof G1>;

/** The indices of the n validators of a height, in the order in which they lead its rounds. */
export function leaderOrder(chainId: string, beacon: string, height: number | bigint, n: number): number[] {
  const seed = sha256(new Writer().ascii("diseq/leader").text(chainId).hex(beacon).u64(height).finish());
  let [block, at, counter] = [new DataView(new ArrayBuffer(0)), 0, 0];
  const word = (): number => {
    if (at === block.byteLength) {
      const hash = sha256(new Writer().raw(seed).u32(counter++).finish());
      [block, at] = [new DataView(hash.buffer, hash.byteOffset, hash.length), 0];
    }
    at += 4;
    return block.getUint32(at - 4);
  };
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const m = i + 1;
    const limit = 2 ** 32 - (2 ** 32 % m);
    let w = word();
    while (w >= limit) w = word();
    const j = w % m;
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return order;
}

/** The beacon of the next epoch. The output is that of the commitment of this one, or undefined if no block carries one. */
export function nextBeacon(beacon: string, epoch: number | bigint, output?: string): string {
  const w = new Writer().ascii("diseq/beacon").hex(beacon).u64(epoch);
  return toHex(sha256((output === undefined ? w.ascii("missing") : w.hex(output)).finish()));
}

// hash_to_field of RFC 9380, one element, L = 48.
function hashToField(tag: string, message: Uint8Array): bigint {
  const t = new Writer().ascii(tag).u8(textBytes(tag).length).finish();
  const b0 = sha256(new Writer().raw(new Uint8Array(64)).raw(message).raw(Uint8Array.of(0, 48, 0)).raw(t).finish());
  const b1 = sha256(new Writer().raw(b0).u8(1).raw(t).finish());
  const b2 = sha256(new Writer().raw(b0.map((v, i) => v ^ (b1[i] as number))).u8(2).raw(t).finish());
  return Fr.create(BigInt(`0x${toHex(b1)}${toHex(b2).slice(0, 32)}`));
}

/** The input of the VRF of an epoch, in hex. The beacon is that of the epoch before, which is genesis' hash for epoch 0. */
export function vrfInput(chainId: string, epoch: number | bigint, beacon: string): string {
  return toHex(Fr.toBytes(hashToField("diseq/vrf", new Writer().text(chainId).u64(epoch).hex(beacon).finish())));
}

/** The VRF's verifying key: nine points in compressed form. */
export const verifyingKey =
  "873520174df850efd7a33d09e4eabbea56a0a2eb03f111f02bc17f0cec8237dac558ea048001900633f2e91e392fbbde" +
  "b168a8234624aa6d35229e14f45dc4d2dea7df9d3abba80ad8edce26b0df93ae1ebd4a059af34b1e47f38a170c5a07f8" +
  "ac7a07c4909dad1c3b3e5242ca35532b7395ffdb217f3da5e11e232070b0da79d4b8353b2425c35691455a020912a7e2" +
  "a7c46400ce99a3916bc4188f8589795370c1241eea6c2295bb09f8b85ddbb838d93c80dfe2c35530749a865bb8c0b6ef" +
  "8f10338be8d225beb2831ab6a67dd7c557accb0a5d23c393fd230c9e7601b6c570e15959ab65bf0637439a00bca7ea4e" +
  "b2cefa21726c3c8485e16eaee900fa87e3fe2c7c43484abee748ea38da9b2dc93999cad246e75b026d34b0e274664221" +
  "b0fc2d785da10d47966f9fce904b5f9e5b71860dcc95526e6dde5b4fe20ae2eecd436b552c03d37a777858f5627c3fd5" +
  "94814e74498dfae7db135f4c4bb08cc4e0137d1ba8a64ccb4151d6b93f13e996653c5901b4a2c71d234ea9c97c9dfd2b" +
  "b5bfd7dd8cdeb128843bc287230af38926187075cbfbefa81009a2ce615ac53d2914e5870cb452d2afaaab24f3499f72" +
  "185cbfee53492714734429b7b38608e23926c911cceceac9a36851477ba4c60b087041de621000edc98edada20c1def2";

interface Key {
  q: [Point, Point, Point, Point, Point]; // Ql, Qr, Qm, Qo, Qk
  s: [Point, Point, Point];
  tau: InstanceType<typeof G2>;
}

let parsedKey: Key | undefined;

function key(): Key {
  if (parsedKey === undefined) {
    const at = (i: number): Point => point(fromHex(verifyingKey.slice(96 * i, 96 * i + 96)));
    parsedKey = { q: [at(0), at(1), at(2), at(3), at(4)], s: [at(5), at(6), at(7)], tau: G2.fromHex(verifyingKey.slice(768)) };
  }
  return parsedKey;
}

// Reads a compressed point of G1, in one form only.
function point(b: Uint8Array): Point {
  const first = b[0] as number;
  const x = BigInt(`0x${toHex(Uint8Array.of(first & 0x1f, ...b.subarray(1)))}`);
  if ((first & 0x80) === 0) throw new Error("a point that is not compressed");
  if ((first & 0x40) !== 0) {
    if (first !== 0xc0 || x !== 0n) throw new Error("infinity with other bits");
    return G1.ZERO;
  }
  if (x >= Fp.ORDER) throw new Error("a coordinate at or above the modulus");
  const p = G1.fromBytes(b);
  if (!p.isTorsionFree()) throw new Error("a point outside of the subgroup");
  return p;
}

function scalar(b: Uint8Array): bigint {
  const v = BigInt(`0x${toHex(b)}`);
  if (v >= Fr.ORDER) throw new Error("a field element at or above the order");
  return v;
}

// Points in hashes are 96 bytes, uncompressed.
function uncompressed(p: Point): Uint8Array {
  if (p.is0()) return Uint8Array.of(0x40, ...new Uint8Array(95));
  const { x, y } = p.toAffine();
  return new Writer().raw(Fp.toBytes(x)).raw(Fp.toBytes(y)).finish();
}

function times(p: Point, k: bigint): Point {
  return k === 0n || p.is0() ? G1.ZERO : p.multiplyUnsafe(k);
}

// e(a, G2) = e(w, [tau]G2)
function pairs(a: Point, w: Point, tau: InstanceType<typeof G2>): boolean {
  const sides = [{ g1: a, g2: G2.BASE }, { g1: w.negate(), g2: tau }].filter((s) => !s.g1.is0());
  return sides.length === 0 || bls.fields.Fp12.eql(bls.pairingBatch(sides), bls.fields.Fp12.ONE);
}

const rows = 1024n;
const omega = 0x325db5c3debf77a18f4de02c0f776af3ea437f9626fc085e3c28d666a5c2d854n;
const u = 7n;

/** Whether a proof shows that an output is the VRF of an input under a public key. All but the proof are 32 bytes in hex. */
export function verifyVrf(publicKey: string, input: string, output: string, proof: Uint8Array): boolean {
  try {
    return plonk([publicKey, input, output].map((v) => scalar(fromHex(v))) as [bigint, bigint, bigint], proof);
  } catch {
    return false; // it does not decode
  }
}

function plonk(publicInputs: [bigint, bigint, bigint], proof: Uint8Array): boolean {
  const view = new DataView(proof.buffer, proof.byteOffset, proof.length);
  if (proof.length !== 664 || view.getUint32(384) !== 6 || view.getUint32(660) !== 0) return false;
  const p = (at: number): Point => point(proof.subarray(at, at + 48));
  const f = (at: number): bigint => scalar(proof.subarray(at, at + 32));
  const [L, R, O, Z, H0, H1, H2, W, W2] = [p(0), p(48), p(96), p(144), p(192), p(240), p(288), p(336), p(580)] as const;
  const [lin, l, r, o, s1, s2, z2] = [f(388), f(420), f(452), f(484), f(516), f(548), f(628)] as const;
  const { q: [Ql, Qr, Qm, Qo, Qk], s: [S1, S2, S3], tau } = key();

  const challenge = (name: string, ...parts: Uint8Array[]): [Uint8Array, bigint] => {
    const w = new Writer().ascii(name);
    for (const part of parts) w.raw(part);
    const hash = sha256(w.finish());
    return [hash, Fr.create(BigInt(`0x${toHex(hash)}`))];
  };
  const points = (...ps: Point[]): Uint8Array[] => ps.map(uncompressed);
  const scalars = (...vs: bigint[]): Uint8Array[] => vs.map((v) => Fr.toBytes(v));
  const [gammaBytes, gamma] = challenge("gamma", ...points(S1, S2, S3, Ql, Qr, Qm, Qo, Qk), ...scalars(...publicInputs), ...points(L, R, O));
  const [betaBytes, beta] = challenge("beta", gammaBytes);
  const [alphaBytes, alpha] = challenge("alpha", betaBytes, ...points(Z));
  const [, zeta] = challenge("zeta", alphaBytes, ...points(H0, H1, H2));

  const sum = (...vs: bigint[]): bigint => Fr.create(vs.reduce((a, b) => a + b));
  const product = (...vs: bigint[]): bigint => vs.reduce((a, b) => Fr.mul(a, b));
  const vH = Fr.sub(Fr.pow(zeta, rows), 1n);
  const lagrange = (i: bigint): bigint => {
    const w = Fr.pow(omega, i);
    return product(w, vH, Fr.inv(Fr.mul(rows, Fr.sub(zeta, w))));
  };
  const L0 = lagrange(0n);
  const pi = sum(product(publicInputs[0], L0), product(publicInputs[1], lagrange(1n)), product(publicInputs[2], lagrange(2n)));
  const a = sum(l, product(beta, s1), gamma);
  const b = sum(r, product(beta, s2), gamma);
  const c = product(sum(l, product(beta, zeta), gamma), sum(r, product(beta, u, zeta), gamma), sum(o, product(beta, u, u, zeta), gamma));
  const alpha2L0 = product(alpha, alpha, L0);
  if (lin !== Fr.neg(sum(pi, Fr.neg(alpha2L0), product(alpha, a, b, sum(o, gamma), z2)))) return false;

  const step = Fr.pow(zeta, rows + 2n);
  const quotient = H0.add(times(H1, step)).add(times(H2, product(step, step)));
  const D = [
    times(Ql, l), times(Qr, r), times(Qm, product(l, r)), times(Qo, o), Qk, times(S3, product(alpha, beta, z2, a, b)),
    times(Z, Fr.sub(alpha2L0, product(alpha, c))), times(quotient, vH).negate(),
  ].reduce((x, y) => x.add(y));
  const [, v] = challenge("gamma", ...scalars(zeta), ...points(D, L, R, O, S1, S2), ...scalars(lin, l, r, o, s1, s2, z2));
  let F = D;
  let e = lin;
  let power = 1n;
  for (const [commitment, value] of [[L, l], [R, r], [O, o], [S1, s1], [S2, s2]] as const) {
    power = product(power, v);
    F = F.add(times(commitment, power));
    e = sum(e, product(value, power));
  }
  return pairs(F.subtract(times(G1.BASE, e)).add(times(W, zeta)), W, tau) &&
    pairs(Z.subtract(times(G1.BASE, z2)).add(times(W2, product(zeta, omega))), W2, tau);
}

/**
 * Verifies the output that a block reveals. The beacon is that of the epoch before the commitment's, which
 * the headers of that epoch carry; it is genesis' hash for epoch 0. The key is that of the validator that
 * commitment.validator names, in the set of the first height of the epoch before.
 */
export function verifyCommitment(c: Commitment, chainId: string, beacon: string, vrfKey: string): void {
  if (!verifyVrf(vrfKey, vrfInput(chainId, c.epoch, beacon), c.output, c.proof)) {
    refuse("signature", `the proof of the output of epoch ${c.epoch} does not verify`);
  }
}
