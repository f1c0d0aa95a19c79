/**
 * The store server that all hosts share: a memory store behind an unreliable connection.
 *
 * Owns the memory store, its flushes and crashes, and a view of it for every host. Talks to the timeline and obeys the
 * fault rates. A view is a Store like any other: operations take time, get lost, take effect without an answer, or are
 * repeated by the network.
 *
 * Invariants:
 * 1. An operation is executed by the server at one moment of virtual time, and answered no earlier.
 * 2. An append that was not answered is `unknown`, never an error; everything else that was not answered throws.
 * 3. What was under way when the server crashes is never answered; what was not flushed may be gone.
 */
import type {
  AppendResult,
  DeadLetters,
  Directory,
  Durability,
  Journal,
  JournalEntry,
  ShardEntry,
  Snapshots,
  Store,
  Transport,
} from "../../ports/index.ts";
import { MemoryDirectory } from "../../stores/memory/directory.ts";
import { memory, type MemoryStore } from "../../stores/memory/index.ts";
import type { Faults } from "./faults.ts";
import type { Host } from "./host.ts";
import type { Network } from "./network.ts";
import type { Owner, Timeline } from "./timeline.ts";

/** Name of the store in partitions. */
export const STORE = "store";

/** An entry of the shard table as it took effect. */
export interface Claim {
  readonly shard: number;
  readonly entry: ShardEntry;
  /** Sequence of the journal's last entry at that moment. */
  readonly seq: number;
}

/** The store that all nodes of a simulation share, on which faults strike. */
export class Disk {
  readonly memory: MemoryStore;
  readonly faults: Faults;
  readonly server: Owner;
  /** Every change of the shard table, in order. For the audit. */
  readonly claims: Claim[] = [];
  /** Sequence of the journal's last entry. */
  lastSeq = 0;
  /** Called with every change of the shard table as it takes effect. */
  onClaim: ((claim: Claim, before: ShardEntry | undefined) => void) | undefined;
  /** How often each operation was asked for, and of how many members or shards altogether. */
  readonly calls = new Map<string, { count: number; items: number }>();
  /** A copy of the directory that is behind. */
  readonly #copy = new MemoryDirectory(async (apply) => apply());
  readonly #uncopied: (() => Promise<unknown>)[] = [];
  #copiedAt = 0;
  readonly #entries = new Map<number, ShardEntry>();
  readonly #timeline: Timeline;
  readonly #network: Network;

  constructor(timeline: Timeline, faults: Faults, network: Network, server: Owner) {
    this.#timeline = timeline;
    this.#network = network;
    this.faults = faults;
    this.server = server;
    this.memory = memory({
      flushSoon: (flush) =>
        void timeline.after(faults.rates.flush_ms * faults.random.next(), server, "flush", flush),
    });
    this.#observe();
  }

