import type { Block, Evidence, FinalChange, Genesis, Status, Validators } from "@diseq/client";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { count, plural, short, time } from "../format.js";
import { live } from "../live.js";
import { Checked, Facts, Failure, Hash, Notice, Page, Panel, Table } from "../parts.js";
import { session } from "../session.js";
import { useAnswer, useStore } from "../store.js";
import { checkEvidence } from "../trust.js";

const window = 40;
const readEvery = 2500;

// The last blocks again and again: their certificates grow for a while after they are final.
function useBlocks(height: number | undefined): Block[] {
  const [blocks, set] = useState<Block[]>([]);
  const [turn, next] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || next((n) => n + 1), readEvery);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => {
    if (height === undefined) return;
    const control = new AbortController();
    session.value.blocks(Math.max(1, height - window + 1), window, { messages: false, signal: control.signal }).then((page) => set(page.blocks), () => undefined);
    return () => control.abort();
  }, [turn, height === undefined]);
  return blocks;
}

export function NetworkPage(): JSX.Element {
  const { status, validators, problem } = useStore(live);
  const blocks = useBlocks(status?.height);
  return (
    <Page title="Network">
      {validators === undefined || status === undefined ? <p class="muted">Asking the node…</p> : (
        <div class={problem === undefined ? undefined : "stale"}>
          <Tolerated s={status} v={validators} />
          <Members s={status} v={validators} blocks={blocks.filter((b) => b.header.validators_hash === validators.validators_hash)} />
          <EvidencePanel known={status.evidence} />
          <Timeline generation={validators.generation} />
          <NodePanel s={status} />
        </div>
      )}
    </Page>
  );
}

function Tolerated({ s, v }: { s: Status; v: Validators }): JSX.Element {
  const n = v.validators.length;
  const headroom = typeof s.headroom === "number" ? s.headroom : undefined;
  const { crash, byzantine, byzantine_with_synchrony: synchronous } = v.tolerance;
  return (
    <Panel title="How many may fail" side={<span class="muted">{v.threshold} of {n} must sign</span>}>
      <ul>
        <li>
          {crash === 0 ? "No validator may be down: each is needed for every block." : `Blocks go on while at most ${crash} of ${plural(n, "validator")} ${crash === 1 ? "is" : "are"} down.`}{" "}
          {headroom !== undefined && (headroom < 0
            ? <strong>Now {headroom + v.threshold} are heard from: nothing becomes final.</strong>
            : <>Now {headroom + v.threshold} are heard from, so {headroom === 0 ? <strong>the next failure stops the chain</strong> : `${headroom} more may fail`}.</>)}
        </li>
        <li>
          {byzantine === 0 ? "On a network that loses and delays messages, a single Byzantine validator could help to make two final blocks at a height." : `No two blocks are final at a height while at most ${byzantine} of the validators ${byzantine === 1 ? "is" : "are"} Byzantine, on any network. With ${byzantine + 1} there could be.`}
        </li>
        <li>
          {v.synchrony_delta_ms > 0
            ? `While messages arrive within ${v.synchrony_delta_ms} ms, up to ${synchronous} may be Byzantine.`
            : `Readers that ask for the votes of all ${n} validators are safe with up to ${synchronous} Byzantine ones.`}
        </li>
        <li>A chain that stops loses nothing: it goes on once {v.threshold} validators hear each other.</li>
      </ul>
    </Panel>
  );
}

function Members({ s, v, blocks }: { s: Status; v: Validators; blocks: readonly Block[] }): JSX.Element {
  const peers = new Map(s.peers.map((p) => [p.public_key, p]));
  const strengths = blocks.map((b) => b.certificate?.strength ?? 0);
  const mean = strengths.length === 0 ? undefined : strengths.reduce((a, b) => a + b, 0) / strengths.length;
  return (
    <Panel title="Validators" side={<span class="muted">generation {v.generation}{mean !== undefined && `, ${mean.toFixed(1)} votes a block`}</span>}>
      <Table label="The validators" head={["Name", "Link", ">Height", `Votes in the last ${blocks.length} blocks`, ">Reveals", "Public key", "VRF key"]}>
        {v.validators.map((m) => {
          const self = m.public_key === s.public_key;
          const peer = peers.get(m.public_key);
          const voted = blocks.map((b) => b.certificate?.votes.some((vote) => vote.validator === m.index) === true);
          const link = self ? "this node" : s.node === undefined ? "not shown" : peer?.connected === true ? "linked" : "no link";
          return (
            <tr key={m.public_key} data-validator={m.name} data-link={link}>
              <th scope="row">{m.name}{s.leader === m.index && <span class="tag">leads</span>}</th>
              <td><span class={`state ${link === "no link" ? "bad" : link === "not shown" ? "idle" : "good"}`}>{link}</span></td>
              <td class="number">{self ? count(s.height) : peer === undefined ? "" : count(peer.height)}</td>
              <td><Votes voted={voted} name={m.name} /></td>
              <td class="number" title="commitments of the beacon: revealed, and missed">{count(m.reveals_made)}{m.reveals_missed > 0 && `, ${count(m.reveals_missed)} missed`}</td>
              <td><Hash value={m.public_key} /></td>
              <td><Hash value={m.vrf_key} /></td>
            </tr>
          );
        })}
      </Table>
      <p class="muted">A block needs {v.threshold} votes, so a vote may be missing because it came later than the others. Links are those of the node {s.node ?? "that answers"}.</p>
    </Panel>
  );
}

