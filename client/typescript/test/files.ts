import { readFileSync } from "node:fs";

import { parseJson } from "../src/json.js";
import { fromHex, readGenesis, type Genesis } from "../src/verify.js";

/** A file of the repository. */
export function repositoryFile(path: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`../../../${path}`, import.meta.url)));
}

/** A JSON file of test vectors. Some have integers that JSON.parse would round. */
export function vectors<T>(path: string): T {
  return parseJson(repositoryFile(path)) as T;
}

export interface Sample {
  kind: string;
  why?: string;
  text?: string;
  base64?: string;
}

export const samples = vectors<{ accepted: Sample[]; refused: Sample[] }>("node/chain/testdata/refused.json");

/** The document of a sample, as bytes: not all of them are UTF-8. */
export function sampleBytes(s: Sample): Uint8Array {
  if (s.base64 !== undefined) return Uint8Array.from(atob(s.base64), (c) => c.charCodeAt(0));
  return new TextEncoder().encode(s.text ?? "");
}

export function trusted(): Genesis {
  return readGenesis(sampleBytes(samples.accepted.find((s) => s.kind === "genesis") as Sample));
}

export const text = (document: unknown): string => JSON.stringify(document);

export { fromHex };
