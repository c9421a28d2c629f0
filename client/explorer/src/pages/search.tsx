import { messageId } from "@diseq/client";
import type { JSX } from "preact";
import { useState } from "preact/hooks";

import { bytes } from "../format.js";
import { Drop, Hash, Page, Panel } from "../parts.js";

/** The page that a search leads to: that of a height, of an id, or of a message with this text. */
export function destination(query: string): string {
  const text = query.trim();
  if (/^[0-9]{1,15}$/.test(text)) return `#/block/${Number(text)}`;
  if (text.toLowerCase() === "latest") return "#/block/latest";
  if (/^[0-9a-fA-F]{64}$/.test(text)) return `#/message/${text.toLowerCase()}`;
  return `#/message/${messageId(new TextEncoder().encode(query))}`;
}

export function SearchPage(): JSX.Element {
  const [content, set] = useState<{ data: Uint8Array; name: string }>();
  const [text, write] = useState("");
  const data = content?.data ?? (text === "" ? undefined : new TextEncoder().encode(text));
  return (
    <Page title="Search" intro="A message is named by its content: this browser computes the id, and sends the node no more than that.">
      <Panel title="By height or id">
        <form
          class="row"
          onSubmit={(e) => {
            e.preventDefault();
            location.hash = destination((e.currentTarget.elements.namedItem("query") as HTMLInputElement).value);
          }}
        >
          <label class="grow">
            <span>Height or id</span>
            <input name="query" required pattern="\s*([0-9]+|[0-9a-fA-F]{64}|latest)\s*" title="a height, 64 digits of an id, or latest" spellcheck={false} autocomplete="off" />
          </label>
          <button type="submit">Find</button>
        </form>
      </Panel>
      <Panel title="By content">
        <label>
          <span>The text, with every blank and line as it was submitted</span>
          <textarea
            rows={4} value={text} spellcheck={false}
            onInput={(e) => {
              write(e.currentTarget.value);
              set(undefined);
            }}
          />
        </label>
        <Drop label="Or choose the file, or drop it here" take={(bytes, name) => set({ data: bytes, name })} />
        {data !== undefined && data.length > 0 && (
          <p>
            {content === undefined ? "The text" : content.name} has {bytes(data.length)} and the id <Hash value={messageId(data)} whole />.{" "}
            <a class="button" href={`#/message/${messageId(data)}`}>Find the message</a>
          </p>
        )}
      </Panel>
    </Page>
  );
}
