/**
 * The LMDB environment of a store: its tables, its format, and all access to it.
 *
 * Owns the open environment. Talks to LMDB. Reads are synchronous and see everything that was committed; writes go
 * through the Writer, which alone calls `commit`.
 *
 * Tables (keys are LMDB's ordered-binary encoding; a list sorts by its parts):
 *
 *   | table     | key                        | value
 *   | journal   | [lane, sequence]           | the batch
 *   | stretches | sequence                   | the lane of all sequences from here to the next stretch
 *   | snapshots | id                         | head of 24 bytes (snapshots.ts), then the entry
 *   | due       | [shard, due, id]           | –
 *   | shards    | shard                      | row (directory.ts)
 *   | dead      | [0, position, index]       | row (dead-letters.ts)
 *   | meta      | name                       | format and revision as text, app as row (directory.ts)
 *
 * Durability: without `noSync` and with `overlappingSync: false`, the promise of a write resolves after
 * `mdb_txn_commit`, which writes the pages, calls fdatasync (F_FULLFSYNC on macOS) and then writes the meta page
 * through a descriptor opened with O_DSYNC. "process" sets `noSync`: commits reach the page cache, which outlives the
 * process but not the machine; nothing then orders the pages, and a power loss may damage the whole store.
 *
 * Invariants:
 * 1. A store of a newer format is not touched.
 * 2. After LMDB reported a failure that it cannot go on from, nothing is asked of it any more: its next write would
 *    never be answered.
 */
import { statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { type Database, type Key, open, type RootDatabase } from "lmdb";
import type { Durability } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { asStoreError } from "./faults.ts";

/** Grows with every change of tables, keys or rows that an older version could misread. */
export const FORMAT = 1;

export type Table<K extends Key = Key> = Database<Uint8Array, K>;

export interface Tables {
  readonly journal: Table<[lane: string, seq: number]>;
  readonly stretches: Table<number>;
  readonly snapshots: Table<string>;
  readonly due: Table<
    [shard: number, due: number, id: string] | [shard: number, due: number] | [shard: number]
  >;
  readonly shards: Table<number>;
  readonly dead: Table<[noJournal: number, position: number, index: number]>;
  readonly meta: Table<string>;
}

/** Pages of one table, as LMDB counts them. */
interface Pages {
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
}

interface Stats extends Pages {
  readonly pageSize: number;
  readonly lastPageNumber: number;
  readonly root: Pages;
  readonly free: Pages;
}

export interface Size {
  /** Pages that hold something. */
  readonly used_bytes: number;
  /** The data file, with the pages that are free again. */
  readonly file_bytes: number;
}

export class Environment {
  readonly tables: Tables;
  readonly folder: string;
  readonly #root: RootDatabase<Uint8Array, string>;
  readonly #durability: Durability;
  #state: "open" | "broken" | "closed" = "open";

  /** Opens, or creates, the data in a folder that exists. The folder's lock is held. Throws what LMDB throws. */
  constructor(folder: string, durability: Durability, map_bytes: number) {
    this.folder = folder;
    this.#durability = durability;
    this.#root = open<Uint8Array, string>({
      path: folder,
      // Not decided by whether the folder's name has a dot.
      noSubdir: false,
      encoding: "binary",
      maxDbs: 16,
      mapSize: map_bytes,
      overlappingSync: false,
      noSync: durability === "process",
      // The Writer says what belongs together; waiting for the end of the event turn only costs time.
      eventTurnBatching: false,
    });
    try {
      restoreLength(join(folder, "data.mdb"), sizeOf(this.#root.getStats() as Stats).file_bytes);
      // The format first: a newer store may have other tables.
      const meta = this.#open<string>("meta");
      const format = readFormat(meta);
      this.tables = {
        meta,
        journal: this.#open("journal"),
        stretches: this.#open("stretches"),
        snapshots: this.#open("snapshots"),
        due: this.#open("due"),
        shards: this.#open("shards"),
        dead: this.#open("dead"),
      };
      if (format === undefined) meta.putSync("format", Buffer.from(String(FORMAT)));
    } catch (error) {
      void this.#root.close();
      throw error;
    }
  }

  #open<K extends Key>(name: string): Table<K> {
    return this.#root.openDB<Uint8Array, K>(name, { encoding: "binary" });
  }

  /** Runs a synchronous look at the tables. Throws typed errors only. */
  read<T>(look: () => T): T {
    this.#check();
    try {
      return look();
    } catch (error) {
      throw asStoreError(error);
    }
  }

  /**
   * Runs puts and removes as one transaction. Resolves when it is as durable as promised; throws LMDB's error if it
   * failed. One at a time.
   */
  async commit(writes: readonly (() => void)[]): Promise<void> {
    this.#check();
    try {
      await this.#root.batch(() => {
        for (const write of writes) write();
      });
    } catch (error) {
      const cause = await causeOf(error);
      if (!this.#isHealthy()) this.giveUp();
      throw cause;
    }
  }

  /** Whether the environment has to be opened again: LMDB could not write its root, or what it says makes no sense. */
  get broken(): boolean {
    return this.#state === "broken";
  }

  giveUp(): void {
    if (this.#state === "open") this.#state = "broken";
  }

  size(): Size {
    return this.read(() => {
      const all = Object.values(this.tables).map((table) => (table as Table).getStats() as Stats);
      return sizeOf(all[0] as Stats, all);
    });
  }

  /** Everything committed is on disk when it resolves, whatever the durability. */
  async close(): Promise<void> {
    const unsynced = this.#state === "open" && this.#durability === "process";
    this.#state = "closed";
    try {
      if (unsynced) await sync(this.#root);
    } finally {
      await this.#root.close();
    }
  }

  #check(): void {
    if (this.#state === "closed") throw new KeyturnError("store_failed", "The embedded store is closed.");
    if (this.#state === "broken") {
      const text = "The embedded store has stopped after a failure of its disk. Close it and open it again.";
      throw new KeyturnError("store_failed", text);
    }
  }

  #isHealthy(): boolean {
    try {
      // Begins a read transaction, which LMDB refuses in an environment that it has given up.
      this.#root.resetReadTxn();
      this.tables.meta.get("format");
      return true;
    } catch {
      return false;
    }
  }
}

