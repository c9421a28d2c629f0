// A network of four validators on this machine. DISEQ names the program.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

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

export class Network {
  private constructor(readonly dir: string, readonly nodes: readonly string[], private readonly child: ChildProcess, readonly printed: string) {}

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
    return new Network(dir, [0, 1, 2, 3].map((i) => `http://127.0.0.1:${port + i}`), child, out);
  }

  get genesis(): string {
    return join(this.dir, "net", "genesis.json");
  }

  /** Kills the node of an index. */
  kill(index: number): void {
    const { nodes } = JSON.parse(readFileSync(join(this.dir, "net", "network.json"), "utf8")) as { nodes: { http: string; pid: number }[] };
    const address = (this.nodes[index] as string).replace("http://", "");
    const node = nodes.find((n) => n.http.endsWith(address));
    if (node === undefined) throw new Error(`no node at ${address}`);
    process.kill(node.pid, "SIGKILL");
  }

  async stop(): Promise<void> {
    const gone = new Promise((resolve) => this.child.once("exit", resolve));
    if (this.child.exitCode === null) {
      this.child.kill("SIGTERM");
      await gone;
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}
