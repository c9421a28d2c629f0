// What the reader trusts, and checks of documents step by step.

import {
  Follower, VerificationError, genesisHash, headerHash, readBlock, readCheckpoint, readEvidence, readGenesis, readProof, readReceipt, validatorsHash,
  verifyReceipt, type Block, type Certificate, type Checkpoint, type Evidence, type Genesis, type Proof, type Receipt, type Step,
} from "@diseq/client";

import { bytes, plural, reason, short } from "./format.js";
import { session } from "./session.js";
import { Store } from "./store.js";

export interface Trusted {
  document: Genesis | Checkpoint;
  follower: Follower;
  /** The reader brought the document. Otherwise the node showed it, and checks are as good as its word. */
  given: boolean;
  name: string;
}

/** The document that the reader brought. */
export const given = new Store<Trusted | undefined>(undefined);

let shown: Promise<Trusted> | undefined;
session.subscribe(() => {
  shown = undefined;
  // Its follower asks with the new token.
  if (given.value !== undefined) given.set(trust(given.value.document, true, given.value.name));
});

/** The document that the reader brought; without one, the genesis document that the node shows. */
export function trusted(): Promise<Trusted> {
  if (given.value !== undefined) return Promise.resolve(given.value);
  shown ??= session.value.genesis().then((document) => trust(document, false, "the genesis document that this node shows"));
  shown.catch(() => (shown = undefined));
  return shown;
}

/** Takes a document to verify with. */
export function trust(document: Genesis | Checkpoint, byReader: boolean, name: string): Trusted {
  return { document, follower: new Follower(session.value, document), given: byReader, name };
}

/** Reads a genesis document or a checkpoint. */
export function readTrust(content: Uint8Array, name: string): Trusted {
  const checkpoint = "set" in looks(content);
  return trust(checkpoint ? readCheckpoint(content) : readGenesis(content), true, `your ${checkpoint ? "checkpoint" : "genesis document"} ${name}`);
}

/** What a reader compares with what the operators of the network publish. */
export function fingerprint(document: Genesis | Checkpoint): string {
  return "set" in document ? document.hash : genesisHash(document);
}

/** A document of one kind. */
export type Kind = { kind: "receipt"; value: Receipt } | { kind: "proof"; value: Proof } | { kind: "block"; value: Block } | { kind: "evidence"; value: Evidence };

