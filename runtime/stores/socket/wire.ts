/**
 * What goes over a store's socket: messages of a length, a kind and a body.
 *
 * Owns the form of messages and the socket's address. Talks to nobody.
 *
 *   length  4 bytes, of what follows
 *   kind    1 byte, see below
 *   body    for FRAMES a subject (its length in one byte, then it) and a payload of frames as on any network;
 *           for SUBSCRIBE and UNSUBSCRIBE a subject; else msgpack
 */
import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import type { Socket } from "node:net";
import { join, relative } from "node:path";

export const HELLO = 0;
export const FRAMES = 1;
export const SUBSCRIBE = 2;
export const UNSUBSCRIBE = 3;
export const CALL = 4;
export const ANSWER = 5;

/** Of what both sides say; the server says its own first. */
export const WIRE_VERSION = 2;

/** What the server says first. */
export interface Hello {
  readonly version: number;
  readonly description: string;
  readonly durability: "fsync" | "process";
  readonly durabilityNote: string | null;
  readonly pid: number;
}

/** An answer to a call. */
export type Answer = readonly [
  id: number,
  error: readonly [code: string, text: string] | null,
  value?: unknown,
];

const HEAD_BYTES = 5;
/** Systems take 104 to 108. */
const PATH_BYTES = 100;

/** Where the socket of a folder's store is; undefined if the folder's path is too long for one. */
export function socketAddress(folder: string): string | undefined {
  if (process.platform === "win32") {
    const name = createHash("sha256").update(realpathSync(folder).toLowerCase()).digest("hex").slice(0, 32);
    return `\\\\.\\pipe\\keyturn-${name}`;
  }
  const path = join(folder, "socket");
  return [path, relative(process.cwd(), path)].find((one) => Buffer.byteLength(one) <= PATH_BYTES);
}

/** Writes a message. */
export function writeMessage(socket: Socket, kind: number, ...parts: readonly Uint8Array[]): void {
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  const head = Buffer.allocUnsafe(HEAD_BYTES);
  head.writeUInt32BE(bytes + 1, 0);
  head[4] = kind;
  socket.cork();
  socket.write(head);
  for (const part of parts) socket.write(part);
  process.nextTick(() => socket.uncork());
}

/** A subject as it stands before frames. */
export function subjectBytes(subject: string): Uint8Array {
  const text = Buffer.from(subject);
  return Buffer.concat([Uint8Array.of(text.length), text]);
}

/** Takes a subject and a payload apart. */
export function splitFrames(body: Uint8Array): { subject: string; payload: Uint8Array } {
  const end = 1 + (body[0] ?? 0);
  return { subject: Buffer.from(body.subarray(1, end)).toString(), payload: body.subarray(end) };
}

/** Puts messages together from what a socket gives. */
export class Messages {
  readonly #max: number;
  readonly #take: (kind: number, body: Uint8Array) => void;
  #chunks: Buffer[] = [];
  #bytes = 0;

  /** @param max bytes of one message; a longer one throws */
  constructor(max: number, take: (kind: number, body: Uint8Array) => void) {
    this.#max = max;
    this.#take = take;
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes >= HEAD_BYTES) {
      const whole = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
      this.#chunks = [whole];
      const length = whole.readUInt32BE(0);
      if (length < 1 || length > this.#max) throw new Error(`A message of ${length} bytes.`);
      if (whole.length < 4 + length) return;
      this.#chunks = [whole.subarray(4 + length)];
      this.#bytes = whole.length - 4 - length;
      // What is kept of it must not change with the buffer: bodies are read at once.
      this.#take(whole[4] as number, whole.subarray(HEAD_BYTES, 4 + length));
    }
  }
}
