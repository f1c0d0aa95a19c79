/**
 * Serves a store of this process to others on this machine, over a socket in the store's folder.
 *
 * Owns the listener and its connections. Talks to the store: frames of clients go to its transport, and a few calls to
 * its tables, those that a command line needs. Who may open the socket may do all of that: the file is for its owner
 * alone, in a folder for its owner alone.
 *
 * Invariants:
 * 1. Nothing that comes over a socket ends this process: what makes no sense ends its connection.
 * 2. A connection that is not read is ended; what waits for it is bounded.
 * 3. Who listens holds the folder's lock, and has stopped to listen before it gives that up: so a socket that is found
 *    in the way belongs to nobody.
 */
import { chmod, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import type {
  DeadLetterId,
  JournalEntry,
  Member,
  Retention,
  SnapshotWrite,
  Store,
} from "../../ports/index.ts";
import { decode, encode } from "../../words/codec.ts";
import { isKeyturnError, KeyturnError, textOf } from "../../words/errors.ts";
import { decodeFrames, encodeFrames } from "../../words/frames.ts";
import { HOLDS_ENTRY } from "../../words/format.ts";
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

const CONNECTIONS = 256;
const SUBSCRIPTIONS = 1_024;
const UNREAD_MAX = 32 * 1024 * 1024;
const MESSAGE_MAX = limits.frameBytes + 4_096;
const CLIENT = /^client\.[A-Za-z0-9_-]{1,80}$/;
const SHARD = /^shard\.(\d{1,5})$/;
const NODE = /^node\.[A-Za-z0-9_-]{1,160}$/;

export interface StoreServer {
  readonly address: string;
  /** Ends all connections. */
  close(): Promise<void>;
}

/**
 * Listens.
 * @param folder the store's, whose lock this process holds
 * @throws KeyturnError `store_failed` if there can be no socket there
 */
export async function serveStore(store: Store, folder: string): Promise<StoreServer> {
  const address = socketAddress(folder);
  if (address === undefined) throw failed(`the path of ${folder} is too long for one`);
  const shards = (await store.directory.settings())?.shards ?? limits.shards;
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    serve(socket, store, shards);
  });
  server.maxConnections = CONNECTIONS;
  try {
    if (process.platform !== "win32") await rm(address, { force: true });
    await listen(server, address);
    if (process.platform !== "win32") await chmod(address, 0o600);
  } catch (cause) {
    server.close();
    throw failed(textOf(cause), cause);
  }
  return {
    address,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
}

function listen(server: Server, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(address, resolve);
  });
}

function serve(socket: Socket, store: Store, shards: number): void {
  const subscriptions = new Map<string, () => void>();
  const end = (): void => void socket.destroy();
  socket.on("error", end);
  socket.on("close", () => {
    for (const stop of subscriptions.values()) stop();
    subscriptions.clear();
  });
  const send = (kind: number, ...parts: readonly Uint8Array[]): void => {
    if (socket.writableLength > UNREAD_MAX) end();
    if (!socket.destroyed) writeMessage(socket, kind, ...parts);
  };
  const subscribe = (subject: string): void => {
    if (!CLIENT.test(subject) || subscriptions.size >= SUBSCRIPTIONS) throw foreign(subject);
    if (subscriptions.has(subject)) return;
    const head = subjectBytes(subject);
    const stop = store.transport.subscribe(subject, (frame) => {
      for (const payload of encodeFrames([frame])) send(FRAMES, head, payload);
    });
    subscriptions.set(subject, stop);
  };
  const publish = (body: Uint8Array): void => {
    const { subject, payload } = splitFrames(body);
    const shard = SHARD.exec(subject)?.[1];
    if (shard === undefined && !NODE.test(subject)) throw foreign(subject);
    for (const frame of decodeFrames(Uint8Array.from(payload), limits.frameBytes, shards)) {
      if (frame.kind !== "request" || (shard !== undefined && frame.shard !== Number(shard)))
        throw foreign(subject);
      if (store.transport.publish(subject, frame)) continue;
      // As a server tells that nobody listens: the next try goes elsewhere.
      const moved = { kind: "refusal", from: "", reason: "moved", epoch: 0, expected: 0 } as const;
      for (const bytes of encodeFrames([{ ...moved, shard: frame.shard }]))
        send(FRAMES, subjectBytes(`client.${frame.session}`), bytes);
    }
  };
  const call = (body: Uint8Array): void => {
    const [id, name, args] = decode(Uint8Array.from(body)) as [number, string, unknown[]];
    const run = Object.hasOwn(calls, name) ? calls[name] : undefined;
    const done =
      run === undefined ? Promise.reject(foreign(name)) : Promise.resolve().then(() => run(store, args));
    done.then(
      (value) => send(ANSWER, encode([id, null, value] satisfies Answer)),
      (error: unknown) => {
        const code = isKeyturnError(error) ? error.code : "store_failed";
        send(ANSWER, encode([id, [code, textOf(error)]] satisfies Answer));
      },
    );
  };
  const messages = new Messages(MESSAGE_MAX, (kind, body) => {
    if (kind === FRAMES) publish(body);
    else if (kind === SUBSCRIBE) subscribe(Buffer.from(body).toString());
    else if (kind === UNSUBSCRIBE) {
      const subject = Buffer.from(body).toString();
      subscriptions.get(subject)?.();
      subscriptions.delete(subject);
    } else if (kind === CALL) call(body);
    else throw foreign(`kind ${kind}`);
  });
  socket.on("data", (chunk) => {
    try {
      messages.push(chunk);
    } catch {
      end();
    }
  });
  const { description, durability, durabilityNote = null } = store;
  const hello: Hello = { version: WIRE_VERSION, description, durability, durabilityNote, pid: process.pid };
  send(HELLO, encode(hello));
}

