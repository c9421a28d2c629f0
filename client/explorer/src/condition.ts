// The state of the network in words, as far as the node that served the page knows it.

import { NodeError, type Status } from "@diseq/client";

import { plural, reason, seconds } from "./format.js";

/** What a condition means: all is well, nothing to do, look at it, something is broken. */
export type Level = "good" | "idle" | "warn" | "bad";

export interface Condition {
  level: Level;
  title: string;
  text: string;
  /** The node wants to know who asks. */
  asks?: boolean;
}

/** What is known. Durations are in milliseconds; undefined is not known. */
export interface Known {
  status: Status | undefined;
  /** Why the newest question got no answer. */
  problem: unknown;
  sinceAnswer: number | undefined;
  sinceBlock: number | undefined;
  /** The keys of the validators in force, where they are known. */
  validators: readonly { name: string; public_key: string }[] | undefined;
}

// A chain with messages makes blocks many times in a second. So long without one is worth a word.
const stalled = 10_000;
const quiet = 3_000;

/** The conditions of the node and the network, the worst first. There is always one. */
export function conditions(k: Known): Condition[] {
  if (k.problem !== undefined) return [unanswered(k)];
  if (k.status === undefined) return [{ level: "idle", title: "Asking the node", text: "The first answer has not come yet." }];
  const found = [...ofNode(k.status), ...ofNetwork(k.status, k)];
  const order: Level[] = ["bad", "warn", "idle", "good"];
  found.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
  return found.length > 0 ? found : [progress(k.status, k)];
}

function unanswered({ problem, sinceAnswer }: Known): Condition {
  if (problem instanceof NodeError && problem.status === 401) {
    return { level: "warn", title: "This node asks who you are", text: `Enter a token, or show a client certificate. The node says: ${problem.message}`, asks: true };
  }
  if (problem instanceof NodeError && problem.status === 403) {
    return { level: "warn", title: "You may not read this", text: `Ask the operators of the node for the right. The node says: ${problem.message}`, asks: true };
  }
  if (problem instanceof NodeError) return { level: "bad", title: "The node refuses to answer", text: problem.message };
  const last = sinceAnswer === undefined ? "It has not answered yet." : `The last answer came ${seconds(sinceAnswer)} ago. The page shows the state of then.`;
  return { level: "bad", title: "The node does not answer", text: `${last} Other nodes may go on. (${reason(problem)})` };
}

function ofNode(s: Status): Condition[] {
  const out: Condition[] = [];
  if (s.reason === "stopping") {
    out.push({ level: "warn", title: "The node is stopping", text: "It serves clients for a short while yet. The other nodes go on." });
  }
  const ahead = Math.max(0, ...s.peers.map((p) => p.height));
  if (!s.caught_up) {
    const peers = ahead > s.height ? ` Its peers are at height ${ahead}.` : "";
    out.push({ level: "warn", title: "The node is behind", text: `It is at height ${s.height}.${peers} It fetches the blocks between, and the page shows what it has.` });
  }
  if (s.storage_low) {
    out.push({ level: "warn", title: "The disk of the node is low", text: "The node takes no messages until there is room. It still follows the chain." });
  }
  if (s.role === "rejoining") {
    out.push({ level: "warn", title: "The node is rejoining", text: "It has no record of its votes, so it asks the other validators for their heights. Until then it votes for nothing." });
  } else if (s.role === "validator" && s.vote_store === true && (s.votes_from_height === undefined || s.votes_from_height > s.height + 1)) {
    const from = s.votes_from_height === undefined ? "" : ` It votes from height ${s.votes_from_height} on.`;
    out.push({ level: "warn", title: "The node abstains", text: `It follows the chain and does not vote yet.${from}` });
  }
  const synchrony = s.synchrony as { healthy?: boolean; settled?: boolean; delta_ms?: number } | null;
  if (synchrony?.healthy === false) {
    out.push({ level: "warn", title: "The node abstains", text: `Messages of too few validators arrive within ${synchrony.delta_ms} ms, so the node does not vote to finalize.` });
  } else if (synchrony?.settled === false) {
    out.push({ level: "warn", title: "The node abstains", text: "It waits until its peers have sent their earlier messages again, and does not vote to notarize until then." });
  }
  if (out.length === 0 && !s.ready && s.reason !== undefined) {
    out.push({ level: "warn", title: "The node is not ready", text: `It says: ${s.reason}.` });
  }
  return out;
}

function ofNetwork(s: Status, k: Known): Condition[] {
  const out: Condition[] = [];
  const headroom = typeof s.headroom === "number" ? s.headroom : undefined;
  const lost = missing(s, k);
  const names = lost.length === 0 ? "" : ` Without a link: ${lost.join(", ")}.`;
  if (headroom !== undefined && headroom < 0) {
    out.push({
      level: "bad", title: "There is no quorum",
      text: `This node hears from ${headroom + s.threshold} of ${plural(s.validators, "validator")}, and ${s.threshold} must sign a block. ` +
        `Nothing becomes final until more are back. Nothing is lost.${names}`,
    });
  } else if (k.sinceBlock !== undefined && k.sinceBlock > stalled && (s.pool?.messages ?? 0) > 0) {
    out.push({
      level: "bad", title: "No blocks become final",
      text: `${plural(s.pool?.messages ?? 0, "message waits", "messages wait")}, and the last block is ${seconds(k.sinceBlock)} old. The height is in round ${s.round ?? 0}.${names}`,
    });
  } else if (headroom === 0 && s.threshold < s.validators) {
    out.push({ level: "warn", title: "The next failure stops the chain", text: `As many validators as must sign are heard from, and no more.${names}` });
  } else if (lost.length > 0) {
    out.push({ level: "warn", title: `${lost.join(", ")} ${lost.length === 1 ? "is" : "are"} without a link to this node`, text: `The others go on: ${headroom ?? 0} more may fail before the chain stops.` });
  }
  if ((s.evidence ?? 0) > 0) {
    out.push({ level: "warn", title: "A validator has broken a rule", text: `This node has ${plural(s.evidence ?? 0, "piece")} of evidence. The page Network shows it.` });
  }
  return out;
}

/** The names of the validators that the node has no link to. */
export function missing(s: Status, k: Pick<Known, "validators">): string[] {
  if (s.node === undefined) return []; // the short form has no peers
  const linked = new Set([s.public_key, ...s.peers.filter((p) => p.connected).map((p) => p.public_key)]);
  return (k.validators ?? []).filter((v) => !linked.has(v.public_key)).map((v) => v.name);
}

function progress(s: Status, k: Known): Condition {
  if (k.sinceBlock !== undefined && k.sinceBlock < quiet) return { level: "good", title: "Blocks become final", text: "No problem is known." };
  if ((s.pool?.messages ?? 0) > 0) return { level: "good", title: "Messages wait for the next block", text: "No problem is known." };
  return { level: "idle", title: "Idle", text: "No messages wait, so there is nothing to order. The next message makes the next block." };
}
