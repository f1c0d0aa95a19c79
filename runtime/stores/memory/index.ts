/**
 * The memory store: the reference implementation of every port, for tests, examples and the simulator.
 *
 * Owns all state of one app in this process; any number of nodes share one store. It is as strict as a real one:
 * compare-and-set, fencing, revisions that never repeat, and a durability boundary: a write takes effect and is
 * answered only at the next flush, and `crash` loses what was not flushed.
 *
 * Invariants:
 * 1. Writes take effect in the order in which they were called, all at once at a flush.
 * 2. Nothing is answered before it has taken effect. What `crash` drops was never answered.
 */
import type {
  AppendResult,
  DeadLetter,
  DeadLetterId,
  DeadLetters,
  Directory,
  Durability,
  Journal,
  JournalEnds,
  JournalEntry,
  Retention,
  Snapshots,
  Store,
  Transport,
} from "../../ports/index.ts";
import { LocalTransport } from "../local-transport.ts";
import { MemoryDirectory } from "./directory.ts";
import { MemorySnapshots } from "./snapshots.ts";

export interface MemoryOptions {
  /** Arranges a flush: calls back once, soon. By default when the running JavaScript is done. */
  readonly flushSoon?: (flush: () => void) => void;
  /** Carries frames; by default within this process. */
  readonly transport?: Transport;
}

/** A memory store. Give the same one to every node and client that belong together. */
export function memory(options: MemoryOptions = {}): MemoryStore {
  return new MemoryStore(options);
}

interface Pending {
  apply(): void;
  lost(): void;
}

/** Entries of one `read` chunk. */
const READ_CHUNK = 256;

/** A store that ends with its process: for tests, and for trying things out. Several nodes may share one. */
export class MemoryStore implements Store {
  readonly description = "memory: everything is gone with this process";
  readonly durability: Durability = "process";
  readonly journal: Journal;
  readonly snapshots: Snapshots;
  readonly directory: Directory;
  readonly deadLetters: DeadLetters;
  readonly transport: Transport;
  readonly retention: Retention;
  readonly #flushSoon: (flush: () => void) => void;
  #pending: Pending[] = [];
  #scheduled = false;

  constructor(options: MemoryOptions) {
    this.#flushSoon = options.flushSoon ?? ((flush) => queueMicrotask(flush));
    this.transport = options.transport ?? new LocalTransport();
    const journal = new MemoryJournal(this);
    this.journal = journal;
    this.retention = journal;
    this.snapshots = new MemorySnapshots((apply) => this.write(apply));
    this.directory = new MemoryDirectory((apply) => this.write(apply));
    this.deadLetters = new MemoryDeadLetters(this);
  }

  /** Arranges that a write takes effect at the next flush; resolves when it has. */
  write<T>(apply: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#pending.push({
        apply: () => resolve(apply()),
        lost: () => reject(new Error("The store crashed before the write was flushed.")),
      });
      if (this.#scheduled) return;
      this.#scheduled = true;
      this.#flushSoon(() => this.flush());
    });
  }

  /** Makes everything written so far durable. */
  flush(): void {
    this.#scheduled = false;
    const pending = this.#pending;
    this.#pending = [];
    for (const write of pending) write.apply();
  }

  /**
   * A power loss: of the writes that are not flushed, the first `kept` reached the disk all the same, the others are
   * lost. None of them is answered in time; callers see a failure.
   */
  crash(kept = 0): void {
    const pending = this.#pending;
    this.#pending = [];
    // The flush that was arranged may be lost with the rest.
    this.#scheduled = false;
    pending.forEach((write, index) => {
      if (index < kept) write.apply();
      else write.lost();
    });
  }

  /** How many writes wait for the next flush. */
  get unflushed(): number {
    return this.#pending.length;
  }

  async close(): Promise<void> {
    this.flush();
  }
}

class MemoryJournal implements Journal, Retention {
  readonly #store: MemoryStore;
  /** Undefined where it was trimmed. */
  readonly #entries: (Uint8Array | undefined)[] = [];
  readonly #lanes = new Map<string, number[]>();

