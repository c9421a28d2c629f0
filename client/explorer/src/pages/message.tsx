import { NodeError, readReceipt, type MessageStatus, type Proof, type Receipt } from "@diseq/client";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { count, reason, time } from "../format.js";
import { Checked, Data, Facts, Failure, Hash, Notice, Page, Panel, save } from "../parts.js";
import { raw, session } from "../session.js";
import { visible } from "../store.js";
import { checkProof, checkReceipt } from "../trust.js";

const pollEvery = 700;

/** Asks for the state of a message until it is final. */
export function useMessage(id: string, begin = true): { status?: MessageStatus; error?: unknown } {
  const [answer, set] = useState<{ status?: MessageStatus; error?: unknown }>({});
  useEffect(() => {
    set({});
    if (!begin) return;
    const control = new AbortController();
    void (async () => {
      for (;;) {
        await visible(control.signal);
        if (control.signal.aborted) return;
        try {
          const status = await session.value.message(id, { signal: control.signal });
          set({ status });
          if (status.status === "final") return;
        } catch (error) {
          if (control.signal.aborted) return;
          set({ error });
          if (error instanceof NodeError && !error.temporary) return;
        }
        await new Promise((resolve) => setTimeout(resolve, pollEvery));
      }
    })();
    return () => control.abort();
  }, [id, begin]);
  return answer;
}

export function MessagePage({ id }: { id: string }): JSX.Element {
  const { status, error } = useMessage(id);
  return (
    <Page title="Message" intro={<Hash value={id} whole />}>
      {status === undefined && error === undefined && <p class="muted">Asking the node…</p>}
      {error instanceof NodeError && error.status === 404
        ? (
          <>
            <Notice level="idle" title="This node has never seen a message with this id">Another node may have it, if it is new.</Notice>
            <Absence id={id} />
          </>
        )
        : error !== undefined && <Failure error={error} what="The node did not answer with the message" />}
      {status !== undefined && (
        <>
          <Panel title="State">
            {status.status === "final" && status.height !== undefined
              ? <Facts rows={[["State", "final"], ["Block", <a href={`#/block/${status.height}`}>{count(status.height)}</a>], ["Index", count(status.index ?? 0)], ...(status.timestamp > 0 ? [["Submitted as of", time(status.timestamp * 1000)] as const] : [])]} />
              : <Notice level="idle" title="Pending">The message waits for its place in the order. This page watches it.</Notice>}
          </Panel>
          <Panel title="Data">
            <Data data={status.data} name={`message-${id.slice(0, 16)}`} />
          </Panel>
          {status.status === "final" && <ReceiptPanel id={id} />}
        </>
      )}
    </Page>
  );
}

/** The receipt of a final message: checked, and to be kept. */
export function ReceiptPanel({ id }: { id: string }): JSX.Element {
  const [got, set] = useState<{ content: Uint8Array<ArrayBuffer>; receipt: Receipt }>();
  const [error, fail] = useState<unknown>();
  useEffect(() => {
    const control = new AbortController();
    set(undefined);
    fail(undefined);
    raw(`v1/messages/${id}/receipt`, control.signal)
      .then((content) => set({ content, receipt: readReceipt(content) }))
      .catch((e: unknown) => control.signal.aborted || fail(e));
    return () => control.abort();
  }, [id]);
  return (
    <Panel title="Receipt" side={got !== undefined && <button type="button" onClick={() => save(`receipt-${id.slice(0, 16)}.json`, got.content, "application/json")}>Save the receipt</button>}>
      {error !== undefined && <Failure error={error} what="There is no receipt that could be read" />}
      {got !== undefined && got.receipt.message.id !== id && <Notice level="bad" title="The node answered with the receipt of another message">{got.receipt.message.id}</Notice>}
      {got !== undefined && <Checked value={got.receipt} check={checkReceipt} />}
    </Panel>
  );
}

function Absence({ id }: { id: string }): JSX.Element {
  const [proof, set] = useState<{ content: Uint8Array<ArrayBuffer>; proof: Proof }>();
  const [error, fail] = useState<unknown>();
  const ask = async (): Promise<void> => {
    const { header } = await session.value.block("latest", { messages: false });
    const path = { height: header.state_height };
    const [content, read] = await Promise.all([raw(`v1/proofs/${id}?height=${header.state_height}`), session.value.proof(id, path)]);
    set({ content, proof: read });
  };
  return (
    <Panel title="Proof of absence" side={proof !== undefined && <button type="button" onClick={() => save(`absence-${id.slice(0, 16)}.json`, proof.content, "application/json")}>Save the proof</button>}>
      {proof === undefined && (
        <>
          <p>A node can prove that a message is not in the state of the chain.</p>
          <button type="button" onClick={() => void ask().catch(fail)}>Ask for a proof</button>
        </>
      )}
      {error !== undefined && proof === undefined && <p class="wrong">{reason(error)}</p>}
      {proof !== undefined && <Checked value={proof.proof} check={checkProof} />}
    </Panel>
  );
}
