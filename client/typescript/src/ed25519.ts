// Ed25519 as docs/protocol.md fixes it under "Conventions".
//
// The verify functions of @noble/curves multiply by the cofactor, so they take signatures that other
// verifiers of DISEQ refuse. This one compares the encoding of [S]B - [k]A with the bytes of R.

import { ed25519 } from "@noble/curves/ed25519.js";
import { sha512 } from "@noble/hashes/sha2.js";

import { equalBytes, fromHex } from "./bytes.js";

const { Point } = ed25519;
const order = Point.Fn.ORDER;

function littleEndian(bytes: Uint8Array): bigint {
  let out = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) out = (out << 8n) | BigInt(bytes[i] as number);
  return out;
}

/** Whether a signature of a message verifies under a public key. Both are in hex. */
export function verifySignature(publicKey: string, message: Uint8Array, signature: string): boolean {
  const key = fromHex(publicKey);
  const bytes = fromHex(signature);
  if (key.length !== 32 || bytes.length !== 64) return false;
  const r = bytes.subarray(0, 32);
  const s = littleEndian(bytes.subarray(32));
  if (s >= order) return false;
  let a;
  try {
    a = Point.fromBytes(key, true); // also a y that is not reduced, and x = 0 with the sign bit
  } catch {
    return false;
  }
  const k = littleEndian(sha512.create().update(r).update(key).update(message).digest()) % order;
  const found = Point.BASE.multiplyUnsafe(s).subtract(a.multiplyUnsafe(k));
  return equalBytes(found.toBytes(), r);
}

const known = new Set<string>();

/** Why no owner has this public key: it is not the canonical encoding of a point of prime order. */
export function keyProblem(publicKey: string): string | undefined {
  if (known.has(publicKey)) return undefined;
  let point;
  try {
    point = Point.fromBytes(fromHex(publicKey));
  } catch {
    return "it is no canonical encoding of a point of the curve";
  }
  if (point.isSmallOrder()) return "it has small order: anyone can sign for it";
  if (!point.isTorsionFree()) return "its point does not have prime order";
  // The same few keys come again with each document. The bound is for readers of many chains.
  if (known.size >= 1000) known.clear();
  known.add(publicKey);
  return undefined;
}

/** Signs with a 32-byte seed. */
export function signWith(seed: Uint8Array, message: Uint8Array): Uint8Array {
  return ed25519.sign(message, seed);
}

/** The public key of a 32-byte seed. */
export function publicKeyOf(seed: Uint8Array): Uint8Array {
  return ed25519.getPublicKey(seed);
}
