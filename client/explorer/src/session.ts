// The node that served the page, and how it is asked.

import { Client, NodeError, type ClientOptions } from "@diseq/client";

import { Store } from "./store.js";

/** The folder of the page: the interface of the node is beside it. */
export const base = new URL(".", document.baseURI).href;

// A token is kept here alone: it is gone with the page.
let token: string | undefined;

/** How far the clock of this machine is ahead of the node's, in milliseconds, as far as answers tell. */
let ahead = 0;

const watched: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  const date = Date.parse(response.headers.get("Date") ?? "");
  // The header has whole seconds.
  if (!Number.isNaN(date)) ahead = Math.abs(Date.now() - date) > 2000 ? Date.now() - date - 500 : 0;
  return response;
};

function connect(): Client {
  const options: ClientOptions = { retryFor: 0, fetch: watched };
  if (token !== undefined) options.token = () => token ?? "";
  return new Client(base, options);
}

/** The client of the node. It is another one after a token was entered. */
export const session = new Store(connect());

/** Uses a token from now on; an empty one is none. It throws where a token could be overheard. */
export function enter(value: string): void {
  const before = token;
  token = value.trim() === "" ? undefined : value.trim();
  try {
    session.set(connect());
  } catch (e) {
    token = before;
    throw e;
  }
}

/** Whether a token is in use. */
export const hasToken = (): boolean => token !== undefined;

/** The time as the node's clock has it, in Unix milliseconds. */
export const nodeTime = (): number => Date.now() - ahead;

/** The bytes of an answer, to keep as they are. */
export async function raw(path: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const response = await watched(base + path, {
    headers: { Accept: "application/json", ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }) },
    cache: "no-store", redirect: "error", signal: signal ?? null,
  });
  const content = new Uint8Array(await response.arrayBuffer());
  if (response.ok) return content;
  let [code, message] = ["", response.statusText];
  try {
    const { error } = JSON.parse(new TextDecoder().decode(content)) as { error: { code: string; message: string } };
    [code, message] = [String(error.code), String(error.message)];
  } catch {
    // An answer of a proxy.
  }
  throw new NodeError(response.status, code, message);
}
