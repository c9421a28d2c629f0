// Parts that several pages are made of.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useMemo, useState } from "preact/hooks";

import type { Condition } from "./condition.js";
import { asJson, asText, bytes, hexDump, reason, short } from "./format.js";
import { enter, hasToken } from "./session.js";
import { useAnswer } from "./store.js";
import { given, trusted, type Report, type Trusted } from "./trust.js";

type Children = { children?: ComponentChildren };

/** A page with its title. The heading takes the focus when the page is opened. */
export function Page({ title, intro, children }: { title: string; intro?: ComponentChildren } & Children): JSX.Element {
  useEffect(() => {
    document.title = `${title} · DISEQ explorer`;
  }, [title]);
  return (
    <>
      <h1 tabIndex={-1}>{title}</h1>
      {intro !== undefined && <p class="intro">{intro}</p>}
      {children}
    </>
  );
}

export function Panel({ title, children, side }: { title: string; side?: ComponentChildren } & Children): JSX.Element {
  const id = useId();
  return (
    <section class="panel" aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {side}
      </header>
      {children}
    </section>
  );
}

const marks: Record<Condition["level"], string> = { good: "✓", idle: "–", warn: "!", bad: "✕" };

export function Notice({ level, title, children }: { level: Condition["level"]; title: string } & Children): JSX.Element {
  return (
    <div class={`notice ${level}`}>
      <span class="mark" aria-hidden="true">{marks[level]}</span>
      <div>
        <strong>{title}</strong>
        {children !== undefined && <div>{children}</div>}
      </div>
    </div>
  );
}

export const Failure = ({ error, what }: { error: unknown; what: string }): JSX.Element => <Notice level="bad" title={what}>{reason(error)}</Notice>;

/** A hash that links to its page, or can be copied. */
export function Hash({ value, href, whole = false }: { value: string; href?: string; whole?: boolean }): JSX.Element {
  const shown = <code class={whole ? "hash whole" : "hash"} title={value}>{whole ? value : short(value)}</code>;
  return href === undefined ? (
    <span class="copied">
      {shown}
      <Copy text={value} />
    </span>
  ) : (
    <a href={href}>{shown}</a>
  );
}

export function Copy({ text }: { text: string }): JSX.Element | null {
  const [done, set] = useState(false);
  // Pages over plain http, other than those of this machine, have no clipboard.
  if (!navigator.clipboard) return null;
  return (
    <button type="button" class="quiet" aria-label={done ? "copied" : `copy ${text}`} onClick={() => void navigator.clipboard.writeText(text).then(() => set(true))}>
      {done ? "copied" : "copy"}
    </button>
  );
}

