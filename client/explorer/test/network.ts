// A network of four validators on this machine. DISEQ names the program.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { createPrivateKey, sign } from "node:crypto";
import { mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const read = <T>(...path: string[]): T => JSON.parse(readFileSync(join(...path), "utf8")) as T;

// Ports follow each other, so the first of enough free ones is searched for below those that the
// system gives to clients.
async function freePorts(count: number): Promise<number> {
  const free = (port: number) =>
    new Promise<boolean>((resolve) => {
      const s = createServer();
      s.once("error", () => resolve(false));
      s.listen(port, "127.0.0.1", () => s.close(() => resolve(true)));
    });
  for (let first = 20_000 + Math.floor(Math.random() * 10_000); first < 32_000; first += count) {
    const all = await Promise.all(Array.from({ length: count }, (_, i) => free(first + i)));
    if (all.every(Boolean)) return first;
  }
  throw new Error("no free ports");
}

export interface Key {
  public_key: string;
  /** Signs with it. The signature is in hex. */
  sign(message: Uint8Array): string;
}

export class Network {
  // Nodes beside those of the network.
  private readonly others: ChildProcess[] = [];

  private constructor(readonly diseq: string, readonly dir: string, readonly nodes: readonly string[], private readonly child: ChildProcess) {}

  static async start(diseq: string): Promise<Network> {
    const dir = mkdtempSync(join(tmpdir(), "diseq-explorer-"));
    const port = await freePorts(12);
    const log = openSync(join(dir, "log"), "w");
    const args = ["devnet", "--validators", "4", "--threshold", "3", "--dir", join(dir, "net"), "--http", `127.0.0.1:${port}`];
    const child = spawn(diseq, args, { stdio: ["ignore", "pipe", log] });
    let out = "";
    await new Promise<void>((resolve, reject) => {
      child.stdout?.on("data", (part: Buffer) => {
        out += part;
        if (/^ready$/m.test(out)) resolve();
      });
      child.once("exit", (code) => reject(new Error(`the network ended with ${code}:\n${out}${readFileSync(join(dir, "log"), "utf8")}`)));
    });
    return new Network(diseq, dir, [0, 1, 2, 3].map((i) => `http://127.0.0.1:${port + i}`), child);
  }

  get genesis(): string {
    return join(this.dir, "net", "genesis.json");
  }

  /** Kills the node of an index. */
  kill(index: number): void {
    const { nodes } = read<{ nodes: { http: string; pid: number }[] }>(this.dir, "net", "network.json");
    const address = (this.nodes[index] as string).replace("http://", "");
    const node = nodes.find((n) => n.http.endsWith(address));
    if (node === undefined) throw new Error(`no node at ${address}`);
    process.kill(node.pid, "SIGKILL");
  }

  /** Adds a validator. */
  async add(threshold: number): Promise<void> {
    await run(this.diseq, ["devnet", "add", "--dir", join(this.dir, "net"), "--threshold", String(threshold), "--timeout", "10m"]);
  }

  /** The key of the node of an index. */
  key(index: number): Key {
    const keys = join(this.dir, "net", `node${index}`, "keys");
    const key = createPrivateKey(readFileSync(join(keys, "signing.key")));
    return { ...read<{ public_key: string }>(keys, "public.json"), sign: (message) => sign(null, message, key).toString("hex") };
  }

  /** Starts an observer with an access file, and returns its address. Tokens are files beside the file, by their names. */
  async guarded(access: object, tokens: Record<string, string>): Promise<string> {
    const [net, dir] = [join(this.dir, "net"), join(this.dir, "net", "guarded")];
    await run(this.diseq, ["init", "--observer", "--name", "guarded", "--dir", dir]);
    for (const [name, token] of Object.entries(tokens)) writeFileSync(join(dir, name), token);
    writeFileSync(join(dir, "access.yaml"), JSON.stringify(access));
    const port = await freePorts(3);
    const at = (i: number) => `127.0.0.1:${port + i}`;
    const config = {
      name: "guarded", genesis: "../genesis.json", keys: "keys", data: "data", peers: "../peers.json", access: "access.yaml",
      listen: { public: at(0), peer: at(1), operations: at(2) },
    };
    writeFileSync(join(dir, "node.yaml"), JSON.stringify(config));
    // The nodes let in whoever is in this file. They read it while it may change.
    const peers = read<{ peers: object[] }>(net, "peers.json");
    peers.peers.push({ name: "guarded", public_key: read<{ public_key: string }>(dir, "keys", "public.json").public_key, address: at(1) });
    writeFileSync(join(net, "peers.new"), JSON.stringify(peers));
    renameSync(join(net, "peers.new"), join(net, "peers.json"));
    const log = openSync(join(dir, "log"), "w");
    const child = spawn(this.diseq, ["node", "--config", join(dir, "node.yaml")], { stdio: ["ignore", log, log] });
    this.others.push(child);
    for (;;) {
      if (child.exitCode !== null) throw new Error(`the node ended with ${child.exitCode}:\n${readFileSync(join(dir, "log"), "utf8")}`);
      const ready = await fetch(`http://${at(0)}/readyz`).then((r) => r.ok, () => false);
      if (ready) return `http://${at(0)}`;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  async stop(): Promise<void> {
    for (const child of [...this.others, this.child]) {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGTERM");
      await gone;
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}
