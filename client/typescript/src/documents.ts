// The documents of docs/protocol.md: their members and types.

import { DocumentError } from "./json.js";
import {
  base64, closed, flag, hash, list, nullable, oneOf, open, optional, readDocument, signature, text, u32, u53, u8, type Read, type Reader,
} from "./schema.js";

const headerFields = {
  protocol_version: u32,
  chain_id: text,
  height: u53,
  parent_hash: hash,
  timestamp: u53,
  proposer: u32,
  messages_root: hash,
  messages_count: u32,
  state_height: u53,
  state_root: hash,
  beacon: hash,
  commitment_hash: hash,
  change_hash: hash,
  validators_hash: hash,
  next_validators_hash: hash,
};
export const headerReader = closed(headerFields);
/** What validators sign the hash of. Times are Unix milliseconds. */
export type Header = Read<typeof headerReader>;

const kind = oneOf("notarize", "nullify", "finalize", "propose");
export type Kind = Read<typeof kind>;

const certificateReader = closed({
  kind,
  height: u53,
  round: u32,
  block_hash: hash,
  votes: list(closed({ validator: u32, signature })),
  strength: u53,
});
/** Votes of one kind for one block. Its strength is how many there are. */
export type Certificate = Read<typeof certificateReader>;

const voteReader = closed({ kind, height: u53, round: u32, block_hash: hash, validator: u32, signature });
export type Vote = Read<typeof voteReader>;

const validatorFields = { public_key: hash, vrf_key: hash };
const setReader = closed({ generation: u32, validators: list(closed(validatorFields)), threshold: u32, synchrony_delta_ms: u32 });
/** The validators that decide the heights of an era. A validator is named by its index. */
export type ValidatorSet = Read<typeof setReader>;

const namedReader = closed({ name: text, ...validatorFields });
export type NamedValidator = Read<typeof namedReader>;

const nextSetReader = closed({ generation: u32, threshold: u32, synchrony_delta_ms: u32, validators: list(namedReader) });
/** A validator set with the names of its members. */
export type NextSet = Read<typeof nextSetReader>;

const setChangeReader = closed({ header: headerReader, certificate: certificateReader, change: setReader });
/** One step from a validator set to the next, as receipts bring it. */
export type ValidatorSetChange = Read<typeof setChangeReader>;

const messageFields = { id: hash, data: base64, timestamp: u32 };
/** A message of a receipt or of a block. Its timestamp is in Unix seconds, 0 if none was given. */
export type OrderedMessage = { id: string; data: Uint8Array; timestamp: number };

const receiptReader = closed({
  version: u32,
  chain_id: text,
  message: closed(messageFields),
  height: u53,
  index: u32,
  header: headerReader,
  inclusion: closed({ path: list(hash) }),
  certificate: certificateReader,
  validator_changes: list(setChangeReader),
});
/** Proves that a message is at an index of a final block. */
export type Receipt = Read<typeof receiptReader>;

const genesisReader = closed({
  version: u32,
  chain_id: text,
  time_ms: u53,
  threshold: u32,
  synchrony_delta_ms: u32,
  validators: list(namedReader),
  parameters: closed({
    min_block_interval_ms: u32,
    beacon_interval: u32,
    max_message_bytes: u32,
    max_block_bytes: u32,
    round_timeout_ms: u32,
    max_round_timeout_ms: u32,
  }),
});
/** The document that a chain starts from. */
export type Genesis = Read<typeof genesisReader>;

const checkpointReader = closed({ version: u32, chain_id: text, height: u53, hash, set: setReader });
/** A document to start from in the place of the genesis document. */
export type Checkpoint = Read<typeof checkpointReader>;

const evidenceReader = closed({
  chain_id: text,
  rule: text,
  public_key: hash,
  first: voteReader,
  second: voteReader,
  validator_changes: list(setChangeReader),
});
/** Two votes of one validator that no honest validator signs. */
export type Evidence = Read<typeof evidenceReader>;

const identityReader = closed({ chain_id: text, name: text, public_key: hash, vrf_key: hash, proof: signature });
/** What an owner publishes of an identity: public.json. */
export type Identity = Read<typeof identityReader>;

// In the envelopes of blocks and changes newer nodes may add members, also in these.
const commitmentReader = open({ epoch: u53, validator: u32, output: hash, proof: base64 });
/** The reveal of a beacon epoch's committing validator. */
export type Commitment = Read<typeof commitmentReader>;

const changeReader = closed({ next: nextSetReader, endorsements: list(closed({ validator: u32, signature })) });
/** The change of the validator set that a block carries. */
export type Change = Read<typeof changeReader>;

export const blockReader = open({
  header: headerReader,
  header_hash: hash,
  signature: nullable(signature),
  commitment: nullable(commitmentReader),
  change: nullable(changeReader),
  certificate: nullable(certificateReader),
  messages: list(open(messageFields)),
});
/** A final block. Block 0 has neither signature nor certificate. */
export type Block = Read<typeof blockReader>;

const finalChangeReader = open({
  header: headerReader,
  certificate: certificateReader,
  next: nextSetReader,
  endorsements: list(open({ validator: u32, signature })),
});
/** A change of the validator set with the final header that carries it. */
export type FinalChange = Read<typeof finalChangeReader>;

export const changesReader = open({ changes: list(finalChangeReader), next: nullable(u32) });
/** An answer of GET /v1/changes. */
export type ChangesPage = Read<typeof changesReader>;

// Zeros and null would be two ways to write one thing.
const nodeHash: Reader<string> = {
  zero: hash.zero,
  read(value, path) {
    const out = hash.read(value, path);
    if (out === hash.zero()) throw new DocumentError("a hash of zeros, want null where there is none", path);
    return out;
  },
};
const trieProofReader = closed({
  key: hash,
  kind: oneOf("inclusion", "absence"),
  root: nullable(nodeHash),
  nodes: list(closed({ bit: optional(u8), left: nullable(nodeHash), right: nullable(nodeHash) })),
  leaf: nullable(closed({ key: hash, data: base64 })),
});
/** The way from the root of the trie in the direction of a key. */
export type TrieProof = Read<typeof trieProofReader>;

export const proofReader = open({
  id: hash,
  height: u53,
  root: hash,
  included: flag,
  proof: trieProofReader,
  certified: flag,
  header: nullable(headerReader),
  certificate: nullable(certificateReader),
});
/** Tells whether a message is in the state after a height. */
export type Proof = Read<typeof proofReader>;

const MiB = 1 << 20;
type Document = string | Uint8Array;

/** Reads a receipt of at most 64 MiB. It is not verified. */
export const readReceipt = (document: Document): Receipt => readDocument(receiptReader, document, 64 * MiB);
/** Reads a piece of evidence. It is not verified. */
export const readEvidence = (document: Document): Evidence => readDocument(evidenceReader, document, 64 * MiB);
/** Reads a block. It is not verified. */
export const readBlock = (document: Document): Block => readDocument(blockReader, document, 256 * MiB);
/** Reads an answer of /v1/proofs. It is not verified. */
export const readProof = (document: Document): Proof => readDocument(proofReader, document, 36 * MiB);
/** Reads an answer of /v1/changes. It is not verified. */
export const readChanges = (document: Document): ChangesPage => readDocument(changesReader, document, 64 * MiB);
/** Reads public.json. It is not verified. */
export const readIdentity = (document: Document): Identity => readDocument(identityReader, document, MiB);

export { certificateReader, evidenceReader, genesisReader, checkpointReader, receiptReader, trieProofReader, MiB };
