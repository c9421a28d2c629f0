// The validator sets of a chain, as a reader has verified them.

import { sha256 } from "@noble/hashes/sha2.js";

import { maxNumber, toHex, Writer } from "./bytes.js";
import type { Certificate, Checkpoint, FinalChange, Genesis, Header, ValidatorSet, ValidatorSetChange } from "./documents.js";
import { verifySignature } from "./ed25519.js";
import { refuse } from "./errors.js";
import {
  changeHash, encodeCertificate, encodeHeader, encodeSet, firstSet, genesisHeader, headerHash, protocolVersion, validatorsHash, voteSigning,
  withoutNames,
} from "./hashes.js";
import { noHash } from "./schema.js";
import { checkCheckpoint, checkGenesis, checkSet } from "./sets.js";
import type { Options } from "./verify.js";

interface Era {
  /** The height of the header that brought the set, and its hash: the set decides the heights above. */
  above: number;
  header: string;
  set: ValidatorSet;
  setHash: string;
  /** The digest of the change that was verified; empty for the first era, which is trusted. */
  entry: string;
}

/** What a reader believes before it has verified anything, or the eras that it has followed from there. */
export type Trust = Genesis | Checkpoint | Eras;

/** The eras that a reader starts from. A genesis document or a checkpoint is checked. */
export function erasOf(from: Trust): Eras {
  return from instanceof Eras ? from : new Eras(from);
}

/**
 * The validator sets of a chain: first the one that the reader trusts, then each by the votes of the set
 * before. To verify a document adds the changes that it brings. Each change is verified once.
 */
export class Eras {
  readonly chainId: string;
  readonly #eras: Era[];

  constructor(from: Genesis | Checkpoint) {
    this.chainId = from.chain_id;
    let [above, header, set]: [number, string, ValidatorSet] = [0, "", { generation: 0, validators: [], threshold: 0, synchrony_delta_ms: 0 }];
    if ("set" in from) {
      checkCheckpoint(from);
      [above, header, set] = [from.height, from.hash, structuredClone(from.set)];
    } else {
      checkGenesis(from);
      [header, set] = [headerHash(genesisHeader(from)), withoutNames(firstSet(from))];
    }
    this.#eras = [{ above, header, set, setHash: validatorsHash(set), entry: "" }];
  }

  /** What the reader started from. */
  first(): Checkpoint {
    return this.#checkpoint(this.#eras[0] as Era);
  }

  /** The newest set known, as a document to start from later. It is as good as what the reader trusted. */
  checkpoint(): Checkpoint {
    return this.#checkpoint(this.#newest());
  }