function Votes({ voted, name }: { voted: readonly boolean[]; name: string }): JSX.Element {
  const made = voted.filter(Boolean).length;
  return (
    <span class="votes">
      <svg viewBox={`0 0 ${window * 4} 12`} width={window * 4} height="12" role="img" aria-label={`${name} voted in ${made} of the last ${voted.length} blocks`}>
        {voted.map((v, i) => <rect key={i} class={v ? "yes" : "no"} x={i * 4} y={v ? 0 : 9} width="3" height={v ? 12 : 3} />)}
      </svg>
      <span class="number">{made}</span>
    </span>
  );
}

function EvidencePanel({ known }: { known: number | undefined }): JSX.Element {
  const answer = useAnswer(async (signal) => (known === 0 ? [] : session.value.evidence({ signal })), [known]);
  const [open, show] = useState<Evidence>();
  return (
    <Panel title="Evidence">
      {answer.state === "failed" && <Failure error={answer.error} what="The node did not answer with its evidence" />}
      {answer.state === "here" && answer.value.length === 0 && <p class="muted">This node knows of no validator that broke a rule.</p>}
      {answer.state === "here" && answer.value.length > 0 && (
        <Table label="Evidence" head={["Height", ">Round", "Rule", "Validator", ""]}>
          {answer.value.map((e, i) => (
            <tr key={i}>
              <td>{count(e.first.height)}</td>
              <td class="number">{e.first.round}</td>
              <td>{e.rule}</td>
              <td><Hash value={e.public_key} /></td>
              <td><button type="button" onClick={() => show(e)}>Check it</button></td>
            </tr>
          ))}
        </Table>
      )}
      {open !== undefined && <Checked value={open} check={checkEvidence} />}
    </Panel>
  );
}

interface Step {
  key: number;
  when: string;
  at: number;
  text: string;
}

async function history(signal: AbortSignal): Promise<Step[]> {
  const genesis: Genesis = await session.value.genesis({ signal });
  const steps: Step[] = [{
    key: 0, when: time(genesis.time_ms), at: 0,
    text: `Genesis: ${genesis.validators.map((v) => v.name).join(", ")}; ${genesis.threshold} of ${genesis.validators.length} must sign.`,
  }];
  let before = new Map(genesis.validators.map((v) => [v.public_key, v.name]));
  const all: FinalChange[] = [];
  for (let from: number | null = 1; from !== null;) {
    const { changes, next }: { changes: FinalChange[]; next: number | null } = await session.value.changes(from, 100, { signal });
    all.push(...changes);
    from = changes.length === 0 ? null : next;
  }
  for (const { header, next } of all) {
    const after = new Map(next.validators.map((v) => [v.public_key, v.name]));
    const came = [...after].filter(([key]) => !before.has(key)).map(([, name]) => name);
    const left = [...before].filter(([key]) => !after.has(key)).map(([, name]) => name);
    const parts = [came.length > 0 && `${came.join(", ")} came`, left.length > 0 && `${left.join(", ")} left`].filter(Boolean);
    steps.push({
      key: next.generation, when: time(header.timestamp), at: header.height,
      text: `Generation ${next.generation}: ${parts.length === 0 ? "the threshold changed" : parts.join("; ")}. Now ${next.threshold} of ${next.validators.length} must sign.`,
    });
    before = after;
  }
  return steps.reverse();
}

function Timeline({ generation }: { generation: number }): JSX.Element {
  const answer = useAnswer(history, [generation]);
  return (
    <Panel title="Changes of the validators">
      {answer.state === "failed" && <Failure error={answer.error} what="The node did not answer with the changes" />}
      {answer.state === "here" && (
        <ol class="timeline">
          {answer.value.map((s) => (
            <li key={s.key}>
              <span class="muted">{s.when}, <a href={`#/block/${s.at}`}>block {count(s.at)}</a></span>
              <span>{s.text}</span>
            </li>
          ))}
        </ol>
      )}
    </Panel>
  );
}

function NodePanel({ s }: { s: Status }): JSX.Element {
  if (s.node === undefined) {
    return (
      <Panel title="The node that answers">
        <Notice level="idle" title="The node shows its short status only">To see links and versions, a client needs the right Observe.</Notice>
      </Panel>
    );
  }
  const versions = s.versions as { node?: string; protocol?: number } | null;
  return (
    <Panel title="The node that answers">
      <Facts
        rows={[
          ["Name", s.node], ["Role", s.role ?? ""], ["Ready", s.ready ? "yes" : `no: ${s.reason ?? "it does not say why"}`],
          ["Public key", s.public_key === undefined ? "" : <Hash value={s.public_key} />],
          ["Last block", <>{count(s.height)}, <code>{short(s.block_hash)}</code></>],
          ["State computed", `up to height ${count(s.state_height ?? 0)}`],
          ["Version", `${versions?.node ?? ""}, protocol ${versions?.protocol ?? ""}`],
        ]}
      />
    </Panel>
  );
}
