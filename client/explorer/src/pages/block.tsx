import { NodeError, type Block, type OrderedMessage, type Validators } from "@diseq/client";
import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { asText, bytes, count, plural, time } from "../format.js";
import { live } from "../live.js";
import { Checked, Facts, Failure, Hash, Notice, Page, Panel, Table, save } from "../parts.js";
import { raw, session } from "../session.js";
import { useAnswer, useStore } from "../store.js";
import { checkBlock, given } from "../trust.js";

const atOnce = 50;
const none = "0".repeat(64);

export function BlockPage({ height }: { height: string }): JSX.Element {
  useStore(given);
  const at = height === "latest" ? "latest" : Number(height);
  const { status } = useStore(live);
  // A block that is not there yet is asked for again when it comes.
  const there = at === "latest" || (status?.height ?? Infinity) >= at;
  const answer = useAnswer(async (signal) => {
    const block = await session.value.block(at, { signal });
    const set = await session.value.validators({ height: Math.max(1, block.header.height), signal }).catch(() => undefined);
    return { block, set };
  }, [height, there]);
  return (
    <Page title={`Block ${height}`}>
      {answer.state === "asking" && <p class="muted">Asking the node…</p>}
      {answer.state === "failed" && (answer.error instanceof NodeError && answer.error.status === 404
        ? <Notice level="idle" title="There is no such block yet">{answer.error.message}</Notice>
        : <Failure error={answer.error} what="The node did not answer with the block" />)}
      {answer.state === "here" && <Whole {...answer.value} />}
    </Page>
  );
}

function Whole({ block, set }: { block: Block; set: Validators | undefined }): JSX.Element {
  const h = block.header;
  const name = (i: number): string => set?.validators[i]?.name ?? `#${i}`;
  const votes = block.certificate?.votes ?? [];
  const voted = new Set(votes.map((v) => v.validator));
  return (
    <>
      <nav class="row" aria-label="Blocks">
        {h.height > 0 && <a class="button" href={`#/block/${h.height - 1}`} rel="prev">← {count(h.height - 1)}</a>}
        <a class="button" href={`#/block/${h.height + 1}`} rel="next">{count(h.height + 1)} →</a>
        <button type="button" onClick={() => void raw(`v1/blocks/${h.height}`).then((b) => save(`block-${h.height}.json`, b, "application/json"))}>Save the block</button>
      </nav>
      <Panel title="Check">
        <Checked value={block} check={checkBlock} />
      </Panel>
      <Panel title="Header">
        <Facts
          rows={[
            ["Height", count(h.height)],
            ["Time", h.height === 0 ? `${time(h.timestamp)}, of the genesis document` : `${time(h.timestamp)}, by the clock of the proposer`],
            ["Proposer", h.height === 0 ? "none: this is genesis" : name(h.proposer)],
            ["Messages", count(h.messages_count)],
            ["Hash", <Hash value={block.header_hash} />],
            ["Block below", h.height > 0 ? <Hash value={h.parent_hash} href={`#/block/${h.height - 1}`} /> : "none"],
            h.messages_count === 0 ? undefined : ["Messages root", <Hash value={h.messages_root} />],
            ["State", <>after height {count(h.state_height)}: {h.state_root === none ? "empty" : <Hash value={h.state_root} />}</>],
            ["Beacon", <Hash value={h.beacon} />],
            h.change_hash === none ? undefined : ["Change of the validators", block.change === null ? <Hash value={h.change_hash} /> : `to generation ${block.change.next.generation}: ${block.change.next.validators.map((v) => v.name).join(", ")}; ${block.change.next.threshold} must sign`],
          ]}
        />
      </Panel>
      {block.certificate !== null && (
        <Panel title="Certificate">
          <Facts
            rows={[
              ["Strength", `${plural(votes.length, "vote")}${set === undefined ? "" : ` of ${set.validators.length}; ${set.threshold} make the block final`}`],
              ["Round", block.certificate.round === 0 ? "0: no round failed" : `${block.certificate.round}: ${plural(block.certificate.round, "round")} failed before`],
              ["Signed by", [...voted].map(name).join(", ")],
              set === undefined || voted.size === set.validators.length ? undefined : ["Not among them", set.validators.filter((v) => !voted.has(v.index)).map((v) => v.name).join(", ")],
            ]}
          />
        </Panel>
      )}
      <Panel title={plural(block.messages.length, "message")}>
        <Messages messages={block.messages} />
      </Panel>
    </>
  );
}

function preview(data: Uint8Array): string {
  const text = asText(data.subarray(0, 80)) ?? asText(data.subarray(0, 76));
  return text === undefined ? "bytes that are no text" : text.length < data.length ? `${text}…` : text;
}

function Messages({ messages }: { messages: readonly OrderedMessage[] }): JSX.Element {
  const [most, set] = useState(atOnce);
  if (messages.length === 0) return <p class="muted">The block has no messages: it certifies the state, or carries what the validators agree on.</p>;
  return (
    <>
      <Table label="Messages of the block" head={[">Index", "Id", ">Size", "Begins with"]}>
        {messages.slice(0, most).map((m, i) => (
          <tr key={i}>
            <td class="number">{i}</td>
            <td><Hash value={m.id} href={`#/message/${m.id}`} /></td>
            <td class="number">{bytes(m.data.length)}</td>
            <td class="preview">{preview(m.data)}</td>
          </tr>
        ))}
      </Table>
      {messages.length > most && <button type="button" onClick={() => set(most + 10 * atOnce)}>Show more of {count(messages.length)}</button>}
    </>
  );
}
