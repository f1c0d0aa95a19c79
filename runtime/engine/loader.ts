/**
 * Brings actors into memory: snapshot plus what the tail says of them.
 *
 * Owns the actors being loaded. Talks to Snapshots; hands loaded actors on (`LoaderExits`). Reads of one tick are one
 * store call.
 *
 * Invariants:
 * 1. An actor is loaded at most once at a time.
 * 2. A damaged snapshot stops its shard; one that this machine or runtime cannot read stops its actor only.
 * 3. An actor whose snapshot could not be read is tried again with the next message to it.
 */
import type { Clock, SnapshotEntry, Snapshots } from "../ports/index.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import type { Activation } from "./activation.ts";
import { isWake } from "./delays.ts";
import { asError } from "./faults.ts";
import { isBeginning } from "./invocations.ts";
import type { Timer } from "./machine.ts";
import type { ShardState } from "./shard.ts";
import { decodeSnapshot, earliestDue } from "./state.ts";

const READ_TRIES = 5;
const READ_PAUSE_MS = 50;
/** Snapshots asked for in one store call. */
const READ_BATCH = 1_024;

/** What becomes of an actor that was loaded, and who is told. */
export interface LoaderExits {
  /** It is ready, or has failed. */
  ready(a: Activation): void;
  /** What is stored of it is damaged. Resolves when it is clear that this is no new owner's work. */
  damaged(shard: ShardState, error: KeyturnError): Promise<void>;
  /** It has timers that were not known before. */
  wake(): void;
  isStopped(): boolean;
}

export class Loader {
  /** Until each is ready or has failed. */
  readonly loading = new Set<Activation>();
  readonly #snapshots: Snapshots;
  readonly #clock: Clock;
  readonly #exits: LoaderExits;
  readonly #wanted: Activation[] = [];

  constructor(snapshots: Snapshots, clock: Clock, exits: LoaderExits) {
    this.#snapshots = snapshots;
    this.#clock = clock;
    this.#exits = exits;
  }

  /** Notes an actor to be loaded; `start` begins. */
  add(a: Activation): void {
    a.mailbox = [];
    // Taken now: a checkpoint may write the patch into the snapshot and forget it while the snapshot is being read.
    a.patch = a.shard.patches.get(a.id);
    this.loading.add(a);
    this.#wanted.push(a);
  }

  start(): void {
    while (this.#wanted.length > 0) {
      const batch = this.#wanted.splice(0, READ_BATCH);
      void this.load(batch);
    }
  }

  /** Loads actors; resolves when each is ready or has failed. */
  async load(batch: readonly Activation[]): Promise<void> {
    const entries = await this.#read(batch.map((a) => a.id));
    if (this.#exits.isStopped()) return;
    batch.forEach((a, index) => {
      this.loading.delete(a);
      if (a.shard.phase === "gone") return;
      const error = entries instanceof KeyturnError ? entries : this.#fill(a, entries[index]);
      const finish = (): void => {
        a.failed = error;
        this.#exits.ready(a);
        if (error === undefined && a.latest.timers.some(beginsAnew)) this.#wake(a);
      };
      // What looks like damage may be a new owner's work: nobody is answered before that is clear.
      if (error !== undefined && isDamage(error)) void this.#exits.damaged(a.shard, error).then(finish);
      else finish();
    });
  }

  async #read(ids: readonly string[]): Promise<readonly (SnapshotEntry | undefined)[] | KeyturnError> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#snapshots.read(ids);
      } catch (cause) {
        if (tries === READ_TRIES) {
          return new KeyturnError("store_failed", `Snapshots cannot be read: ${textOf(cause)}`, { cause });
        }
        await new Promise<void>((resolve) => this.#clock.after(READ_PAUSE_MS * tries, resolve));
      }
    }
  }

  /** A new version's delays have begun, or what it invokes is to begin: that is to be recorded, whether or not anybody sends something. */
  #wake(a: Activation): void {
    a.shard.due.set(a.id, earliestDue(a.latest.timers));
    this.#exits.wake();
  }

  /** Makes an actor of what is stored. Returns why it cannot. */
  #fill(a: Activation, entry: SnapshotEntry | undefined): KeyturnError | undefined {
    const { patch } = a;
    a.patch = undefined;
    try {
      const stored = entry?.value === undefined ? undefined : decodeSnapshot(a.id, entry.value);
      const data = patch === undefined ? stored : patch.applyTo(a.id, stored, limits.requestsPerActor);
      a.revision = entry?.revision ?? 0;
      if (data !== undefined) {
        a.stored = data;
        a.fill(data, (entry?.value?.length ?? 0) + (patch?.bytes ?? 0), this.#clock.now());
        a.stored = undefined;
      }
      // A checkpoint may be writing the patch at this moment, whatever the entry said.
      a.written = patch !== undefined;
      // What came from the tail is not in the snapshot yet. A deletion neither: its marker holds off late writes.
      a.saved = patch === undefined ? a.committed.turn : -1;
      a.shard.patches.delete(a.id);
      return undefined;
    } catch (cause) {
      return asError(cause);
    }
  }
}

function beginsAnew(timer: Timer): boolean {
  return isWake(timer) || isBeginning(timer);
}

/** Whether what is stored does not hold together. */
export function isDamage({ code }: KeyturnError): boolean {
  return code === "corrupt_snapshot" || code === "corrupt_record";
}
