/**
 * The embedded store: everything of one app in one folder of this machine, with no server.
 *
 * Owns the folder (folder.ts): `lock/` says which process has it (lock.ts), `data/` holds the tables
 * (environment.ts). Any number of nodes and clients of that one process share a store; frames go between them by
 * reference.
 *
 * Every change goes through one Writer, which decides changes in the order of the calls and commits them in groups;
 * every read is a synchronous look at what is committed. So there is no state besides the disk's, but for a few
 * numbers that change only when their transaction is committed.
 */
import { dirname, resolve } from "node:path";
import type { Durability, Store, Transport } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { LocalTransport } from "../local-transport.ts";
import { EmbeddedDeadLetters } from "./dead-letters.ts";
import { EmbeddedDirectory } from "./directory.ts";
import { Environment } from "./environment.ts";
import { asStoreError, faultError, faultOf } from "./faults.ts";
import { checkData, markCreated, prepareFolder } from "./folder.ts";
import { EmbeddedJournal } from "./journal.ts";
import { FolderLock } from "./lock.ts";
import { EmbeddedSnapshots } from "./snapshots.ts";
import { mapBytes, Space } from "./space.ts";
import { Writer } from "./writer.ts";

const MiB = 1024 * 1024;
const MAP_DEFAULT_BYTES = 256 * 1024 * MiB;
const MAP_MIN_BYTES = MiB;
/** Processors address 47 bits. */
const MAP_MAX_BYTES = 2 ** 45;

export interface EmbeddedOptions {
  /** Folder of the store; it is created if it does not exist. On a local disk: network file systems do not lock. */
  readonly path: string;
  /**
   * What commits survive. "fsync", the default: power loss. "process": the death of the process, for a tenth of the
   * time; but a power loss may then damage the whole store, not only lose its end.
   */
  readonly durability?: Durability;
  /**
   * The most that the store may hold, 256 GiB by default; over it, writes are refused as `store_full`. As much address
   * space is reserved, and no memory or disk. It may be another each time.
   */
  readonly mapSize_bytes?: number;
}

/**
 * Opens the store in a folder, or creates it.
 * @throws KeyturnError `invalid_options`; `store_locked` if it is open elsewhere; `newer_format`; `store_full`;
 * `store_failed` for everything else that is wrong with the folder
 */
export async function embedded(options: EmbeddedOptions): Promise<Store> {
  const { path, durability, map_bytes } = check(options);
  let lock: FolderLock | undefined;
  let environment: Environment | undefined;
  try {
    const folder = await prepareFolder(path, mapBytes(map_bytes));
    lock = await FolderLock.take(path, folder.lock);
    await checkData(folder);
    environment = new Environment(folder.data, durability, mapBytes(map_bytes));
    await markCreated(folder);
    return new EmbeddedStore(path, durability, environment, lock, map_bytes);
  } catch (error) {
    await environment?.close();
    await lock?.release();
    if (error instanceof KeyturnError) throw error;
    throw faultError(await faultOf(error, dirname(path), MiB), error);
  }
}

class EmbeddedStore implements Store {
  readonly description: string;
  readonly durability: Durability;
  readonly journal: EmbeddedJournal;
  readonly retention: EmbeddedJournal;
  readonly snapshots: EmbeddedSnapshots;
  readonly directory: EmbeddedDirectory;
  readonly deadLetters: EmbeddedDeadLetters;
  readonly transport: Transport = new LocalTransport();
  readonly #environment: Environment;
  readonly #writer: Writer;
  readonly #lock: FolderLock;
  #closing: Promise<void> | undefined;

  constructor(
    path: string,
    durability: Durability,
    environment: Environment,
    lock: FolderLock,
    map_bytes: number,
  ) {
    this.description = `embedded: one process, in ${path}`;
    this.durability = durability;
    this.#environment = environment;
    this.#lock = lock;
    this.#writer = new Writer(environment, new Space(environment, map_bytes));
    this.journal = new EmbeddedJournal(environment, this.#writer);
    this.retention = this.journal;
    this.snapshots = new EmbeddedSnapshots(environment, this.#writer);
    this.directory = new EmbeddedDirectory(environment, this.#writer);
    this.deadLetters = new EmbeddedDeadLetters(environment, this.#writer);
  }

  /** What was asked for before is done and on disk when it resolves; everything afterwards is refused. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#writer.close();
    try {
      await this.#environment.close();
    } catch (error) {
      throw asStoreError(error);
    } finally {
      await this.#lock.release();
    }
  }
}

function check(options: EmbeddedOptions): { path: string; durability: Durability; map_bytes: number } {
  if (typeof options !== "object" || options === null) throw invalid("the options are not an object");
  const { path, durability = "fsync", mapSize_bytes = MAP_DEFAULT_BYTES } = options;
  if (typeof path !== "string" || path === "" || path.includes("\0"))
    throw invalid("path is not a folder's name");
  if (durability !== "fsync" && durability !== "process") {
    throw invalid(`durability is "${String(durability)}", and may be "fsync" or "process"`);
  }
  if (
    !Number.isSafeInteger(mapSize_bytes) ||
    mapSize_bytes < MAP_MIN_BYTES ||
    mapSize_bytes > MAP_MAX_BYTES
  ) {
    throw invalid(`mapSize_bytes is ${mapSize_bytes}, and may be from ${MAP_MIN_BYTES} to ${MAP_MAX_BYTES}`);
  }
  return { path: resolve(path), durability, map_bytes: mapSize_bytes };
}

function invalid(problem: string): KeyturnError {
  return new KeyturnError("invalid_options", `The embedded store cannot be opened: ${problem}.`);
}