function looks(content: Uint8Array): object {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(content));
  } catch (e) {
    throw new VerificationError("document", `this is not JSON: ${reason(e)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new VerificationError("document", "this is JSON, but not an object");
  return value;
}

/** Reads a document, strictly, as the kind that it looks like. */
export function readAny(content: Uint8Array): Kind {
  const members = looks(content);
  if ("inclusion" in members) return { kind: "receipt", value: readReceipt(content) };
  if ("certified" in members) return { kind: "proof", value: readProof(content) };
  if ("header_hash" in members) return { kind: "block", value: readBlock(content) };
  if ("rule" in members) return { kind: "evidence", value: readEvidence(content) };
  throw new VerificationError("document", "this is neither a receipt, a proof, a block nor evidence");
}

export interface Line {
  step: Step;
  title: string;
  text: string;
  state: "held" | "failed" | "open";
}

export interface Report {
  lines: Line[];
  holds: boolean;
  /** What the document proves, or why it proves nothing. */
  verdict: string;
}

const titles: Record<Step, string> = {
  document: "Document", chain: "Chain", message: "Message", inclusion: "Inclusion", changes: "Validator set", header: "Header",
  certificate: "Certificate", signature: "Signature", trie: "Trie", votes: "Votes", strength: "Strength",
};

/** Runs a check and writes down which steps hold, and which one fails. */
export async function report(
  steps: readonly [Step, string][], verdict: string, check: (passed: (step: Step) => void) => void | Promise<void>,
): Promise<Report> {
  const held = new Set<Step>();
  let failed: { step: Step; text: string } | undefined;
  try {
    await check((step) => held.add(step));
    for (const [step] of steps) held.add(step);
  } catch (e) {
    failed = { step: e instanceof VerificationError ? e.step : "document", text: reason(e) };
    held.delete(failed.step);
  }
  const all = failed === undefined || steps.some(([step]) => step === failed.step) ? steps : [...steps, [failed.step, ""] as [Step, string]];
  const lines = all.map(([step, text]): Line => ({
    step, title: titles[step], text: failed?.step === step ? failed.text : text,
    state: failed?.step === step ? "failed" : held.has(step) ? "held" : "open",
  }));
  return { lines, holds: failed === undefined, verdict: failed === undefined ? verdict : `It fails at the step ${titles[failed.step]}: ${failed.text}` };
}

type Names = (index: number) => string;

function signers(c: Certificate | null, name: Names = (i) => `#${i}`): string {
  if (c === null) return "votes of validators";
  return `${plural(c.votes.length, "vote")} to finalize, of ${c.votes.map((v) => name(v.validator)).join(", ")}`;
}

// Only the genesis document has names, and they are those of the first set.
function namesOf({ document: d }: Trusted, setHash: string): Names {
  let names: string[] = [];
  if ("validators" in d) {
    const validators = d.validators.map(({ public_key, vrf_key }) => ({ public_key, vrf_key }));
    const first = validatorsHash({ generation: 0, validators, threshold: d.threshold, synchrony_delta_ms: d.synchrony_delta_ms });
    if (first === setHash) names = d.validators.map((v) => v.name);
  }
  return (index) => names[index] ?? `#${index}`;
}

const asked = (strength: number): [Step, string][] => (strength > 0 ? [["strength", `at least ${plural(strength, "vote")}, as you asked`]] : []);

/** Checks a receipt without any network: it brings all that it needs. */
export function checkReceipt(r: Receipt, t: Trusted, strength = 0): Promise<Report> {
  const steps: [Step, string][] = [
    ["document", "it has the form of a receipt, version 1"],
    ["chain", `it is of chain ${r.chain_id}`],
    ["message", `${bytes(r.message.data.length)} of data have the id ${short(r.message.id)}`],
    ["inclusion", `a path of ${plural(r.inclusion.path.length, "hash", "hashes")} leads from message ${r.index} of ${r.header.messages_count} to the root in the header`],
    ["changes", r.validator_changes.length === 0 ? "no change of the validators is needed" : `${plural(r.validator_changes.length, "change leads", "changes lead")} to the validators of the block, each signed by those before`],
    ["header", `block ${r.header.height} has the hash ${short(headerHash(r.header))}`],
    ["certificate", signers(r.certificate, namesOf(t, r.header.validators_hash))],
    ...asked(strength),
  ];
  const verdict = `The message is final: number ${r.index} of block ${r.height}.`;
  return report(steps, verdict, (passed) => verifyReceipt(r, t.document, { strength, passed }));
}

/** Checks a proof of presence or absence. After a change of the validators it asks the node for the change. */
export function checkProof(p: Proof, t: Trusted, strength = 0): Promise<Report> {
  const steps: [Step, string][] = [
    ["document", "it has the form of a proof"],
    ["trie", `the path of ${plural(p.proof.nodes.length, "node")} leads from the root ${p.included ? "to the message" : "to a place where the message is not"}`],
    ["header", p.header === null ? "a final header names the root" : `block ${p.header.height} names this root for height ${p.header.state_height}`],
    ["certificate", signers(p.certificate, p.header === null ? undefined : namesOf(t, p.header.validators_hash))],
    ...asked(strength),
  ];
  const verdict = p.included ? `The message is in the state after height ${p.height}.` : `The message is absent from the state after height ${p.height}.`;
  return report(steps, verdict, (passed) => t.follower.verifyProof(p, { strength, passed }));
}

/** Checks a block with all of its messages. */
export function checkBlock(b: Block, t: Trusted, strength = 0): Promise<Report> {
  if (b.header.height === 0) {
    return report([["header", "it is the block that the genesis document makes"]], "This is block 0 of the chain.", (passed) => t.follower.verifyBlock(b, { passed }));
  }
  const steps: [Step, string][] = [
    ["message", b.messages.length === 0 ? "it has no messages" : `the ids of ${plural(b.messages.length, "message")} are those of their data`],
    ["certificate", signers(b.certificate, namesOf(t, b.header.validators_hash))],
    ["signature", "the proposer has signed it"],
    ["header", `it has the hash ${short(b.header_hash)}, and its parts are those that it names`],
    ["inclusion", `${plural(b.header.messages_count, "message")}, as the header names, in its order`],
    ...asked(strength),
  ];
  return report(steps, `Block ${b.header.height} is final.`, (passed) => t.follower.verifyBlock(b, { strength, passed }));
}

/** Checks two votes that contradict each other. */
export function checkEvidence(e: Evidence, t: Trusted): Promise<Report> {
  const steps: [Step, string][] = [
    ["document", "it has the form of evidence"],
    ["changes", "the validators of the height are known"],
    ["chain", `it is of chain ${e.chain_id}`],
    ["votes", `both votes are signed by ${short(e.public_key)}, and break rule ${e.rule} together`],
  ];
  return report(steps, `Validator ${short(e.public_key)} has broken rule ${e.rule} at height ${e.first.height}.`, (passed) => t.follower.verifyEvidence(e, { passed }));
}