  /** A power loss: some of what is not flushed is gone, nobody gets an answer, and it takes time to come back. */
  crash(down_ms: number): void {
    this.faults.storeLife++;
    this.faults.down = true;
    this.memory.crash(this.faults.random.below(this.memory.unflushed + 1));
    this.#timeline.after(down_ms, this.server, "store is back", () => {
      this.faults.down = false;
    });
  }

  /** The store as one host sees it. */
  viewFor(host: Host): Store {
    return new View(this, host, this.#timeline, this.#network.transportOf(host));
  }

  /** Where a read that may be behind is answered: by the directory itself or by its copy. */
  get behind(): Directory {
    const { rates } = this.faults;
    return rates.lag_ms > 0 && this.faults.strikes("read behind", 0.5) ? this.#copy : this.memory.directory;
  }

  count(name: string, items: number): void {
    const calls = this.calls.get(name) ?? { count: 0, items: 0 };
    this.calls.set(name, { count: calls.count + 1, items: calls.items + items });
  }

  /** The same again in the copy, later, in the same order. */
  #copyLater(write: (copy: Directory) => Promise<unknown>): void {
    const { rates, random } = this.faults;
    if (rates.lag_ms === 0) return;
    this.#uncopied.push(() => write(this.#copy));
    const at = Math.max(this.#copiedAt, this.#timeline.now - Math.log(1 - random.next()) * rates.lag_ms);
    this.#copiedAt = at;
    this.#timeline.after(
      at - this.#timeline.now,
      this.server,
      "copied",
      () => void this.#uncopied.shift()?.(),
    );
  }

  /** Notes what takes effect, at the moment when it does: within the memory store's flush. */
  #observe(): void {
    const { memory: store } = this;
    const { journal, directory } = store;
    let observer: ((result: unknown) => void) | undefined;
    const write = store.write.bind(store);
    store.write = <T>(apply: () => T): Promise<T> => {
      const seen = observer;
      observer = undefined;
      return write(() => {
        const result = apply();
        seen?.(result);
        return result;
      });
    };
    const append = journal.append.bind(journal);
    journal.append = (lane, expectedLast, bytes) => {
      observer = (result) => {
        const { kind, seq } = result as { kind: string; seq: number };
        if (kind === "committed") this.lastSeq = seq;
      };
      return append(lane, expectedLast, bytes);
    };
    const writeShard = directory.writeShard.bind(directory);
    directory.writeShard = (shard, entry, expected) => {
      observer = (revision) => {
        if (revision === undefined) return;
        const claim = { shard, entry, seq: this.lastSeq };
        this.claims.push(claim);
        this.onClaim?.(claim, this.#entries.get(shard));
        this.#entries.set(shard, entry);
        this.#copyLater((copy) => copy.writeShard(shard, entry, expected));
      };
      return writeShard(shard, entry, expected);
    };
    const { join, beat, leave } = directory;
    directory.join = (member) => {
      observer = () => this.#copyLater((copy) => copy.join(member));
      return join.call(directory, member);
    };
    directory.beat = (incarnation, number) => {
      observer = () => this.#copyLater((copy) => copy.beat(incarnation, number));
      return beat.call(directory, incarnation, number);
    };
    directory.leave = (incarnation, number) => {
      observer = () => this.#copyLater((copy) => copy.leave(incarnation, number));
      return leave.call(directory, incarnation, number);
    };
  }
}

class View implements Store {
  readonly description = "simulated";
  readonly durability: Durability = "fsync";
  readonly journal: Journal;
  readonly snapshots: Snapshots;
  readonly directory: Directory;
  readonly deadLetters: DeadLetters;
  readonly transport: Transport;
  readonly #disk: Disk;
  readonly #host: Host;
  readonly #timeline: Timeline;

