// Numbers, times and bytes as people read them.

const thousands = new Intl.NumberFormat("en");

export const count = (n: number): string => thousands.format(n);

export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

/** A duration: 340 ms, 4.2 s, 3 min, 5 h, 2 d. */
export function duration(ms: number): string {
  if (ms < 0) ms = 0;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  return ms < 172_800_000 ? `${Math.round(ms / 3_600_000)} h` : `${Math.round(ms / 86_400_000)} d`;
}

/** A duration in whole seconds, for clocks that tick. */
export const seconds = (ms: number): string => (ms < 120_000 ? `${Math.max(0, Math.floor(ms / 1000))} s` : duration(ms));

const units = ["bytes", "KiB", "MiB", "GiB"];

export function bytes(n: number): string {
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return unit === 0 ? plural(n, "byte") : `${n.toFixed(n < 10 ? 1 : 0)} ${units[unit]}`;
}

const clock = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });

/** A time of Unix milliseconds in the time zone of this machine. */
export const time = (ms: number): string => clock.format(ms);

/** The beginning of a hash. */
export const short = (hash: string): string => `${hash.slice(0, 10)}…`;

/** UTF-8 as text; undefined for bytes that are none, or that a page cannot show. */
export function asText(data: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
    // Control characters, other than tab and line ends, would be invisible.
    return /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

/** JSON with indentation; undefined for all else. It is for reading: numbers stay as they are written. */
export function asJson(text: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? indent(text) : undefined;
  } catch {
    return undefined;
  }
}

// JSON.parse would change large numbers, so the text is broken into lines as it is.
function indent(text: string): string {
  let [out, depth] = ["", 0];
  const line = (): string => `\n${"  ".repeat(depth)}`;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g)) {
    if (token === "}" || token === "]") {
      depth--;
      out = /[[{]$/.test(out.trimEnd()) ? out.trimEnd() + token : out + line() + token;
    } else if (token === "{" || token === "[") {
      depth++;
      out += token + line();
    } else {
      out += token === "," ? token + line() : token === ":" ? ": " : token;
    }
  }
  return out.replace(/[ ]+$/gm, "");
}

/** Lines of 16 bytes: where, hex, and what is readable. */
export function hexDump(data: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < data.length; at += 16) {
    const part = [...data.subarray(at, at + 16)];
    const hex = part.map((b) => b.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex}  ${part.map((b) => (b > 31 && b < 127 ? String.fromCharCode(b) : ".")).join("")}`);
  }
  return lines.join("\n");
}

/** An error as a sentence. */
export const reason = (e: unknown): string => (e instanceof Error ? e.message : String(e));