/** What may be asked of the store. Arguments are of whoever owns the folder, and the store checks what it is given. */
const calls: Readonly<Record<string, (store: Store, args: unknown[]) => unknown>> = {
  settings: async ({ directory }) => (await directory.settings()) ?? null,
  members: ({ directory }) => directory.members(),
  beats: async ({ directory }, [incarnations, fresh]) =>
    (await directory.beats(incarnations as string[], fresh === true)).map((beat) => beat ?? null),
  join: ({ directory }, [member]) => directory.join(member as Member),
  readShards: async ({ directory }, [shards]) => [...(await directory.readShards(shards as number[]))],
  last: ({ journal }, [lane]) => journal.last(lane as string),
  ends: ({ journal }) => journal.ends(),
  entry: async ({ journal }, [seq]) => (await journal.get(seq as number)) ?? null,
  readLane: ({ journal }, [lane, from, to]) =>
    firstChunk(journal.read(lane as string, from as number, to as number)),
  scan: ({ journal }, [from, to]) => firstChunk(journal.scan(from as number, to as number)),
  lanes: (store) => retentionOf(store).lanes(),
  journalBytes: (store) => retentionOf(store).bytes(),
  trim: async (store, [lane, upTo]) => {
    await retentionOf(store).trim(lane as string, upTo as number);
    return null;
  },
  readSnapshots: async ({ snapshots }, [ids]) =>
    (await snapshots.read(ids as string[])).map((entry) => entry ?? null),
  writeHolds: async ({ snapshots, description }, [given]) => {
    const writes = (given as SnapshotWrite[]).map((write) => ({ ...write, due: undefined }));
    if (writes.some(({ id }) => id !== HOLDS_ENTRY))
      throw new KeyturnError("invalid_options", `Snapshots of ${description} are written by its node only.`);
    return (await snapshots.write(writes)).map((revision) => revision ?? null);
  },
  listSnapshots: ({ snapshots }, [limit, cursor, type]) =>
    snapshots.list(
      limit as number,
      (cursor as string | null) ?? undefined,
      (type as string | null) ?? undefined,
    ),
  listDead: ({ deadLetters }, [limit, after]) =>
    deadLetters.list(limit as number, (after as DeadLetterId | null) ?? undefined),
  removeDead: async ({ deadLetters }, [letters]) => {
    await deadLetters.remove(letters as DeadLetterId[]);
    return null;
  },
};

/** What is read of a journal goes out a chunk at a time: who wants more asks for what comes next. */
async function firstChunk(chunks: AsyncIterable<readonly JournalEntry[]>): Promise<readonly JournalEntry[]> {
  for await (const chunk of chunks) return chunk;
  return [];
}

function retentionOf({ retention, description }: Store): Retention {
  if (retention !== undefined) return retention;
  throw new KeyturnError("invalid_options", `The journal of ${description} cannot be trimmed.`);
}

function foreign(what: string): KeyturnError {
  return new KeyturnError("invalid_frame", `${what.slice(0, 80)} is nothing that may be asked here.`);
}

function failed(why: string, cause?: unknown): KeyturnError {
  const text = `The store has no socket for other processes: ${why}.`;
  return new KeyturnError("store_failed", text, { cause });
}
