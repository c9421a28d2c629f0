/** What a verifier was checking when it refused a document. */
export type Step =
  | "document" // its form, before anything is computed
  | "chain" // it is of the chain that the reader trusts
  | "message" // ids, and data of signed messages
  | "inclusion" // the message is in the block
  | "changes" // the validator set follows from the trusted one
  | "header" // the header is of the chain and of the set, and the parts of a block are its own
  | "certificate" // enough validators of the set signed the header
  | "signature" // of the proposer, of an author, of an owner
  | "trie" // the way through the trie
  | "votes" // two votes that contradict each other
  | "strength"; // as many votes as the reader insists on

/** A document does not prove what it says. */
export class VerificationError extends Error {
  readonly step: Step;

  constructor(step: Step, message: string) {
    super(message);
    this.name = "VerificationError";
    this.step = step;
  }
}

/** Refuses a document. */
export function refuse(step: Step, message: string): never {
  throw new VerificationError(step, message);
}
