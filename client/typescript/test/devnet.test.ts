// The client against a network of four validators. DISEQ names the program.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { verifyCommitment } from "../src/beacon.js";
import {
  Client, Follower, encodeSigned, messageId, parseSigned, readCheckpoint, readGenesis, readReceipt, signMessage, toBase64, verifyBlock, verifyProof,
  verifyReceipt, verifySigned, type Block, type Genesis, type Receipt,
} from "../src/index.js";
import { repositoryFile } from "./files.js";

const run = promisify(execFile);
const diseq = process.env["DISEQ"] ?? "";
const minutes = (n: number) => ({ timeout: n * 60_000 });

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

const copy = <T>(value: T): T => structuredClone(value);
const text = (t: string) => new TextEncoder().encode(t);

describe.skipIf(diseq === "")("a network of four validators", () => {
  let dir: string;
  let net: ChildProcess;
  let nodes: string[];
  let genesis: Genesis;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "diseq-ts-"));
    const port = await freePorts(12);
    const log = openSync(join(dir, "log"), "w");
    const args = ["devnet", "--validators", "4", "--threshold", "3", "--dir", join(dir, "net"), "--http", `127.0.0.1:${port}`, "--beacon-interval", "4"];
    net = spawn(diseq, args, { stdio: ["ignore", "pipe", log] });
    nodes = [0, 1, 2, 3].map((i) => `http://127.0.0.1:${port + i}`);
    await new Promise<void>((resolve, reject) => {
      let out = "";
      net.stdout?.on("data", (part: Buffer) => {
        out += part;
        if (/^ready$/m.test(out)) resolve();
      });
      net.once("exit", (code) => reject(new Error(`the network ended with ${code}:\n${out}${readFileSync(join(dir, "log"), "utf8")}`)));
    });
    genesis = readGenesis(new Uint8Array(readFileSync(join(dir, "net", "genesis.json"))));
  }, 120_000);

  afterAll(async () => {
    const gone = new Promise((resolve) => net.once("exit", resolve));
    net.kill("SIGTERM");
    await gone;
    rmSync(dir, { recursive: true, force: true });
  }, 60_000);

  test("a message becomes final, and its receipt verifies offline and not when altered", minutes(15), async () => {
    const client = new Client(nodes);
    expect(await client.genesis()).toEqual(genesis);
    const data = text(`a message of ${Date.now()}`);
    const [result] = await client.submitWait([data]);
    const receipt = result?.receipt as Receipt;
    verifyReceipt(receipt, genesis);
    verifyReceipt(receipt, genesis, { strength: 3 });
    expect(() => verifyReceipt(receipt, genesis, { strength: 5 })).toThrow("5 asked for");
    expect(await client.message(messageId(data))).toMatchObject({ status: "final", height: receipt.height, index: receipt.index, data });
    for (const alter of [
      (r: Receipt) => void (r.message.data = text("another")),
      (r: Receipt) => void r.index++,
      (r: Receipt) => void r.header.timestamp++,
      (r: Receipt) => void r.certificate.round++,
      (r: Receipt) => void r.certificate.votes.reverse(),
      (r: Receipt) => void (r.chain_id = "other"),
    ]) {
      const forged = copy(receipt);
      alter(forged);
      expect(() => verifyReceipt(forged, genesis)).toThrow();
    }
  });

  test("a signed message shows its author", minutes(15), async () => {
    const seed = crypto.getRandomValues(new Uint8Array(32));
    const signed = signMessage(seed, genesis.chain_id, text("order 1"));
    const [result] = await new Client(nodes).submitWait([encodeSigned(signed)]);
    const receipt = result?.receipt as Receipt;
    verifyReceipt(receipt, genesis);
    const read = parseSigned(receipt.message.data);
    expect(read?.author).toBe(signed.author);
    verifySigned(read as NonNullable<typeof read>, receipt.chain_id, signed.author);
  });

  test("presence and absence are proven", minutes(15), async () => {
    const client = new Client(nodes);
    const data = text(`in the state, ${Date.now()}`);
    const [result] = await client.submitWait([data]);
    const height = (result?.receipt as Receipt).height;
    // A later header certifies the state of the height: messages make headers.
    let certified = 0;
    for await (const b of client.stream({ from: height })) {
      certified = b.header.state_height;
      if (certified >= height) break;
      await client.submit([text(`goes on, ${b.header.height} ${Math.random()}`)]);
    }
    const present = await client.proof(messageId(data), { height: certified });
    verifyProof(present, genesis);
    expect(present.included).toBe(true);
    const absent = await client.proof(messageId(text("never submitted")), { height: certified });
    verifyProof(absent, genesis);
    expect(absent.included).toBe(false);
    absent.included = true;
    expect(() => verifyProof(absent, genesis)).toThrow();
  });

  test("what the beacon reveals verifies", minutes(15), async () => {
    const client = new Client(nodes);
    const interval = genesis.parameters.beacon_interval;
    // The beacons of the epochs; that of epoch -1 is genesis' hash, which block 0 carries.
    const beacons = new Map<number, string>([[-1, (await client.block(0)).header.beacon]]);
    for await (const b of client.stream({ from: 0 })) {
      beacons.set(Math.floor(b.header.height / interval), b.header.beacon);
      const c = b.commitment;
      if (c !== null) {
        const vrfKey = genesis.validators[c.validator]?.vrf_key as string;
        const beacon = beacons.get(c.epoch - 1) as string;
        verifyCommitment(c, genesis.chain_id, beacon, vrfKey);
        expect(() => verifyCommitment({ ...c, output: "11".repeat(32) }, genesis.chain_id, beacon, vrfKey)).toThrow();
        return;
      }
      await client.submit([text(`goes on, ${b.header.height} ${Math.random()}`)]);
    }
  });

  // They run as programs of their own, on the package as it is built.
  test("the examples of docs/clients.md compile and run", minutes(15), async () => {
    const page = new TextDecoder().decode(repositoryFile("docs/clients.md"));
    const examples = [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map((m) =>
      (m[1] as string).replaceAll("http://127.0.0.1:18080", nodes[2] as string).replaceAll("http://127.0.0.1:18081", nodes[1] as string)
        .replaceAll(".devnet/genesis.json", join(dir, "net", "genesis.json")));
    const expected = [
      /^final at height \d+\n$/, /^final at height \d+ by [34] votes\nrefused at step certificate\n$/,
      /^0 0 messages\n1 \d+ messages\nnext time from \d+ bytes\n$/, /^absent after height \d+\n$/,
    ];
    expect(examples.length).toBe(expected.length);
    // Within the package, its name leads to its own dist.
    const folder = fileURLToPath(new URL("../dist/examples", import.meta.url));
    mkdirSync(folder, { recursive: true });
    examples.forEach((e, i) => writeFileSync(join(folder, `${i}.mts`), e));
    const root = fileURLToPath(new URL("..", import.meta.url));
    const config = { compilerOptions: { target: "es2022", module: "nodenext", lib: ["es2024", "dom"], types: ["node"], strict: true, skipLibCheck: true }, include: ["*.mts"] };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
    await run(join(root, "node_modules", ".bin", "tsc"), ["--project", folder], { cwd: root }).catch((e: { stdout: string }) => expect.fail(e.stdout));
    for (const [i, want] of expected.entries()) {
      const { stdout } = await run(process.execPath, [join(folder, `${i}.mjs`)]);
      expect(stdout).toMatch(want);
    }
  });

  test("the stream is followed while a validator is replaced, and a reader from a checkpoint catches up", minutes(20), async () => {
    const client = new Client(nodes);
    const before = new Follower(client, genesis);
    const outdated = new Follower(client, genesis);
    const seen: Block[] = [];
    const changed = (async () => {
      for await (const b of before.stream({ from: 0 })) {
        seen.push(b);
        if (b.change !== null) return;
      }
    })();
    await run(diseq, ["devnet", "replace", "--dir", join(dir, "net"), "v3"]);
    await changed;
    expect(seen.map((b) => b.header.height)).toEqual(seen.map((_, i) => i));
    const checkpoint = before.eras.checkpoint();
    expect(checkpoint.set.generation).toBe(1);

    const [result] = await client.submitWait([text(`after the change, ${Date.now()}`)]);
    const receipt = result?.receipt as Receipt;
    verifyReceipt(receipt, genesis); // it brings the change
    const block = await client.block(receipt.height);
    expect(() => verifyBlock(block, genesis)).toThrow();
    await outdated.verifyBlock(block); // asks for the change
    const document = JSON.stringify(checkpoint);
    const short = await new Follower(client, readCheckpoint(document)).receipt(receipt.message.id);
    expect(short.validator_changes).toEqual([]);
    // The text that the node writes is a document for anyone to keep. Votes may have come meanwhile.
    const raw = await (await fetch(`${nodes[0]}/v1/messages/${receipt.message.id}/receipt`)).text();
    const kept = readReceipt(raw);
    verifyReceipt(kept, genesis);
    expect(kept.header).toEqual(receipt.header);
    expect(raw).toContain(toBase64(receipt.message.data));
  });

  test("a stream goes on at another node when one dies", minutes(15), async () => {
    const client = new Client(nodes.slice(0, 2));
    const status = await client.status();
    expect(status).toMatchObject({ chain_id: genesis.chain_id, ready: true, threshold: 3, validators: 4 });
    const { nodes: running } = JSON.parse(readFileSync(join(dir, "net", "network.json"), "utf8")) as { nodes: { http: string; pid: number }[] };
    const first = running.find((n) => (nodes[0] as string).endsWith(n.http.slice(n.http.lastIndexOf(":"))));
    let [height, killed] = [0, false];
    for await (const b of new Follower(client, genesis).stream({ from: 1 })) {
      expect(b.header.height).toBe(height + 1);
      height = b.header.height;
      if (!killed) process.kill((first as { pid: number }).pid, "SIGKILL");
      killed = true;
      if (height > status.height + 2) break;
      if (height >= status.height) await client.submit([text(`after the kill, ${height}`)]);
    }
    expect(height).toBe(status.height + 3);
  });
});
