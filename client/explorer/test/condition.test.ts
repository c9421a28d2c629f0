// The words for each state of a node and of a network.
import { ConnectionError, NodeError, type Status } from "@diseq/client";
import { expect, test } from "vitest";

import { conditions, type Known, type Level } from "../src/condition.js";

const key = (i: number): string => `${i}`.repeat(64);
const validators = [0, 1, 2, 3].map((i) => ({ name: `v${i}`, public_key: key(i) }));

const healthy = {
  chain_id: "c", node: "v0", public_key: key(0), role: "validator", ready: true, caught_up: true, storage_low: false, height: 7, block_hash: key(9),
  block_timestamp: 1, finalized_timestamp: 2, round: 0, leader: 1, state_height: 7, generation: 0, threshold: 3, validators: 4, evidence: 0, headroom: 1,
  vote_store: true, votes_from_height: 1, pool: { messages: 0, bytes: 0, max_bytes: 1 }, target: null, tolerance: null, versions: null, synchrony: null,
  peers: [1, 2, 3].map((i) => ({ name: `v${i}`, public_key: key(i), connected: true, height: 7 })),
} as unknown as Status;

const without = (...lost: number[]): Partial<Status> => ({
  peers: healthy.peers.map((p, i) => ({ ...p, connected: !lost.includes(i + 1) })), headroom: 1 - lost.length,
});

const cases: [string, Partial<Status> | undefined, Partial<Known>, Level, string, string?][] = [
  ["blocks come", {}, { sinceBlock: 500 }, "good", "Blocks become final"],
  ["nothing to order", {}, { sinceBlock: 3_600_000 }, "idle", "Idle"],
  ["nothing since genesis", { height: 0 }, {}, "idle", "Idle"],
  ["messages wait for a moment", { pool: { messages: 3, bytes: 3, max_bytes: 9 } }, { sinceBlock: 4000 }, "good", "Messages wait for the next block"],
  ["messages wait for long", { pool: { messages: 3, bytes: 3, max_bytes: 9 }, round: 4 }, { sinceBlock: 15_000 }, "bad", "No blocks become final", "round 4"],
  ["one is lost", without(3), {}, "warn", "The next failure stops the chain", "v3"],
  ["one of many is lost", { ...without(3), headroom: 2 }, {}, "warn", "v3 is without a link to this node", "2 more may fail"],
  ["two are lost", without(2, 3), {}, "bad", "There is no quorum", "2 of 4 validators, and 3 must sign"],
  ["it is behind", { caught_up: false, ready: false, reason: "behind", peers: healthy.peers.map((p) => ({ ...p, height: 900 })) }, {}, "warn", "The node is behind", "height 900"],
  ["it rejoins", { role: "rejoining", votes_from_height: undefined } as Partial<Status>, {}, "warn", "The node is rejoining"],
  ["it votes later", { votes_from_height: 12 }, {}, "warn", "The node abstains", "from height 12 on"],
  ["it may not vote", { votes_from_height: undefined } as Partial<Status>, {}, "warn", "The node abstains"],
  ["it observes", { role: "observer", vote_store: false, votes_from_height: undefined } as Partial<Status>, { sinceBlock: 1 }, "good", "Blocks become final"],
  ["messages are late", { synchrony: { delta_ms: 500, healthy: false, settled: false } }, {}, "warn", "The node abstains", "within 500 ms"],
  ["it settles", { synchrony: { delta_ms: 500, healthy: true, settled: false } }, {}, "warn", "The node abstains", "notarize"],
  ["it stops", { ready: false, reason: "stopping" }, {}, "warn", "The node is stopping"],
  ["its disk is full", { storage_low: true, ready: false, reason: "storage" }, {}, "warn", "The disk of the node is low"],
  ["it is not ready", { ready: false, reason: "for a reason" }, {}, "warn", "The node is not ready", "for a reason"],
  ["evidence", { evidence: 2 }, {}, "warn", "A validator has broken a rule", "2 pieces"],
  ["the short status", { node: undefined, public_key: undefined, peers: [], headroom: null, pool: undefined, role: undefined } as unknown as Partial<Status>, {}, "idle", "Idle"],
  ["no answer yet", undefined, {}, "idle", "Asking the node"],
  ["no connection", {}, { problem: new ConnectionError("GET x", new Error("refused")), sinceAnswer: 4000 }, "bad", "The node does not answer", "4 s ago"],
  ["no credential", undefined, { problem: new NodeError(401, "unauthenticated", "no credential") }, "warn", "This node asks who you are"],
  ["no right", undefined, { problem: new NodeError(403, "forbidden", "needs Read") }, "warn", "You may not read this", "needs Read"],
  ["no room", {}, { problem: new NodeError(503, "busy", "try again") }, "bad", "The node refuses to answer", "try again"],
];

test.each(cases)("%s", (_, status, known, level, title, text = "") => {
  const [worst] = conditions({
    status: status === undefined ? undefined : { ...healthy, ...status }, problem: undefined, sinceAnswer: undefined, sinceBlock: undefined, validators, ...known,
  });
  expect(worst).toMatchObject({ level, title });
  expect(worst?.text).toContain(text);
});

test("several conditions come with the worst first", () => {
  const all = conditions({ status: { ...healthy, ...without(2, 3), storage_low: true, evidence: 1 }, problem: undefined, sinceAnswer: 1, sinceBlock: 1, validators });
  expect(all.map((c) => c.level)).toEqual(["bad", "warn", "warn"]);
});
