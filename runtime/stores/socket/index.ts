/**
 * The store behind a socket: what a process on this machine sees of a store that another one has open.
 *
 * Owns the connection, and makes it again when it is lost. Talks to the server of the process that has the store. It is
 * for clients and for looking: actors are reached as over any transport, tables can be read, dead letters removed and a
 * member marked. It cannot carry a node: the journal is not there.
 */
import { connect, type Socket } from "node:net";
import type {
  AppSettings,
  DeadLetter,
  DeadLetterId,
  DeadLetters,
  Directory,
  Durability,
  Journal,
  ListPage,
  Member,
  SnapshotEntry,
  Snapshots,
  Store,
  StoredShard,
  Transport,
} from "../../ports/index.ts";
import { decode, encode } from "../../words/codec.ts";
import { isErrorCode, KeyturnError, textOf } from "../../words/errors.ts";
import { decodeFrames, encodeFrames, type Frame } from "../../words/frames.ts";
import { limits } from "../../words/limits.ts";
import {
  type Answer,
  ANSWER,
  CALL,
  FRAMES,
  HELLO,
  type Hello,
  Messages,
  socketAddress,
  splitFrames,
  SUBSCRIBE,
  subjectBytes,
  UNSUBSCRIBE,
  WIRE_VERSION,
  writeMessage,
} from "./wire.ts";

export { serveStore, type StoreServer } from "./server.ts";

const MESSAGE_MAX = 64 * 1024 * 1024;
const AGAIN_MS = 100;
const HELLO_MS = 5_000;

/**
 * Connects to the process that has the store in a folder open and serves it.
 * @throws KeyturnError `unreachable` if there is none, `app_mismatch` if it is of another version
 */
export async function socketStore(folder: string): Promise<Store> {
  const address = socketAddress(folder);
  if (address === undefined) throw unreachable(`The path of ${folder} is too long for a socket.`);
  const link = new Link(address);
  const hello = await link.open();
  return new SocketStore(link, hello);
}

/** The connection, made again whenever it is lost. */
class Link {
  onFrame: (subject: string, frame: Frame) => void = () => undefined;
  onOpen: () => void = () => undefined;
  readonly #address: string;
  #socket: Socket | undefined;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #calls = 0;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: unknown): void }>();

  constructor(address: string) {
    this.#address = address;
  }

  get connected(): boolean {
    return this.#socket !== undefined;
  }

  open(): Promise<Hello> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#address);
      const fail = (cause: unknown): void => {
        clearTimeout(late);
        socket.destroy();
        reject(unreachable(`No process serves ${this.#address}: ${textOf(cause)}.`, cause));
      };
      const late = setTimeout(() => fail("it says nothing"), HELLO_MS);
      const messages = new Messages(MESSAGE_MAX, (kind, body) => {
        if (kind !== HELLO) {
          this.#take(kind, body);
          return;
        }
        clearTimeout(late);
        const hello = decode(Uint8Array.from(body)) as Hello;
        if (hello.version !== WIRE_VERSION) {
          socket.destroy();
          const text = `The process ${hello.pid} that has the store open is of another version of Keyturn. Use its command.`;
          reject(new KeyturnError("app_mismatch", text));
          return;
        }
        this.#socket = socket;
        this.onOpen();
        resolve(hello);
      });
      socket.on("data", (chunk) => {
        try {
          messages.push(chunk);
        } catch {
          socket.destroy();
        }
      });
      socket.once("error", fail);
      socket.on("error", () => undefined);
      socket.once("close", () => {
        if (this.#socket === socket) this.#lost();
        else fail("the connection was closed");
      });
    });
  }

  send(kind: number, ...parts: readonly Uint8Array[]): boolean {
    if (this.#socket === undefined) return false;
    writeMessage(this.#socket, kind, ...parts);
    return true;
  }

  call(name: string, ...args: readonly unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = ++this.#calls;
      this.#waiting.set(id, { resolve, reject });
      if (this.send(CALL, encode([id, name, args]))) return;
      this.#waiting.delete(id);
      reject(unreachable("The process that has the store open is gone."));
    });
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#failAll();
  }

  #take(kind: number, body: Uint8Array): void {
    if (kind === FRAMES) {
      const { subject, payload } = splitFrames(body);
      for (const frame of decodeFrames(Uint8Array.from(payload), limits.frameBytes))
        this.onFrame(subject, frame);
      return;
    }
    if (kind !== ANSWER) return;
    const [id, error, value] = decode(Uint8Array.from(body)) as Answer;
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === null) waiting?.resolve(value);
    else waiting?.reject(new KeyturnError(isErrorCode(error[0]) ? error[0] : "store_failed", error[1]));
  }

  #lost(): void {
    this.#socket = undefined;
    this.#failAll();
    const again = (): void => {
      if (this.#closed) return;
      this.open().catch(() => {
        this.#timer = setTimeout(again, AGAIN_MS);
      });
    };
    if (!this.#closed) this.#timer = setTimeout(again, AGAIN_MS);
  }

  #failAll(): void {
    for (const { reject } of this.#waiting.values())
      reject(unreachable("The process that has the store open is gone."));
    this.#waiting.clear();
  }
}

