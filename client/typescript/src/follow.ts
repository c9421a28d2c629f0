import type { Client, Call } from "./client.js";
import type { Block, Evidence, Proof, Receipt } from "./documents.js";
import { Eras, erasOf, type Trust } from "./eras.js";
import { verifyBlock, verifyEvidence, verifyProof, verifyReceipt, type Options } from "./verify.js";

const changesAtOnce = 100;

/**
 * Verifies what nodes say while the validator set of the chain changes. It starts from what the reader
 * trusts. When a document does not verify, it asks the nodes for newer changes of the set, and believes a
 * set only once the set before it has voted for it.
 *
 * A node can keep changes back, and then what a newer set signed does not verify. Keys of validators that
 * have left can be stolen, and such a node can sign with them: a reader that was away for long starts from
 * a newer checkpoint.
 */
export class Follower {
  readonly #client: Client;
  /** The sets that are verified so far. Their checkpoint is what the reader can start from next time. */
  readonly eras: Eras;

  constructor(client: Client, from: Trust) {
    this.#client = client;
    this.eras = erasOf(from);
  }

  verifyBlock(b: Block, options: Options & Call = {}): Promise<void> {
    return this.#verify(() => verifyBlock(b, this.eras, options), options);
  }

  verifyProof(p: Proof, options: Options & Call = {}): Promise<void> {
    return this.#verify(() => verifyProof(p, this.eras, options), options);
  }

  verifyReceipt(r: Receipt, options: Options & Call = {}): Promise<void> {
    return this.#verify(() => verifyReceipt(r, this.eras, options), options);
  }

  verifyEvidence(e: Evidence, options: Pick<Options, "passed"> & Call = {}): Promise<void> {
    return this.#verify(() => verifyEvidence(e, this.eras, options), options);
  }

  /** The receipt of a final message, verified. It has the changes above the newest set known only. */
  async receipt(id: string, options: Options & Call = {}): Promise<Receipt> {
    const r = await this.#client.receipt(id, { signal: options.signal, generation: this.eras.checkpoint().set.generation });
    if (r.message.id !== id) throw new Error(`receipt of message ${r.message.id}, want ${id}`);
    await this.verifyReceipt(r, options);
    return r;
  }

  /** Final blocks from a height on, verified, each the child of the one before. */
  async *stream(options: Options & Call & { from?: number } = {}): AsyncGenerator<Block, void, void> {
    let parent: string | undefined;
    for await (const b of this.#client.stream(options)) {
      await this.verifyBlock(b, options);
      if (parent !== undefined && b.header.parent_hash !== parent) {
        throw new Error(`block ${b.header.height} names ${b.header.parent_hash} as the block below, which is ${parent}`);
      }
      parent = b.header_hash;
      yield b;
    }
  }

  /** Reads and verifies the changes that are not known yet, and tells whether there were any. */
  async update(call: Call = {}): Promise<boolean> {
    for (let more = false; ; ) {
      const known = this.eras.checkpoint().set.generation;
      const { changes, next } = await this.#client.changes(known + 1, changesAtOnce, call);
      this.eras.followFinal(changes);
      const now = this.eras.checkpoint().set.generation;
      more ||= now > known;
      if (next === null || now === known) return more;
    }
  }

  async #verify(check: () => void, call: Call): Promise<void> {
    try {
      check();
    } catch (e) {
      if (!(await this.update(call))) throw e;
      check();
    }
  }
}
