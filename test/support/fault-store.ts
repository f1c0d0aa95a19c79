/**
 * The memory store with a hand on its ports: appends and snapshot writes can be held back, answered wrongly or
 * refused, frames can be lost, and everything is noted.
 */
import type {
  AppendResult,
  DeadLetters,
  Directory,
  Journal,
  Snapshots,
  SnapshotWrite,
  Store,
  Transport,
} from "../../runtime/ports/index.ts";
import { memory, type MemoryStore } from "../../runtime/stores/memory/index.ts";
import type { Frame } from "../../runtime/words/frames.ts";

/** What happens to one append: `lost` means that it never reached the journal, `kept` that it did. */
export type AppendFault = "conflict" | "unknown-lost" | "unknown-kept" | "full";

/** Holds calls back until it is opened. */
export class Gate {
  #waiting: (() => void)[] = [];
  #closed = false;

  close(): void {
    this.#closed = true;
  }

  open(): void {
    this.#closed = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  pass(): Promise<void> | undefined {
    if (!this.#closed) return undefined;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

export class FaultStore implements Store {
  readonly description = "memory, with faults";
  readonly durability = "process";
  readonly inner: MemoryStore;
  readonly journal: Journal;
  readonly snapshots: Snapshots;
  readonly directory: Directory;
  readonly deadLetters: DeadLetters;
  readonly transport: Transport;
  readonly appendGate = new Gate();
  readonly snapshotWriteGate = new Gate();
  readonly snapshotReadGate = new Gate();
  readonly snapshotListGate = new Gate();
  readonly directoryGate = new Gate();
  /** For the next appends, in order. */
  readonly appendFaults: AppendFault[] = [];
  /** Lanes whose appends the gate and the faults concern; all by default. */
  concerns: (lane: string) => boolean = () => true;
  /** Frames for which this is true are lost. */
  loses: (subject: string, frame: Frame) => boolean = () => false;
  /** Snapshot reads for which this is true fail. */
  failsToRead: (id: string) => boolean = () => false;
  /** Snapshot writes for which this is true fail. */
  failsToWrite: (write: SnapshotWrite) => boolean = () => false;
  appends = 0;
  inFlight = 0;
  inFlightMax = 0;
  readonly read: string[] = [];
  readonly frames: { readonly subject: string; readonly frame: Frame }[] = [];
  journalReads = 0;

  /** @param inner give the same one to several, for nodes of one app with faults of their own */
  constructor(inner: MemoryStore = memory()) {
    this.inner = inner;
    this.deadLetters = inner.deadLetters;
    const { journal, snapshots, transport, directory } = inner;
    const looked = async <T>(run: () => Promise<T>): Promise<T> => {
      await this.directoryGate.pass();
      return run();
    };
    this.directory = {
      app: (wanted) => looked(() => directory.app(wanted)),
      settings: () => looked(() => directory.settings()),
      readShard: (shard) => looked(() => directory.readShard(shard)),
      readShards: (shards) => looked(() => directory.readShards(shards)),
      writeShard: (shard, entry, expected) => looked(() => directory.writeShard(shard, entry, expected)),
      join: (member) => looked(() => directory.join(member)),
      beat: (incarnation, beat) => looked(() => directory.beat(incarnation, beat)),
      leave: (incarnation, beat) => looked(() => directory.leave(incarnation, beat)),
      members: () => looked(() => directory.members()),
      beats: (incarnations, fresh) => looked(() => directory.beats(incarnations, fresh)),
      watch: (changed) => directory.watch(changed),
    };
    const note = (): void => {
      this.journalReads++;
    };
    this.journal = {
      last: (lane) => journal.last(lane),
      get: (seq) => journal.get(seq),
      ends: () => journal.ends(),
      scan: (from, to) => journal.scan(from, to),
      async *read(lane, from, to) {
        for await (const entries of journal.read(lane, from, to)) {
          note();
          yield entries;
        }
      },
      append: (lane, expected, bytes) => this.#append(lane, expected, bytes),
    };
    this.snapshots = {
      sync: () => snapshots.sync(),
      due: (shard, before, limit, after) => snapshots.due(shard, before, limit, after),
      list: async (limit, cursor, type) => {
        await this.snapshotListGate.pass();
        return snapshots.list(limit, cursor, type);
      },
      read: async (ids) => {
        this.read.push(...ids);
        await this.snapshotReadGate.pass();
        if (ids.some((id) => this.failsToRead(id))) throw new Error("The disk cannot be read.");
        return snapshots.read(ids);
      },
      write: async (writes) => {
        await this.snapshotWriteGate.pass();
        if (writes.some((write) => this.failsToWrite(write))) throw new Error("The disk cannot be written.");
        return snapshots.write(writes);
      },
    };
    this.transport = {
      publish: (subject, frame) => {
        if (this.loses(subject, frame)) return true;
        this.frames.push({ subject, frame });
        return transport.publish(subject, frame);
      },
      subscribe: (subject, handler) => transport.subscribe(subject, handler),
    };
  }

  async #append(lane: string, expected: number, bytes: Uint8Array): Promise<AppendResult> {
    if (!this.concerns(lane)) return this.inner.journal.append(lane, expected, bytes);
    this.appends++;
    this.inFlight++;
    this.inFlightMax = Math.max(this.inFlightMax, this.inFlight);
    try {
      await this.appendGate.pass();
      const fault = this.appendFaults.shift();
      if (fault === "conflict") return { kind: "conflict" };
      if (fault === "full") return { kind: "full", cause: new Error("No room.") };
      if (fault === "unknown-lost") return { kind: "unknown", cause: new Error("No answer.") };
      const result = await this.inner.journal.append(lane, expected, bytes);
      return fault === "unknown-kept" ? { kind: "unknown", cause: new Error("No answer.") } : result;
    } finally {
      this.inFlight--;
    }
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}