/** Rows of a name and a value. */
export function Facts({ rows }: { rows: readonly (readonly [string, ComponentChildren] | undefined)[] }): JSX.Element {
  return (
    <dl class="facts">
      {rows.map((row) => row !== undefined && (
        <div key={row[0]}>
          <dt>{row[0]}</dt>
          <dd>{row[1]}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A table that scrolls on its own where the screen is narrow. A head that begins with ">" is one of numbers. */
export function Table({ head, label, children }: { head: readonly string[]; label: string } & Children): JSX.Element {
  return (
    <div class="scroll" role="region" aria-label={label} tabIndex={0}>
      <table>
        <thead>
          <tr>{head.map((h) => <th key={h} scope="col" class={h.startsWith(">") ? "number" : undefined}>{h.replace(">", "")}</th>)}</tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

/** Gives bytes to the reader as a file. */
export function save(name: string, content: Uint8Array<ArrayBuffer>, type = "application/octet-stream"): void {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const most = 64 << 10;

/** The data of a message: as text, as JSON, as hex, and whole as a file. */
export function Data({ data, name }: { data: Uint8Array; name: string }): JSX.Element {
  const part = useMemo(() => data.subarray(0, most), [data]);
  const forms = useMemo(() => {
    // The part may end within a character.
    const text = asText(part) ?? (data.length > most ? asText(part.subarray(0, most - 4)) : undefined);
    const json = text === undefined || data.length > most ? undefined : asJson(text);
    return { ...(json === undefined ? {} : { JSON: json }), ...(text === undefined ? {} : { Text: text }), Hex: hexDump(part) };
  }, [data]);
  const [chosen, choose] = useState<string>();
  const form = chosen !== undefined && chosen in forms ? chosen : Object.keys(forms)[0] as string;
  return (
    <div class="data">
      <div class="row">
        <div class="choice" role="group" aria-label="Show the data as">
          {Object.keys(forms).map((f) => (
            <button key={f} type="button" aria-pressed={f === form} onClick={() => choose(f)}>{f}</button>
          ))}
        </div>
        <span class="muted">{bytes(data.length)}</span>
        <button type="button" onClick={() => save(name, new Uint8Array(data))}>Save the bytes</button>
      </div>
      <pre tabIndex={0} aria-label={`the data as ${form}`}>{(forms as Record<string, string>)[form]}</pre>
      {data.length > most && <p class="muted">These are the first {bytes(most)}. The file has all.</p>}
    </div>
  );
}

const states = { held: "✓", failed: "✕", open: "–" };
const spoken = { held: "holds", failed: "fails", open: "not checked" };

/** A check, step by step. */
export function Steps({ report, against }: { report: Report; against?: Trusted | undefined }): JSX.Element {
  return (
    <div class="report" data-holds={report.holds}>
      <Notice level={report.holds ? "good" : "bad"} title={report.holds ? "It verifies" : "Refused"}>{report.verdict}</Notice>
      <ol class="steps">
        {report.lines.map((l) => (
          <li key={l.step} class={l.state} data-step={l.step}>
            <span class="mark" role="img" aria-label={spoken[l.state]}>{states[l.state]}</span>
            <span>
              <strong>{l.title}</strong>
              <span>{l.state === "open" ? "not checked" : l.text}</span>
            </span>
          </li>
        ))}
      </ol>
      {against !== undefined && <Against trusted={against} />}
    </div>
  );
}

export function Against({ trusted: t, hint = true }: { trusted: Trusted; hint?: boolean }): JSX.Element {
  return (
    <p class="muted">
      Checked in this browser, against {t.name}.
      {!t.given && hint && <> That is no better than the word of the node: <a href="#/check">bring your own</a> to be sure.</>}
    </p>
  );
}

/** Runs a check against what the reader trusts, and shows it. */
export function Checked<T>({ value, check }: { value: T; check: (value: T, t: Trusted) => Promise<Report> }): JSX.Element {
  const answer = useAnswer(async () => {
    const t = await trusted();
    return { t, report: await check(value, t) };
  }, [value, given.value]);
  if (answer.state === "failed") return <Failure error={answer.error} what="It cannot be checked" />;
  return answer.state === "here" ? <Steps report={answer.value.report} against={answer.value.t} /> : <p class="muted">Checking…</p>;
}

/** A place to drop a file on. It is a button for the keyboard, too. */
export function Drop({ label, hint, take }: { label: string; hint?: string; take: (content: Uint8Array<ArrayBuffer>, name: string) => void }): JSX.Element {
  const [over, set] = useState(false);
  const id = useId();
  const read = (files: FileList | null | undefined): void => {
    const file = files?.[0];
    if (file !== undefined) void file.arrayBuffer().then((b) => take(new Uint8Array(b), file.name));
  };
  return (
    <div
      class={over ? "drop over" : "drop"}
      onDragOver={(e) => {
        e.preventDefault();
        set(true);
      }}
      onDragLeave={() => set(false)}
      onDrop={(e) => {
        e.preventDefault();
        set(false);
        read(e.dataTransfer?.files);
      }}
    >
      <label for={id}>{label}</label>
      <input
        id={id} type="file"
        onChange={(e) => {
          read(e.currentTarget.files);
          e.currentTarget.value = ""; // the same file may be chosen again
        }}
      />
      {hint !== undefined && <span class="muted">{hint}</span>}
    </div>
  );
}

/** Asks for a token. It stays in the memory of this page. */
export function Token(): JSX.Element {
  const [error, set] = useState<string>();
  const id = useId();
  return (
    <form
      class="token"
      onSubmit={(e) => {
        e.preventDefault();
        const field = e.currentTarget.elements.namedItem("token") as HTMLInputElement;
        try {
          enter(field.value);
          set(undefined);
        } catch (problem) {
          set(`The token was not used: ${reason(problem)}.`);
        }
        field.value = "";
      }}
    >
      <label for={id}>Token</label>
      <input id={id} name="token" type="password" autocomplete="off" spellcheck={false} required />
      <button type="submit">Use it</button>
      <span class="muted">It stays in the memory of this page, and goes to this node only.{hasToken() && " One is in use."}</span>
      {error !== undefined && <p role="alert" class="wrong">{error}</p>}
    </form>
  );
}
