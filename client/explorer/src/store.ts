import { useEffect, useState } from "preact/hooks";

/** A value that components show, and that changes on its own. */
export class Store<T> {
  #value: T;
  readonly #listeners = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}

/** The value of a store; the component is drawn again when it changes. */
export function useStore<T>(store: Store<T>): T {
  const [, draw] = useState(0);
  useEffect(() => store.subscribe(() => draw((n) => n + 1)), [store]);
  return store.value;
}

/** Resolves while the page is visible: nothing is asked for a page that nobody sees. */
export function visible(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
    look();
  });
}

/** The time of performance.now(), new every so many milliseconds. */
export function useNow(every: number): number {
  const [now, set] = useState(performance.now());
  useEffect(() => {
    const timer = setInterval(() => set(performance.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

/** What came of a question. */
export type Answer<T> = { state: "asking" } | { state: "here"; value: T } | { state: "failed"; error: unknown };

/** Asks when the component appears and when a key changes. An answer to other keys is never shown. */
export function useAnswer<T>(ask: (signal: AbortSignal) => Promise<T>, keys: readonly unknown[]): Answer<T> {
  const [got, set] = useState<{ keys: readonly unknown[]; answer: Answer<T> }>();
  useEffect(() => {
    const control = new AbortController();
    const take = (answer: Answer<T>): void => {
      if (!control.signal.aborted) set({ keys, answer });
    };
    ask(control.signal).then((value) => take({ state: "here", value }), (error: unknown) => take({ state: "failed", error }));
    return () => control.abort();
  }, keys);
  return got?.keys.every((k, i) => k === keys[i]) ? got.answer : { state: "asking" };
}
