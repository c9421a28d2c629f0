import { fileURLToPath } from "node:url";

import { build } from "vite";

/** Bundles a script as a page would load it: minified, without what it does not use. names are the sources that it imports by a name. */
export async function bundle(script: string, names: Record<string, string>): Promise<string> {
  const alias = Object.fromEntries(Object.entries(names).map(([name, source]) => [name, fileURLToPath(new URL(`../src/${source}`, import.meta.url))]));
  const out = await build({
    configFile: false,
    logLevel: "error",
    plugins: [{ name: "entry", resolveId: (id) => (id === "virtual:entry" ? `\0${id}` : null), load: (id) => (id === "\0virtual:entry" ? script : null) }],
    resolve: { alias },
    build: { write: false, minify: "esbuild", target: "es2022", rollupOptions: { input: "virtual:entry" } },
  });
  const [first] = Array.isArray(out) ? out : [out];
  if (first === undefined || !("output" in first)) throw new Error("no bundle");
  return first.output.map((o) => (o.type === "chunk" ? o.code : "")).join("");
}