  #newest(): Era {
    return this.#eras[this.#eras.length - 1] as Era;
  }

  #checkpoint(e: Era): Checkpoint {
    return { version: 1, chain_id: this.chainId, height: e.above, hash: e.header, set: structuredClone(e.set) };
  }

  /** Follows changes in rising order, all below a height. After an error the changes before the wrong one stay. */
  follow(changes: readonly ValidatorSetChange[], below = maxNumber): void {
    let last = 0;
    changes.forEach((c, i) => {
      if (c.header.height <= last || c.header.height >= below) {
        refuse("changes", `validator change ${i} is at height ${c.header.height}, want above ${last} and below ${below}`);
      }
      last = c.header.height;
      this.#step(c);
    });
  }

  /** Follows changes as GET /v1/changes shows them, and checks names and endorsements by the header's change_hash. */
  followFinal(changes: readonly FinalChange[]): void {
    this.follow(changes.map((c) => {
      const hash = changeHash({ next: c.next, endorsements: c.endorsements });
      if (hash !== c.header.change_hash) {
        refuse("changes", `the change to generation ${c.next.generation} has hash ${hash}, its header at height ${c.header.height} names ${c.header.change_hash}`);
      }
      return { header: c.header, certificate: c.certificate, change: withoutNames(c.next) };
    }));
  }

  /** The set that decides a height, as far as the changes are known. It is a copy. */
  setAt(height: number): ValidatorSet {
    return structuredClone(this.#at(height).set);
  }

  #at(height: number): Era {
    const found = this.#eras.findLast((e) => e.above < height);
    if (found === undefined) {
      refuse("changes", `height ${height} is at or below height ${(this.#eras[0] as Era).above}, where the reader starts: ` +
        "verify it with the genesis document or an older checkpoint");
    }
    return found;
  }

  /** Checks that a header is final by the set in force at its height, with at least so many votes. */
  verifyFinal(h: Header, c: Certificate, { strength = 0, passed }: Options = {}): void {
    this.#verifyFinal(h, c, this.#at(h.height), passed);
    if (c.strength < strength) refuse("strength", `certificate of strength ${c.strength}, ${strength} asked for`);
    passed?.("strength");
  }

  #verifyFinal(h: Header, c: Certificate, by: Era, passed?: Options["passed"]): void {
    if (c.strength !== c.votes.length) refuse("certificate", `the certificate says strength ${c.strength}, it holds ${c.votes.length} votes`);
    if (h.chain_id !== this.chainId) refuse("header", `header of chain ${JSON.stringify(h.chain_id)}, want ${JSON.stringify(this.chainId)}`);
    if (h.protocol_version !== protocolVersion) refuse("header", `header of protocol version ${h.protocol_version}, want ${protocolVersion}`);
    if (h.validators_hash !== by.setHash) {
      refuse("header", `the header at height ${h.height} is of validator set ${h.validators_hash}, the set in force is ${by.setHash}`);
    }
    passed?.("header");
    const hash = headerHash(h);
    if (c.kind !== "finalize" || c.height !== h.height || c.block_hash !== hash || h.height === 0) {
      refuse("certificate", `certificate of kind ${c.kind} for block ${c.block_hash} at height ${c.height}, ` +
        `want finalize for ${hash} at ${h.height}`);
    }
    let last = -1;
    for (const v of c.votes) {
      if (v.validator <= last || v.validator >= by.set.validators.length) {
        refuse("certificate", `the certificate names validator ${v.validator} after ${last}: the set has ${by.set.validators.length}`);
      }
      last = v.validator;
    }
    if (c.votes.length < by.set.threshold) {
      refuse("certificate", `certificate for height ${c.height} with ${c.votes.length} votes, the threshold is ${by.set.threshold}`);
    }
    const signed = voteSigning(this.chainId, c);
    for (const v of c.votes) {
      if (!verifySignature((by.set.validators[v.validator] as { public_key: string }).public_key, signed, v.signature)) {
        refuse("certificate", `the vote of validator ${v.validator} for height ${c.height}: its signature does not verify`);
      }
    }
    passed?.("certificate");
  }

  #step(c: ValidatorSetChange): void {
    const first = this.#eras[0] as Era;
    const newest = this.#newest();
    const generation = c.change.generation;
    const at = generation - first.set.generation;
    if (generation === 0) refuse("changes", "a change leads to generation 0, which is that of the genesis document");
    if (at < 0 && c.header.height < first.above) return;
    if (at <= 0) {
      if (at < 0 || headerHash(c.header) !== first.header || validatorsHash(c.change) !== first.setHash) {
        refuse("changes", `a change leads to generation ${generation} at height ${c.header.height}: the checkpoint is of generation ` +
          `${first.set.generation}, block ${first.header} at height ${first.above}`);
      }
      return;
    }
    if (at > this.#eras.length) {
      refuse("changes", `a change leads to generation ${generation}, the newest set known is of generation ${newest.set.generation}: ` +
        "the changes between are missing");
    }
    const entry = entryDigest(c);
    const known = this.#eras[at];
    if (known?.entry === entry) return;
    this.#verifyChange(c, this.#eras[at - 1] as Era);
    const header = headerHash(c.header);
    if (known === undefined) {
      this.#eras.push({ above: c.header.height, header, set: structuredClone(c.change), setHash: validatorsHash(c.change), entry });
    } else if (known.header !== header) {
      refuse("changes", `the chain has forked: generation ${generation} comes from block ${known.header} at height ${known.above} ` +
        `and from block ${header} at height ${c.header.height}, both final`);
    }
  }

  #verifyChange(c: ValidatorSetChange, before: Era): void {
    if (c.header.height <= before.above) {
      refuse("changes", `a change at height ${c.header.height}: the set that it replaces decides the heights above ${before.above}`);
    }
    this.#verifyFinal(c.header, c.certificate, before);
    checkSet(c.change);
    if (c.change.synchrony_delta_ms !== before.set.synchrony_delta_ms) {
      refuse("changes", `a change to synchrony_delta_ms ${c.change.synchrony_delta_ms}, the chain has ${before.set.synchrony_delta_ms}`);
    }
    const hash = validatorsHash(c.change);
    if (hash !== c.header.next_validators_hash) refuse("changes", `a change to set ${hash}, its header names ${c.header.next_validators_hash}`);
    if (c.header.change_hash === noHash) refuse("changes", `the header at height ${c.header.height} carries no change`);
  }
}

// It covers all of a change, so that an equal one need not be verified again.
function entryDigest(c: ValidatorSetChange): string {
  return toHex(sha256(new Writer().raw(encodeHeader(c.header)).raw(encodeCertificate(c.certificate)).u64(c.certificate.strength)
    .raw(encodeSet(c.change)).finish()));
}