  constructor(store: MemoryStore) {
    this.#store = store;
  }

  async last(lane: string): Promise<number> {
    return this.#lastOf(lane);
  }

  append(lane: string, expectedLast: number, bytes: Uint8Array): Promise<AppendResult> {
    return this.#store
      .write((): AppendResult => {
        if (this.#lastOf(lane) !== expectedLast) return { kind: "conflict" };
        const seq = this.#entries.push(bytes);
        const lanes = this.#lanes.get(lane);
        if (lanes === undefined) this.#lanes.set(lane, [seq]);
        else lanes.push(seq);
        return { kind: "committed", seq };
      })
      .catch((cause: unknown): AppendResult => ({ kind: "unknown", cause }));
  }

  async *read(lane: string, from: number, to: number): AsyncGenerator<readonly JournalEntry[]> {
    const seqs = this.#lanes.get(lane) ?? [];
    let at = seqs.findIndex((seq) => seq >= from);
    while (at >= 0 && at < seqs.length && (seqs[at] as number) <= to) {
      const chunk: JournalEntry[] = [];
      while (at < seqs.length && (seqs[at] as number) <= to && chunk.length < READ_CHUNK) {
        const seq = seqs[at++] as number;
        chunk.push({ seq, bytes: this.#entries[seq - 1] as Uint8Array });
      }
      yield chunk;
    }
  }

  async get(seq: number): Promise<Uint8Array | undefined> {
    return this.#entries[seq - 1];
  }

  async ends(): Promise<readonly JournalEnds[]> {
    return [{ first: 1, last: this.#entries.length }];
  }

  async *scan(from: number, to: number): AsyncGenerator<readonly JournalEntry[]> {
    const end = Math.min(to, this.#entries.length);
    for (let seq = Math.max(1, from); seq <= end; ) {
      const chunk: JournalEntry[] = [];
      for (; seq <= end && chunk.length < READ_CHUNK; seq++) {
        const bytes = this.#entries[seq - 1];
        if (bytes !== undefined) chunk.push({ seq, bytes });
      }
      if (chunk.length > 0) yield chunk;
    }
  }

  async lanes(): Promise<readonly string[]> {
    return [...this.#lanes.keys()];
  }

  trim(lane: string, upTo: number): Promise<void> {
    return this.#store.write(() => {
      const seqs = this.#lanes.get(lane) ?? [];
      while (seqs.length > 1 && (seqs[0] as number) <= upTo)
        this.#entries[(seqs.shift() as number) - 1] = undefined;
    });
  }

  #lastOf(lane: string): number {
    return this.#lanes.get(lane)?.at(-1) ?? 0;
  }
}

class MemoryDeadLetters implements DeadLetters {
  readonly #store: MemoryStore;
  readonly #letters = new Map<string, DeadLetter>();
  readonly #removed = new Set<string>();

  constructor(store: MemoryStore) {
    this.#store = store;
  }

  put(letters: readonly DeadLetter[]): Promise<void> {
    return this.#store.write(() => {
      for (const letter of letters) {
        const name = nameOf(letter);
        if (!this.#removed.has(name)) this.#letters.set(name, letter);
      }
    });
  }

  remove(letters: readonly DeadLetterId[]): Promise<void> {
    return this.#store.write(() => {
      for (const letter of letters) {
        this.#removed.add(nameOf(letter));
        this.#letters.delete(nameOf(letter));
      }
    });
  }

  async list(limit: number, after?: DeadLetterId): Promise<readonly DeadLetter[]> {
    const letters = [...this.#letters.values()].sort(compareLetters);
    const from = after === undefined ? 0 : letters.findIndex((letter) => compareLetters(letter, after) > 0);
    return from < 0 ? [] : letters.slice(from, from + limit);
  }
}

function nameOf({ position, index }: DeadLetterId): string {
  return `${position}.${index}`;
}

function compareLetters(a: DeadLetterId, b: DeadLetterId): number {
  return a.position - b.position || a.index - b.index;
}
