// Messages that show who wrote them (docs/protocol.md, signed messages).

import { equalBytes, fromHex, textBytes, toHex, Writer } from "./bytes.js";
import { keyProblem, publicKeyOf, signWith, verifySignature } from "./ed25519.js";
import { refuse } from "./errors.js";

const magic = Uint8Array.of(0x89, 0x44, 0x49, 0x53, 0x45, 0x51, 0x53, 0x4d);
const version = 1;
const maxChainId = 64;

/** The data of a message with its author. Keys and signatures are in hex. */
export interface SignedMessage {
  chainId: string;
  author: string;
  content: Uint8Array;
  signature: string;
}

function unsigned(w: Writer, m: Omit<SignedMessage, "signature">): Writer {
  return w.raw(magic).u8(version).text(m.chainId).hex(m.author).bytes(m.content);
}

function signing(m: Omit<SignedMessage, "signature">): Uint8Array {
  return unsigned(new Writer().ascii("diseq/signed-message"), m).finish();
}

/** Signs content for one chain, with the 32-byte seed of an Ed25519 key. */
export function signMessage(seed: Uint8Array, chainId: string, content: Uint8Array): SignedMessage {
  const bytes = textBytes(chainId).length;
  if (bytes < 1 || bytes > maxChainId) throw new RangeError(`chain id ${JSON.stringify(chainId)}: want 1 to ${maxChainId} bytes`);
  const m = { chainId, author: toHex(publicKeyOf(seed)), content };
  return { ...m, signature: toHex(signWith(seed, signing(m))) };
}

/** The data to submit. */
export function encodeSigned(m: SignedMessage): Uint8Array {
  return unsigned(new Writer(), m).hex(m.signature).finish();
}

/** Reads the data of a signed message; undefined if they are none. The signature is not checked. */
export function parseSigned(data: Uint8Array): SignedMessage | undefined {
  if (data.length < magic.length + 1 || !equalBytes(data.subarray(0, magic.length), magic) || data[magic.length] !== version) return undefined;
  let at = magic.length + 1;
  const take = (size: number): Uint8Array | undefined => {
    if (size > data.length - at) return undefined;
    at += size;
    return data.subarray(at - size, at);
  };
  const sized = (): Uint8Array | undefined => {
    const size = take(4);
    return size && take(new DataView(size.buffer, size.byteOffset).getUint32(0));
  };
  const chainId = sized();
  const author = take(32);
  const content = sized();
  const signature = take(64);
  if (!chainId || !author || !content || !signature || at !== data.length || chainId.length < 1 || chainId.length > maxChainId) return undefined;
  let name: string;
  try {
    name = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(chainId);
  } catch {
    return undefined; // no chain has such a name
  }
  return { chainId: name, author: toHex(author), content, signature: toHex(signature) };
}

/** Checks that an author signed a message for a chain. The author is the one that the reader expects. */
export function verifySigned(m: SignedMessage, chainId: string, author: string): void {
  if (m.chainId !== chainId) refuse("chain", `the author signed for chain ${JSON.stringify(m.chainId)}, this is chain ${JSON.stringify(chainId)}`);
  if (m.author !== author) refuse("signature", `the author is ${m.author}, want ${author}`);
  const problem = fromHex(m.author).length === 32 ? keyProblem(m.author) : "it does not have 32 bytes";
  if (problem !== undefined) refuse("signature", `the author's key ${m.author}: ${problem}`);
  if (!verifySignature(m.author, signing(m), m.signature)) refuse("signature", `the signature of ${m.author} does not verify`);
}
