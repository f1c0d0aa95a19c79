/**
 * The writer: every change of the store, in the order of the calls, in groups of one transaction each.
 *
 * Owns the queue of changes and the one transaction in flight. Talks to the Environment and to the Space.
 *
 * A change is decided (compare-and-set) when its group is put together: synchronously, in the order of the calls,
 * against what is committed and what the group has staged so far. While a group is being written nothing is decided,
 * so no decision ever rests on something that may still fail.
 *
 * Invariants:
 * 1. One transaction at a time; changes are decided and applied in the order in which they were asked for.
 * 2. Nothing is answered before its group is as durable as the store promises, a refusal neither, since it may rest on
 *    what the group staged.
 * 3. What is kept in memory changes only when its group is committed (`committed`), and is read again after a failure
 *    (`afterFailure`), so that it equals the disk.
 * 4. A change that does not fit does not take down those that share its group.
 */
import type { Key } from "lmdb";
import { KeyturnError } from "../../words/errors.ts";
import type { Environment, Table } from "./environment.ts";
import { asStoreError, type Fault, faultError, faultOf } from "./faults.ts";
import type { Space } from "./space.ts";

/** A group is closed when it holds so much; one change may be larger alone. */
const GROUP_BYTES = 8 * 1024 * 1024;
const GROUP_CHANGES = 1_024;

/** A change that somebody asks for. */
export interface Change<T> {
  /** What it adds at most, in bytes; 0 for one that only takes away. */
  readonly bytes: number;
  /** Decides, stages the writes in the group, and returns the answer that is given once the group is committed. */
  decide(group: Group): T;
}

/** What one transaction will do. */
export class Group {
  readonly writes: (() => void)[] = [];
  readonly #committed: (() => void)[] = [];
  readonly #staged = new Map<object, unknown>();

  put<K extends Key>(table: Table<K>, key: K, value: Uint8Array): void {
    this.writes.push(() => void table.put(key, value));
  }

  remove<K extends Key>(table: Table<K>, key: K): void {
    this.writes.push(() => void table.remove(key));
  }

  /** What an owner has decided within this group and not yet committed; made by `init` for the group's first change. */
  staged<T>(owner: object, init: () => T): T {
    let staged = this.#staged.get(owner) as T | undefined;
    if (staged === undefined) this.#staged.set(owner, (staged = init()));
    return staged;
  }

  /** Calls back, before anything else is decided, when the group is committed; never if it fails. */
  committed(apply: () => void): void {
    this.#committed.push(apply);
  }

  apply(): void {
    for (const apply of this.#committed) apply();
  }
}

interface Waiting {
  readonly bytes: number;
  decide(group: Group): unknown;
  resolve(answer: unknown): void;
  reject(error: KeyturnError): void;
}

export class Writer {
  readonly #environment: Environment;
  readonly #space: Space;
  readonly #queue: Waiting[] = [];
  readonly #afterFailure: (() => void)[] = [];
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(environment: Environment, space: Space) {
    this.#environment = environment;
    this.#space = space;
  }

  /** Makes a change. Throws `store_full` if it certainly was not made for want of room, else `store_failed`. */
  write<T>(change: Change<T>): Promise<T> {
    if (this.#closed)
      return Promise.reject(new KeyturnError("store_failed", "The embedded store is closed."));
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({
        bytes: change.bytes,
        decide: (group) => change.decide(group),
        resolve: resolve as (answer: unknown) => void,
        reject,
      });
      this.#running ??= this.#run();
    });
  }

  /** Calls back when a transaction has failed, before anything else is decided: read again what is kept in memory. */
  afterFailure(reload: () => void): void {
    this.#afterFailure.push(reload);
  }

  /** Takes no more changes and resolves when those taken are answered. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    do {
      // Once all that is ready to run has run: those who were answered just now ask for more, and share the next group.
      await new Promise<void>((resolve) => process.nextTick(resolve));
      if (this.#queue.length > 0) await this.#write(this.#take());
    } while (this.#queue.length > 0);
    this.#running = undefined;
  }

  #take(): Waiting[] {
    let count = 0;
    let bytes = 0;
    for (const { bytes: more } of this.#queue) {
      if (count > 0 && (bytes + more > GROUP_BYTES || count === GROUP_CHANGES)) break;
      count++;
      bytes += more;
    }
    return this.#queue.splice(0, count);
  }

  async #write(waiting: readonly Waiting[]): Promise<void> {
    const decided = this.#decide(waiting);
    const { group, changes, answers } = decided;
    if (changes.length === 0) return;
    const fault = await this.#commit(group, changes);
    if (fault === undefined) {
      group.apply();
      changes.forEach((change, index) => {
        change.resolve(answers[index]);
      });
    } else if (fault.fault === "full" && changes.length > 1) {
      // Certainly none of it is stored, so that each may be decided again.
      for (const change of changes) await this.#write([change]);
    } else {
      const error = faultError(fault.fault, fault.cause);
      for (const change of changes) change.reject(error);
    }
  }

  /** Decides changes in order. One that cannot be decided is answered and left out, with all it staged. */
  #decide(waiting: readonly Waiting[]): { group: Group; changes: Waiting[]; answers: unknown[] } {
    const changes = [...waiting];
    while (true) {
      const group = new Group();
      const answers: unknown[] = [];
      try {
        for (const change of changes) answers.push(this.#environment.read(() => change.decide(group)));
        return { group, changes, answers };
      } catch (error) {
        const [failed] = changes.splice(answers.length, 1);
        (failed as Waiting).reject(asStoreError(error));
      }
    }
  }

  async #commit(
    group: Group,
    changes: readonly Waiting[],
  ): Promise<{ fault: Fault; cause: unknown } | undefined> {
    if (group.writes.length === 0) return undefined;
    const bytes = changes.reduce((sum, change) => sum + change.bytes, 0);
    try {
      const room = this.#space.refuses(bytes);
      if (room !== undefined) return { fault: "full", cause: room };
      await this.#environment.commit(group.writes);
      return undefined;
    } catch (cause) {
      if (!this.#reload()) return { fault: "failed", cause };
      return { fault: await faultOf(cause, this.#environment.folder, bytes), cause };
    }
  }

  /** Whether the store goes on after a failure. If not, it refuses everything from now on. */
  #reload(): boolean {
    if (this.#environment.broken) return false;
    try {
      for (const reload of this.#afterFailure) reload();
      return true;
    } catch {
      this.#environment.giveUp();
      return false;
    }
  }
}
