/**
 * Offline verification of what nodes of DISEQ say: receipts, blocks, proofs of presence and absence,
 * changes of the validator set, checkpoints, evidence and signed messages. It needs no network and
 * nothing of Node.js. The rules are those of docs/protocol.md.
 *
 * A reader starts from a genesis document or a checkpoint that did not come from the node that it
 * verifies. Each function returns nothing if the document holds. It throws a {@link VerificationError},
 * which names the step that failed, or a {@link DocumentError} for a document in another form.
 */

import { textBytes, Writer } from "./bytes.js";
import type { Block, Evidence, Identity, Proof, Receipt, Vote } from "./documents.js";
import { keyProblem, verifySignature } from "./ed25519.js";
import { erasOf, type Trust } from "./eras.js";
import { refuse, type Step } from "./errors.js";
import {
  changeHash, commitmentHash, headerHash, headerSigning, merkleLeaf, messageId, messagesRoot, rootFromPath, voteSigning, withoutNames,
} from "./hashes.js";
import { noHash } from "./schema.js";
import { verifyTrieProof } from "./trie.js";

/** What a reader asks for beyond the rules. */
export interface Options {
  /** The least number of finalize votes; without it, the threshold of the set. */
  strength?: number;
  /** Called for each step that holds, in the order of the checks, so that a reader can show them. */
  passed?: (step: Step) => void;
}

/** Verifies that a message is at an index of a final block. The changes in the receipt are followed. */
export function verifyReceipt(r: Receipt, from: Trust, options: Options = {}): void {
  const eras = erasOf(from);
  if (r.version !== 1) refuse("document", `receipt version ${r.version}, want 1`);
  options.passed?.("document");
  if (r.chain_id !== eras.chainId) refuse("chain", `receipt of chain ${JSON.stringify(r.chain_id)}, want ${JSON.stringify(eras.chainId)}`);
  options.passed?.("chain");
  const id = messageId(r.message.data);
  if (id !== r.message.id) refuse("message", `the message has id ${id}, the receipt says ${r.message.id}`);
  options.passed?.("message");
  if (r.height === 0 || r.height !== r.header.height) refuse("header", `receipt for height ${r.height}, its header is of height ${r.header.height}`);
  const root = rootFromPath(merkleLeaf(r.message.data, r.message.timestamp), r.index, r.header.messages_count, r.inclusion.path);
  if (root === undefined) {
    refuse("inclusion", `an inclusion path of ${r.inclusion.path.length} hashes for message ${r.index} of ${r.header.messages_count}`);
  }
  if (root !== r.header.messages_root) refuse("inclusion", `the inclusion path leads to root ${root}, the header says ${r.header.messages_root}`);
  options.passed?.("inclusion");
  eras.follow(r.validator_changes, r.height);
  options.passed?.("changes");
  eras.verifyFinal(r.header, r.certificate, options);
}

/**
 * Verifies that a block is final and that its parts are those that its header names. A block brings no
 * changes that lead to its set, so after a change `from` is {@link Eras} that have followed it. The change
 * that the block carries is followed too. The proof of the commitment is verified in "@diseq/client/beacon".
 */
export function verifyBlock(b: Block, from: Trust, options: Options = {}): void {
  const eras = erasOf(from);
  const hash = headerHash(b.header);
  if (hash !== b.header_hash) refuse("header", `the header has hash ${hash}, the block says ${b.header_hash}`);
  if (b.header.height === 0) {
    const first = eras.first();
    if (first.height !== 0) refuse("changes", `block 0 is at or below height ${first.height}, where the reader starts: verify it with the genesis document`);
    if (hash !== first.hash) refuse("header", "block 0 is not that of the genesis document");
    if (b.certificate ?? b.signature ?? b.commitment ?? b.change ?? b.messages[0]) {
      refuse("header", "block 0 has neither signature, commitment, change, certificate nor messages");
    }
    return;
  }
  if (b.certificate === null || b.signature === null) refuse("certificate", "the block has no certificate or no signature of its proposer");
  b.messages.forEach((m, i) => {
    const id = messageId(m.data);
    if (id !== m.id) refuse("message", `message ${i} has id ${id}, the block says ${m.id}`);
  });
  options.passed?.("message");
  // What a header names is checked below.
  eras.verifyFinal(b.header, b.certificate, { ...options, passed: (step) => step === "header" || options.passed?.(step) });
  const proposer = eras.setAt(b.header.height).validators[b.header.proposer];
  if (proposer === undefined || !verifySignature(proposer.public_key, headerSigning(hash), b.signature)) {
    refuse("signature", `the signature of proposer ${b.header.proposer} does not verify`);
  }
  options.passed?.("signature");
  if ((b.commitment === null ? noHash : commitmentHash(b.commitment)) !== b.header.commitment_hash) {
    refuse("header", "the block carries another commitment than its header names");
  }
  if ((b.change === null ? noHash : changeHash(b.change)) !== b.header.change_hash) {
    refuse("header", "the block carries another change than its header names");
  }
  options.passed?.("header");
  if (b.messages.length !== b.header.messages_count || messagesRoot(b.messages) !== b.header.messages_root) {
    refuse("inclusion", `the block has ${b.messages.length} messages, which are not the ${b.header.messages_count} of its header`);
  }
  options.passed?.("inclusion");
  if (b.change !== null) eras.follow([{ header: b.header, certificate: b.certificate, change: withoutNames(b.change.next) }]);
}