function readFormat(meta: Table<string>): number | undefined {
  const bytes = meta.get("format");
  if (bytes === undefined) return undefined;
  const text = Buffer.from(bytes).toString("latin1");
  const format = Number(text);
  if (!Number.isSafeInteger(format) || format < 1) {
    throw new KeyturnError("store_failed", `The store's format is not a number: "${text.slice(0, 20)}".`);
  }
  if (format > FORMAT) {
    throw new KeyturnError(
      "newer_format",
      `The store has format ${format}, and this version of the runtime reads up to ${FORMAT}. Use a newer version.`,
    );
  }
  return format;
}

function sizeOf(stats: Stats, tables: readonly Stats[] = []): Size {
  const { pageSize, lastPageNumber, root, free } = stats;
  // Two pages hold the roots.
  const pages = [...tables, root, free].reduce((sum, one) => sum + pagesOf(one), 2);
  return { used_bytes: pages * pageSize, file_bytes: (lastPageNumber + 1) * pageSize };
}

/**
 * Gives a data file that lost its end, as an interrupted copy has, its length back. What is missing reads as zeros,
 * which checksums and LMDB's page types refuse; to read behind the end of a mapped file would end the process.
 */
function restoreLength(file: string, bytes: number): void {
  if (statSync(file).size < bytes) truncateSync(file, bytes);
}

function pagesOf({ treeBranchPageCount, treeLeafPageCount, overflowPages }: Pages): number {
  return treeBranchPageCount + treeLeafPageCount + overflowPages;
}

/** LMDB's own error behind lmdb-js's "Commit failed": it is told a moment later, through a promise. */
async function causeOf(error: unknown): Promise<unknown> {
  const told = error instanceof Error && "commitError" in error ? error.commitError : undefined;
  // For two of the operating system's error numbers it is never told.
  const silence = new Promise<unknown>((resolve) => setImmediate(resolve, error));
  try {
    await Promise.race([told instanceof Promise ? told : silence, silence]);
  } catch (cause) {
    await silence;
    return cause;
  }
  return error;
}

/** Flushes a file whose commits were not. */
function sync(root: RootDatabase<Uint8Array, string>): Promise<void> {
  const { sync: flush } = root as unknown as { sync(done: (error?: unknown) => void): void };
  return new Promise((resolve, reject) => {
    flush.call(root, (error) => (error ? reject(asStoreError(error)) : resolve()));
  });
}
