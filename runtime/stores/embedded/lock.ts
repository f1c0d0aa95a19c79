/**
 * The folder lock: one process, and one store in it, per folder.
 *
 * Owns the small LMDB environment in `<path>/lock`, in which nothing is ever stored. Talks to LMDB.
 *
 * Whoever holds a reader slot in that environment's reader table holds the folder. A slot names a process, and LMDB
 * keeps a kernel lock (fcntl) for every process that has one, so that `readerCheck` can tell the slots of dead
 * processes, whatever has become of their process ids. Slots are looked at and taken inside a write transaction, whose
 * mutex is robust: it is one process at a time, and the death of its holder frees it.
 *
 * Rejected: a file with process id and start time (racy between reading and writing, stale after kill -9, wrong in
 * containers where everybody is process 1); a Unix socket in the folder (path length, two who find it stale at once);
 * LMDB's own environment of the data (its reader slots come and go with transactions).
 *
 * Invariants:
 * 1. At most one live holder per folder, over all processes of the machine and all threads of this one.
 * 2. The lock dies with its process, at once, however it dies.
 * 3. Nobody touches the data before the lock is held.
 */
import { open, type RootDatabase } from "lmdb";
import { KeyturnError } from "../../words/errors.ts";

/** What lmdb offers beyond its declared types: a lock among the threads that share an environment. */
interface ThreadLock {
  tryLock(name: string): boolean;
}

const OWNER = "owner";

export class FolderLock {
  readonly #environment: RootDatabase;
  readonly #slot: { done(): void };

  private constructor(environment: RootDatabase, slot: { done(): void }) {
    this.#environment = environment;
    this.#slot = slot;
  }

  /**
   * Takes the lock of a store's folder, or throws `store_locked`.
   * @param path the store, for the text of the error
   * @param folder where the lock lies; exists
   * @param locked makes the error, if it is the lock of something else
   */
  static async take(path: string, folder: string, locked = lockedStore): Promise<FolderLock> {
    const environment = open({ path: folder, noSubdir: false, encoding: "binary", overlappingSync: false });
    try {
      if (!(environment as unknown as ThreadLock).tryLock(OWNER)) throw locked(path, "this process");
      return new FolderLock(environment, takeSlot(environment, path, locked));
    } catch (error) {
      await environment.close();
      throw error;
    }
  }

  async release(): Promise<void> {
    this.#slot.done();
    await this.#environment.close();
  }
}

function takeSlot(environment: RootDatabase, path: string, locked: typeof lockedStore): { done(): void } {
  return environment.transactionSync(() => {
    environment.readerCheck();
    // After a heading, one line for each slot: process id, thread, transaction. A slot with this process's own id is
    // another's too: of a process with the same id in another container, since no thread of this one holds the lock.
    const holder = /^\s*(\d+)\s/m.exec(environment.readerList())?.[1];
    if (holder !== undefined) throw locked(path, `process ${holder}`);
    return environment.useReadTransaction();
  });
}

function lockedStore(path: string, holder: string): KeyturnError {
  return new KeyturnError(
    "store_locked",
    `The store in ${path} is open in ${holder}. An embedded store belongs to one process at a time: ` +
      "stop that one, share its store, or use another folder.",
  );
}