/** Verifies that a message is in the state after a height, or that it is not, as `included` says. */
export function verifyProof(p: Proof, from: Trust, options: Options = {}): void {
  options.passed?.("document");
  if (!p.certified || p.header === null || p.certificate === null) {
    refuse("header", `no header certifies the state after height ${p.height}: ask for the state height of a final header`);
  }
  if (p.header.state_height !== p.height || p.header.state_root !== p.root) {
    refuse("header", `the header certifies state root ${p.header.state_root} of height ${p.header.state_height}, the proof is for another`);
  }
  const included = verifyTrieProof(p.root, p.id, p.proof);
  if (included !== p.included) refuse("trie", `included is ${p.included}, the proof shows ${included}`);
  options.passed?.("trie");
  erasOf(from).verifyFinal(p.header, p.certificate, options);
}

const rank: Record<Vote["kind"], number> = { "": 0, notarize: 1, nullify: 2, finalize: 3, propose: 4 };

// The rule that two votes of one place break together, empty if they break none.
function conflict(a: Vote, b: Vote): string {
  if (a.validator !== b.validator || a.height !== b.height || a.round !== b.round) return "";
  const [low, high] = rank[a.kind] <= rank[b.kind] ? [a, b] : [b, a];
  const same = low.block_hash === high.block_hash;
  if (low.kind === high.kind) return same ? "" : low.kind === "propose" ? "propose" : "E1";
  if (low.kind === "nullify" && high.kind === "finalize") return "E2";
  return low.kind === "notarize" && high.kind === "finalize" && !same ? "E3" : "";
}

/** Verifies that one validator signed both votes, and that they break the rule named. */
export function verifyEvidence(e: Evidence, from: Trust, { passed }: Pick<Options, "passed"> = {}): void {
  const eras = erasOf(from);
  passed?.("document");
  eras.follow(e.validator_changes, e.first.height);
  const set = eras.setAt(e.first.height);
  passed?.("changes");
  if (e.chain_id !== eras.chainId) refuse("chain", `evidence of chain ${JSON.stringify(e.chain_id)}, want ${JSON.stringify(eras.chainId)}`);
  passed?.("chain");
  const broken = conflict(e.first, e.second);
  if (broken === "" || broken !== e.rule) refuse("votes", `the two votes do not break rule ${JSON.stringify(e.rule)}`);
  const validator = set.validators[e.first.validator];
  if (validator?.public_key !== e.public_key) refuse("votes", `validator ${e.first.validator} of the set does not have key ${e.public_key}`);
  for (const v of [e.first, e.second]) {
    if (v.kind === "" || v.height === 0 || (v.kind === "nullify") !== (v.block_hash === noHash)) refuse("votes", `no vote has this form: ${v.kind} for ${v.block_hash}`);
    if (!verifySignature(e.public_key, voteSigning(eras.chainId, v), v.signature)) refuse("votes", `the signature of the ${v.kind} vote does not verify`);
  }
}

/** Verifies that the owner of a key chose the name and the VRF key of public.json, for this chain or for any. */
export function verifyIdentity(p: Identity, chainId: string): void {
  const problem = keyProblem(p.public_key);
  if (problem !== undefined) refuse("document", `public key ${p.public_key}: ${problem}`);
  const signed = new Writer().ascii("diseq/identity").bytes(textBytes(p.chain_id)).text(p.name).hex(p.public_key).hex(p.vrf_key).finish();
  if (!verifySignature(p.public_key, signed, p.proof)) refuse("signature", `the proof of ${p.name} for the key ${p.public_key} does not verify`);
  if (p.chain_id !== "" && p.chain_id !== chainId) {
    refuse("chain", `the owner of ${p.name} published it for chain ${JSON.stringify(p.chain_id)}, this is chain ${JSON.stringify(chainId)}`);
  }
}

export { fromBase64, fromHex, toBase64, toHex } from "./bytes.js";
export {
  readBlock, readChanges, readEvidence, readIdentity, readProof, readReceipt,
  type Block, type Certificate, type Change, type ChangesPage, type Checkpoint, type Commitment, type Evidence, type FinalChange, type Genesis,
  type Header, type Identity, type Kind, type NamedValidator, type NextSet, type OrderedMessage, type Proof, type Receipt, type TrieProof,
  type ValidatorSet, type ValidatorSetChange, type Vote,
} from "./documents.js";
export { Eras, type Trust } from "./eras.js";
export { VerificationError, type Step } from "./errors.js";
export { genesisHash, genesisHeader, headerHash, messageId, messagesRoot, protocolVersion, validatorsHash } from "./hashes.js";
export { DocumentError } from "./json.js";
export { readCheckpoint, readGenesis } from "./sets.js";
export { encodeSigned, parseSigned, signMessage, verifySigned, type SignedMessage } from "./signed.js";
export { verifyTrieProof } from "./trie.js";
