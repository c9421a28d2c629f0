import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

import { Against, Drop, Facts, Failure, Hash, Notice, Page, Panel, Steps, save } from "../parts.js";
import { raw } from "../session.js";
import { useAnswer, useStore } from "../store.js";
import {
  checkBlock, checkEvidence, checkProof, checkReceipt, fingerprint, given, readAny, readTrust, report, trusted, type Kind, type Report, type Trusted,
} from "../trust.js";

interface Dropped {
  name: string;
  content: Uint8Array;
}

async function check(content: Uint8Array, t: Trusted, strength: number): Promise<{ kind: Kind["kind"] | undefined; report: Report }> {
  let read: Kind;
  try {
    read = readAny(content);
  } catch (e) {
    return { kind: undefined, report: await report([["document", ""]], "", () => Promise.reject(e)) };
  }
  switch (read.kind) {
    case "receipt": return { kind: read.kind, report: await checkReceipt(read.value, t, strength) };
    case "proof": return { kind: read.kind, report: await checkProof(read.value, t, strength) };
    case "block": return { kind: read.kind, report: await checkBlock(read.value, t, strength) };
    case "evidence": return { kind: read.kind, report: await checkEvidence(read.value, t) };
  }
}

export function CheckPage(): JSX.Element {
  const [dropped, set] = useState<Dropped>();
  const [strength, ask] = useState(0);
  const own = useStore(given);
  const base = useAnswer(trusted, [own]);
  return (
    <Page title="Check a receipt" intro="This browser checks the document itself, with no word from a node. A proof of absence, a block or evidence may take the place of a receipt.">
      <Panel title="1. What you trust">
        <Trust own={own} />
        {base.state === "here" && (
          <Facts rows={[["Chain", base.value.document.chain_id], ["set" in base.value.document ? "Checkpoint" : "Hash of genesis", <Hash value={fingerprint(base.value.document)} whole />]]} />
        )}
        {base.state === "failed" && own === undefined && <Failure error={base.error} what="The node shows no genesis document: bring one" />}
      </Panel>
      <Panel title="2. The document">
        <Drop label="Choose a receipt or a proof, or drop it here" take={(content, name) => set({ content, name })} />
        <label class="row">
          <span>At least so many votes (0: as many as the chain asks for)</span>
          <input type="number" min={0} max={100} value={strength} onInput={(e) => ask(Math.max(0, Math.floor(Number(e.currentTarget.value) || 0)))} />
        </label>
      </Panel>
      {dropped !== undefined && base.state === "here" && <Verdict dropped={dropped} trusted={base.value} strength={strength} />}
    </Page>
  );
}

function Trust({ own }: { own: Trusted | undefined }): JSX.Element {
  const [error, fail] = useState<unknown>();
  return (
    <>
      {own === undefined
        ? (
          <Notice level="warn" title="So far it is the genesis document that this node shows">
            Then a check is no better than the word of the node. Bring the document that the operators of the network publish, or a checkpoint.
          </Notice>
        )
        : <Notice level="good" title={`It is ${own.name}`} />}
      <div class="row">
        <Drop
          label="Choose a genesis document or a checkpoint, or drop it here"
          take={(content, name) => {
            try {
              given.set(readTrust(content, name));
              fail(undefined);
            } catch (e) {
              fail(e);
            }
          }}
        />
        {own !== undefined && <button type="button" onClick={() => given.set(undefined)}>Take it away</button>}
        {own === undefined && <button type="button" onClick={() => void raw("v1/genesis").then((b) => save("genesis.json", b, "application/json"))}>Save the node's, to compare</button>}
      </div>
      {error !== undefined && <Failure error={error} what="This is neither a genesis document nor a checkpoint" />}
    </>
  );
}

function Verdict({ dropped, trusted: t, strength }: { dropped: Dropped; trusted: Trusted; strength: number }): JSX.Element {
  const answer = useAnswer(() => check(dropped.content, t, strength), [dropped, t, strength]);
  const [heard, hear] = useState("");
  useEffect(() => {
    if (answer.state === "here") hear(answer.value.report.verdict);
  }, [answer]);
  return (
    <Panel title="3. The result">
      <p class="muted">{dropped.name}{answer.state === "here" && answer.value.kind !== undefined && `, a ${answer.value.kind}`}</p>
      <p class="unseen" role="status">{heard}</p>
      {answer.state === "here" && <Steps report={answer.value.report} />}
      {answer.state === "failed" && <Failure error={answer.error} what="It cannot be checked" />}
      <Against trusted={t} hint={false} />
    </Panel>
  );
}
