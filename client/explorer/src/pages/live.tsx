import type { Block } from "@diseq/client";
import type { ComponentChildren, JSX } from "preact";

import { Bars } from "../chart.js";
import { count, duration, plural, seconds, short, time } from "../format.js";
import { counted, known, live, nameOf, type Live } from "../live.js";
import { Failure, Page, Panel, Table } from "../parts.js";
import { nodeTime } from "../session.js";
import { useNow, useStore } from "../store.js";

const bars = 60;
const shown = 20;

function Tile({ title, value, hint }: { title: string; value: ComponentChildren; hint?: ComponentChildren }): JSX.Element {
  return (
    <div class="tile">
      <dt>{title}</dt>
      <dd>
        <span class="value">{value}</span>
        {hint !== undefined && <span class="muted">{hint}</span>}
      </dd>
    </div>
  );
}

// Messages of each of the last seconds.
function perSecond(l: Live): number[] {
  const now = Math.floor(nodeTime() / 1000);
  return Array.from({ length: counted }, (_, i) => l.seconds.get(now - counted + 1 + i) ?? 0);
}

// The mean of the last seconds, as far as the page has counted. The second that runs is not over.
function rate(l: Live, rates: readonly number[]): number {
  const covered = l.countedFrom === undefined ? 10 : Math.min(10, Math.max(1, Math.floor((nodeTime() - l.countedFrom) / 1000)));
  return rates.slice(-covered - 1, -1).reduce((a, b) => a + b, 0) / covered;
}

function Row({ block, before, l }: { block: Block; before: Block | undefined; l: Live }): JSX.Element {
  const h = block.header;
  return (
    <tr>
      <td><a href={`#/block/${h.height}`}>{count(h.height)}</a></td>
      <td>{time(h.timestamp)}</td>
      <td class="number">{before === undefined || before.header.height === 0 ? "" : duration(h.timestamp - before.header.timestamp)}</td>
      <td class="number">{count(h.messages_count)}</td>
      <td>{h.height === 0 ? "genesis" : nameOf(l, h.proposer, h.validators_hash)}</td>
      <td class="number">{block.certificate?.round ?? ""}</td>
      <td class="number">{block.certificate?.strength ?? ""}</td>
      <td><code>{short(block.header_hash)}</code></td>
    </tr>
  );
}

function NoBlocks({ l }: { l: Live }): JSX.Element {
  if (l.unread !== undefined) return <Failure error={l.unread} what="The node does not show you its blocks" />;
  return <p class="muted">{l.status === undefined ? "Asking the node…" : "They have not come yet."}</p>;
}

export function LivePage(): JSX.Element {
  const l = useStore(live);
  const now = useNow(500);
  const s = l.status;
  const { sinceBlock } = known(l, now);
  const rates = perSecond(l);
  const latest = l.latencies.at(-1);
  const last = l.blocks.slice(-shown).reverse();
  const stale = l.problem === undefined ? "" : " stale";
  return (
    <Page title="Live">
      <dl class={`tiles${stale}`}>
        <Tile title="Height" value={s === undefined ? "…" : count(Math.max(s.height, l.blocks.at(-1)?.header.height ?? 0))} hint={s === undefined ? "" : `chain ${s.chain_id}`} />
        <Tile
          title="Next block" value={s?.leader === undefined ? "…" : nameOf(l, s.leader)}
          hint={s?.round === undefined ? "" : `leads round ${s.round}${s.round > 0 ? `; ${plural(s.round, "round")} failed` : ""}`}
        />
        <Tile title="Messages a second" value={s === undefined ? "…" : rate(l, rates).toFixed(1)} hint="of the last 10 s" />
        <Tile title="Last final block" value={sinceBlock === undefined ? "…" : `${seconds(sinceBlock)} ago`} hint={s === undefined || s.height === 0 ? "" : time(s.block_timestamp)} />
        <Tile title="Finality" value={latest === undefined ? "…" : duration(latest.ms)} hint="from a block's timestamp" />
        <Tile title="Waiting" value={s?.pool === undefined ? "…" : count(s.pool.messages)} hint="messages in this node's pool" />
      </dl>
      <div class={`charts${stale}`}>
        <Bars values={rates} places={bars} label="Messages a second, last minute" unit={(v) => count(v)} />
        <Bars values={l.latencies.slice(-bars).map((x) => x.ms)} places={bars} label="Finality of the last blocks seen" unit={duration} />
        <Bars values={l.blocks.slice(-bars).map((b) => b.header.messages_count)} places={bars} label="Messages of the last blocks" unit={(v) => count(v)} />
      </div>
      <Panel title="Last blocks" side={<span class="muted">{l.paused ? "paused" : "as they come"}</span>}>
        {last.length === 0 ? <NoBlocks l={l} /> : (
          <Table label="The last blocks" head={["Height", "Time", ">After", ">Messages", "Proposer", ">Round", ">Votes", "Hash"]}>
            {last.map((b, i) => <Row key={b.header.height} block={b} before={l.blocks.at(-i - 2)} l={l} />)}
          </Table>
        )}
      </Panel>
    </Page>
  );
}
