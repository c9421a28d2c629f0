import { messageId } from "@diseq/client";
import type { JSX } from "preact";
import { useMemo, useState } from "preact/hooks";

import { bytes, count, reason } from "../format.js";
import { Drop, Hash, Notice, Page, Panel } from "../parts.js";
import { session } from "../session.js";
import { ReceiptPanel, useMessage } from "./message.js";

type Sent = { id: string; state: "sending" | "accepted" | "refused"; error?: unknown };

export function SubmitPage(): JSX.Element {
  const [text, write] = useState("");
  const [file, set] = useState<{ data: Uint8Array<ArrayBuffer>; name: string }>();
  const [sent, send] = useState<Sent>();
  const data = useMemo(() => file?.data ?? new TextEncoder().encode(text), [file, text]);
  const id = useMemo(() => (data.length === 0 ? undefined : messageId(data)), [data]);
  const submit = async (): Promise<void> => {
    if (id === undefined) return;
    send({ id, state: "sending" });
    try {
      await session.value.submit([data]);
      send({ id, state: "accepted" });
    } catch (error) {
      send({ id, state: "refused", error });
    }
  };
  return (
    <Page title="Submit" intro="A message is ordered once and for good, and everybody who reads the chain can read it. Equal content is one message: to send it twice, add something to it.">
      <Panel title="The message">
        <form
          onSubmit={(e) => {
            e.preventDefault();
            void submit();
          }}
        >
          <label>
            <span>Text</span>
            <textarea
              rows={4} value={text} disabled={file !== undefined}
              onInput={(e) => write(e.currentTarget.value)}
            />
          </label>
          <div class="row">
            <Drop label="Or choose a file, or drop it here" take={(content, name) => set({ data: content, name })} />
            {file !== undefined && <button type="button" onClick={() => set(undefined)}>Take {file.name} away</button>}
          </div>
          <div class="row">
            <button type="submit" class="main" disabled={id === undefined || sent?.state === "sending"}>Submit {data.length > 0 ? bytes(data.length) : ""}</button>
            {id !== undefined && <span class="muted">id <Hash value={id} /></span>}
          </div>
        </form>
      </Panel>
      {sent !== undefined && <Way key={sent.id} sent={sent} />}
    </Page>
  );
}

function Way({ sent }: { sent: Sent }): JSX.Element {
  const { status } = useMessage(sent.id, sent.state === "accepted");
  const final = status?.status === "final";
  const stage = (state: "held" | "failed" | "open", title: string, text: JSX.Element | string): JSX.Element => (
    <li class={state}>
      <span class="mark" aria-hidden="true">{{ held: "✓", failed: "✕", open: "…" }[state]}</span>
      <span><strong>{title}</strong><span>{text}</span></span>
    </li>
  );
  return (
    <>
      <Panel title="Its way">
        <p><a href={`#/message/${sent.id}`}><Hash value={sent.id} whole /></a></p>
        <ol class="steps" aria-live="polite">
          {stage(sent.state === "accepted" ? "held" : sent.state === "refused" ? "failed" : "open", "Accepted",
            sent.state === "refused" ? reason(sent.error) : "it is on the disk of this node, and of others as the network is healthy")}
          {stage(final ? "held" : "open", "Final", final ? <>number {count(status.index ?? 0)} of <a href={`#/block/${status.height}`}>block {count(status.height ?? 0)}</a></> : "waits for its block")}
        </ol>
        {sent.state === "refused" && <Notice level="warn" title="It is safe to submit it again">Here, or to another node.</Notice>}
      </Panel>
      {final && <ReceiptPanel id={sent.id} />}
    </>
  );
}