  constructor(disk: Disk, host: Host, timeline: Timeline, transport: Transport) {
    this.#disk = disk;
    this.#host = host;
    this.#timeline = timeline;
    this.transport = transport;
    const { journal, snapshots, directory, deadLetters } = disk.memory;
    this.journal = {
      last: (lane) => this.#call("last", false, () => journal.last(lane)),
      append: (lane, expectedLast, bytes) =>
        this.#call(
          "append",
          true,
          (): Promise<AppendResult> =>
            disk.faults.full
              ? Promise.resolve({ kind: "full", cause: "simulated" })
              : journal.append(lane, expectedLast, bytes),
        ).catch((cause: unknown): AppendResult => ({ kind: "unknown", cause })),
      read: (lane, from, to) => this.#all("read", () => journal.read(lane, from, to)),
      get: (seq) => this.#call("get", false, () => journal.get(seq)),
      ends: () => this.#call("ends", false, () => journal.ends()),
      scan: (from, to) => this.#all("scan", () => journal.scan(from, to)),
    };
    this.snapshots = {
      sync: () => this.#call("snapshots.sync", false, () => snapshots.sync()),
      read: (ids) => this.#call("snapshots.read", false, () => snapshots.read(ids)),
      write: (writes) =>
        this.#call(
          "snapshots.write",
          true,
          this.#roomFor(() => snapshots.write(writes)),
        ),
      due: (shard, before, limit, after) =>
        this.#call("due", false, () => snapshots.due(shard, before, limit, after)),
      list: (limit, cursor, type) => this.#call("list", false, () => snapshots.list(limit, cursor, type)),
    };
    this.directory = {
      app: (wanted) => this.#call("app", true, () => directory.app(wanted)),
      settings: () => this.#call("settings", false, () => directory.settings()),
      readShard: (shard) => this.#call("readShard", false, () => directory.readShard(shard)),
      readShards: (shards) =>
        this.#call("readShards", false, () => disk.behind.readShards(shards), shards.length),
      writeShard: (shard, entry, expected) =>
        this.#call("writeShard", true, () => directory.writeShard(shard, entry, expected)),
      join: (member) => this.#call("join", true, () => directory.join(member)),
      beat: (incarnation, beat) => this.#call("beat", true, () => directory.beat(incarnation, beat)),
      leave: (incarnation, beat) => this.#call("leave", true, () => directory.leave(incarnation, beat)),
      members: () => this.#call("members", false, () => disk.behind.members()),
      beats: (incarnations, fresh) =>
        this.#call(
          fresh ? "fresh beats" : "beats",
          false,
          () => (fresh ? directory : disk.behind).beats(incarnations, fresh),
          incarnations.length,
        ),
      watch: (changed) => directory.watch((shard) => this.#tell(() => changed(shard))),
    };
    this.deadLetters = {
      put: (letters) =>
        this.#call(
          "deadLetters.put",
          true,
          this.#roomFor(() => deadLetters.put(letters)),
        ),
      list: (limit, after) => this.#call("deadLetters.list", false, () => deadLetters.list(limit, after)),
      remove: (letters) => this.#call("deadLetters.remove", true, () => deadLetters.remove(letters)),
    };
  }

  async close(): Promise<void> {
    // The server belongs to all hosts.
  }

  async *#all(
    name: string,
    read: () => AsyncIterable<readonly JournalEntry[]>,
  ): AsyncGenerator<readonly JournalEntry[]> {
    const chunks = await this.#call(name, false, async () => {
      const found: (readonly JournalEntry[])[] = [];
      for await (const chunk of read()) found.push(chunk);
      return found;
    });
    yield* chunks;
  }

  #roomFor<T>(run: () => Promise<T>): () => Promise<T> {
    return () =>
      this.#disk.faults.full ? Promise.reject(new Error("The simulated store has no room.")) : run();
  }

  #tell(changed: () => void): void {
    const { faults } = this.#disk;
    const host = this.#host;
    if (!host.isUp || !faults.reaches(STORE, host.name) || faults.strikes("notice lost", faults.rates.loss))
      return;
    this.#disk.count("notice", 1);
    host.after(faults.storeDelay_ms(), "changed", changed);
  }

  /** One operation: there, executed, and back. */
  #call<T>(name: string, writes: boolean, execute: () => Promise<T>, items = 1): Promise<T> {
    this.#disk.count(name, items);
    const { faults, server } = this.#disk;
    const host = this.#host;
    const timeline = this.#timeline;
    const { rates } = faults;
    return new Promise<T>((resolve, reject) => {
      const lost = (): void =>
        void host.after(rates.storeTimeout_ms, "no answer", () =>
          reject(new Error(`No answer from the simulated store to ${name}.`)),
        );
      if (faults.strikes("operation refused", rates.refusal)) {
        host.after(faults.storeDelay_ms(), "refused", () =>
          reject(new Error(`The simulated store refused ${name}.`)),
        );
        return;
      }
      if (faults.strikes("request lost", rates.requestLoss)) {
        lost();
        return;
      }
      timeline.after(faults.storeDelay_ms(), server, name, () => {
        if (faults.down || !faults.reaches(host.name, STORE)) {
          lost();
          return;
        }
        const life = faults.storeLife;
        const answer = (label: string, run: () => void): void => {
          const silent =
            life !== faults.storeLife ||
            !faults.reaches(STORE, host.name) ||
            faults.strikes("answer lost", rates.answerLoss);
          if (silent) lost();
          else host.after(faults.storeDelay_ms(), label, run);
        };
        if (writes && !faults.full && faults.strikes("request repeated", rates.requestRepetition)) {
          timeline.after(faults.storeDelay_ms(), server, name, () => {
            if (!faults.down) execute().catch(() => undefined);
          });
        }
        execute().then(
          (value) => answer(name, () => resolve(value)),
          (error: unknown) => answer(name, () => reject(error)),
        );
      });
    });
  }
}