class SocketStore implements Store {
  readonly description: string;
  readonly durability: Durability;
  readonly durabilityNote?: string;
  readonly journal: Journal;
  readonly snapshots: Snapshots;
  readonly directory: Directory;
  readonly deadLetters: DeadLetters;
  readonly transport: Transport;
  readonly #link: Link;

  constructor(link: Link, { description, durability, durabilityNote, pid }: Hello) {
    this.#link = link;
    this.description = `${description}, through process ${pid}`;
    this.durability = durability;
    if (durabilityNote !== null) this.durabilityNote = durabilityNote;
    this.transport = new SocketTransport(link);
    this.journal = journalOver(link);
    this.snapshots = snapshotsOver(link);
    this.directory = directoryOver(link);
    this.deadLetters = {
      put: refused,
      list: (limit, after?: DeadLetterId) =>
        link.call("listDead", limit, after ?? null) as Promise<readonly DeadLetter[]>,
      remove: async (letters) => void (await link.call("removeDead", letters)),
    };
  }

  get connection(): { connected: boolean; text: string } {
    const { connected } = this.#link;
    return { connected, text: connected ? "connected" : "The process that has the store open is gone." };
  }

  async close(): Promise<void> {
    this.#link.close();
  }
}

class SocketTransport implements Transport {
  readonly #link: Link;
  readonly #handlers = new Map<string, Set<(frame: Frame) => void>>();

  constructor(link: Link) {
    this.#link = link;
    link.onFrame = (subject, frame) => {
      for (const handler of [...(this.#handlers.get(subject) ?? [])]) handler(frame);
    };
    link.onOpen = () => {
      for (const subject of this.#handlers.keys()) link.send(SUBSCRIBE, Buffer.from(subject));
    };
  }

  publish(subject: string, frame: Frame): boolean {
    const head = subjectBytes(subject);
    return encodeFrames([frame]).every((payload) => this.#link.send(FRAMES, head, payload));
  }

  subscribe(subject: string, handler: (frame: Frame) => void): () => void {
    const own = (frame: Frame): void => handler(frame);
    let handlers = this.#handlers.get(subject);
    if (handlers === undefined) {
      this.#handlers.set(subject, (handlers = new Set()));
      this.#link.send(SUBSCRIBE, Buffer.from(subject));
    }
    handlers.add(own);
    return () => {
      handlers.delete(own);
      if (handlers.size > 0 || this.#handlers.get(subject) !== handlers) return;
      this.#handlers.delete(subject);
      this.#link.send(UNSUBSCRIBE, Buffer.from(subject));
    };
  }
}

function directoryOver(link: Link): Directory {
  const settings = async (): Promise<AppSettings | undefined> =>
    ((await link.call("settings")) as AppSettings | null) ?? undefined;
  const readShards = async (shards: readonly number[]): Promise<ReadonlyMap<number, StoredShard>> =>
    new Map((await link.call("readShards", shards)) as readonly [number, StoredShard][]);
  return {
    app: async (wanted) => (await settings()) ?? wanted,
    settings,
    readShard: async (shard) => (await readShards([shard])).get(shard),
    readShards,
    writeShard: refused,
    join: (member) => link.call("join", member) as Promise<boolean>,
    beat: refused,
    leave: refused,
    members: () => link.call("members") as Promise<readonly Member[]>,
    beats: async (incarnations, fresh) =>
      ((await link.call("beats", incarnations, fresh)) as (number | null)[]).map((beat) => beat ?? undefined),
    watch: () => () => undefined,
  };
}

function snapshotsOver(link: Link): Snapshots {
  return {
    sync: async () => undefined,
    read: async (ids) =>
      ((await link.call("readSnapshots", ids)) as (SnapshotEntry | null)[]).map(
        (entry) => entry ?? undefined,
      ),
    write: refused,
    due: refused,
    list: async (limit, cursor, type) => {
      const { entries, next } = (await link.call(
        "listSnapshots",
        limit,
        cursor ?? null,
        type ?? null,
      )) as ListPage;
      return { entries, next: next ?? undefined };
    },
  };
}

function journalOver(link: Link): Journal {
  return {
    last: (lane) => link.call("last", lane) as Promise<number>,
    append: refused,
    read: () => {
      throw refusal();
    },
    scan: () => {
      throw refusal();
    },
    ends: refused,
    get: refused,
  };
}

function refused(): Promise<never> {
  return Promise.reject(refusal());
}

function refusal(): KeyturnError {
  return new KeyturnError("invalid_options", "Only the process that has the store open can do that.");
}

function unreachable(text: string, cause?: unknown): KeyturnError {
  return new KeyturnError("unreachable", text, { cause });
}
