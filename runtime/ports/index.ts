/**
 * The ports: what the engine, the cluster and the client ask of the world, as types and contracts only.
 *
 * Owns no behaviour. A store implements Journal, Snapshots, Directory and DeadLetters; a transport carries frames;
 * Clock and Random make a run repeatable. One conformance suite (test/conformance) runs on every implementation.
 */
import type { Frame } from "../words/frames.ts";

export type AppendResult =
  /** The batch is in the journal at `seq`, at the durability that the store promises. */
  | { readonly kind: "committed"; readonly seq: number }
  /** The lane's last sequence is not the expected one: somebody else appended, or this append had succeeded before. */
  | { readonly kind: "conflict" }
  /** No answer. The append may be in the journal now, later, or never. Repeat it unchanged. */
  | { readonly kind: "unknown"; readonly cause: unknown }
  /** Certainly not in the journal, because the store has no room. May succeed later. */
  | { readonly kind: "full"; readonly cause: unknown };

export interface JournalEntry {
  readonly seq: number;
  readonly bytes: Uint8Array;
}

/**
 * An append-only log of batches in lanes. A lane is written by one node in one life.
 *
 * 1. `append` is a compare-and-set on the lane's last sequence (0 for an empty lane). At most one append with one
 *    expectation ever succeeds.
 * 2. `committed` is answered only when the batch survives what the store's durability promises.
 * 3. Sequences grow over all lanes of one journal; a lane's entries are in append order.
 * 4. After an append of anybody has been answered, `last`, `read`, `ends` and `scan` of anybody see it.
 * 5. Nothing is missing but what was trimmed (Retention): of each lane its oldest entries, never its last.
 */
export interface Journal {
  /** Sequence of the lane's last entry, 0 if it has none. Never stale. */
  last(lane: string): Promise<number>;
  /** The bytes belong to the journal until it answers: the caller must not change them. */
  append(lane: string, expectedLast: number, bytes: Uint8Array): Promise<AppendResult>;
  /** The lane's entries with `from <= seq <= to`, in order, in chunks of bounded size. */
  read(lane: string, from: number, to: number): AsyncIterable<readonly JournalEntry[]>;
  /** One entry by its sequence, of whichever lane. */
  get(seq: number): Promise<Uint8Array | undefined>;
  /** Where each journal begins and ends now: one element a journal, in the order of their numbers. */
  ends(): Promise<readonly JournalEnds[]>;
  /**
   * The entries of all lanes of one journal with `from <= seq <= to`, in order, in chunks of bounded size. Both are
   * positions in that journal. Ends where the journal ended when it was asked, or later.
   */
  scan(from: number, to: number): AsyncIterable<readonly JournalEntry[]>;
}

/**
 * What the keeper of a store may do to its journal; nodes never do. On a server it may take permissions that they lack.
 *
 * A lane keeps its last entry, whatever it is: appends are compared with it, and a sealed lane stays sealed.
 */
export interface Retention {
  /** All lanes that have entries. */
  lanes(): Promise<readonly string[]>;
  /** Removes a lane's entries with `seq <= upTo`, but for its last. Resolves when they are gone. */
  trim(lane: string, upTo: number): Promise<void>;
}

/** Positions: no later than the oldest entry that is still there; and of the newest, 0 for none. */
export interface JournalEnds {
  readonly first: number;
  readonly last: number;
}

export interface SnapshotEntry {
  /** Undefined where an entry was deleted and the store still keeps a marker. */
  readonly value: Uint8Array | undefined;
  readonly revision: number;
}

export interface SnapshotWrite {
  /**
   * `<type>.<encoded key>`, or `_shard.<n>` for a shard's own entry and `_shard.<n>.<m>.<k>` for a piece of it, or
   * `_index.<n>.<type>` for the stored index of its actors and `_index.<n>.<type>.<k>` for a piece of that.
   */
  readonly id: string;
  readonly shard: number;
  /** Undefined deletes the entry and leaves a marker, also where there was no entry. */
  readonly value: Uint8Array | undefined;
  /** Revision of the entry or marker that this replaces, 0 if there is neither. */
  readonly expected: number;
  /** When the actor's earliest timer is due, milliseconds since the epoch; undefined without timers. */
  readonly due: number | undefined;
}

/** An actor's entry. */
export interface ListedEntry {
  readonly id: string;
  readonly value: Uint8Array;
  readonly revision: number;
}

export interface ListPage {
  readonly entries: readonly ListedEntry[];
  /** Where to go on, for the same store only; undefined at the end. */
  readonly next: string | undefined;
}

export interface DueEntry {
  readonly id: string;
  readonly due: number;
}

/**
 * The latest written state of every actor, one entry each, and an index by due time.
 *
 * 1. `write` compares and sets each entry by itself; it answers with the revision to expect next or `undefined` for a
 *    conflict, in the order of the writes. A resolved write is durable.
 * 2. Revisions are positive and never repeat for one id, also across a deletion, so a delayed write of a dead node
 *    cannot bring an old entry back.
 * 3. A deletion leaves a marker, which has a revision like an entry: `read` answers it without a value, and the next
 *    write must expect it. So a delayed *first* write, which expects 0, cannot bring back what was deleted meanwhile.
 *    A marker may be forgotten `limits.markerAge_ms` after the deletion; then `read` answers `undefined` and 0 is
 *    expected. A store that lives in one process may keep none at all, and answers a deletion with 0, if a write that
 *    was called before `sync` is done when `sync` is.
 * 4. The due index changes together with the entry. It never names an entry that is gone. Entries due at the same time
 *    come in an order that does not change between two pages.
 * 5. A call of `write` is not atomic: some of its entries may be refused or, after a crash, missing.
 * 6. After `sync`, `read` and `due` see every write that was answered to anybody before `sync` was called.
 * 7. `list` walks the entries of actors of all shards, in an order of the store's own, and changes nothing. Pages are
 *    bounded in entries and in bytes; one may be empty although there are more behind it. Walked to its end, it has
 *    given each entry that existed all the while, whether or not it was written meanwhile: at least once, in
 *    the form that it had before the walk or in a newer one, and more than once only one that was written meanwhile or
 *    (where replicas may be behind) just before. What begins to exist or is deleted meanwhile may be given or not.
 */
export interface Snapshots {
  sync(): Promise<void>;
  read(ids: readonly string[]): Promise<readonly (SnapshotEntry | undefined)[]>;
  write(writes: readonly SnapshotWrite[]): Promise<readonly (number | undefined)[]>;
  /**
   * Entries of a shard due before `before`, earliest first, at most `limit`, beginning after `after`; an `after` with
   * an empty id begins with what is due just then.
   */
  due(shard: number, before: number, limit: number, after?: DueEntry): Promise<readonly DueEntry[]>;
  /**
   * At most `limit` entries of actors: neither markers nor what shards have stored of themselves.
   * @param cursor `next` of the page before; the walk begins without one
   * @param type walks only the actors of one type, the same on all pages of a walk; others cost nothing
   */
  list(limit: number, cursor?: string, type?: string): Promise<ListPage>;
}

/** A stretch of a lane in which a shard's records lie. */
export interface Segment {
  readonly lane: string;
  /** First sequence that may hold a record of the shard. */
  readonly from: number;
  /** Last one, or undefined while the lane is the owner's and open. */
  readonly to: number | undefined;
}

/** Versions of actor types by name. A type that is not named has version 1; one that is has a version above 1. */
export type Versions = Readonly<Record<string, number>>;

/** Who owns a shard, and where what is not in snapshots yet can be read. */
export interface ShardEntry {
  readonly owner: string | undefined;
  /** Grows by one with each change of owner. */
  readonly epoch: number;
  readonly segments: readonly Segment[];
  /** The highest versions of types that any owner had: who has lower ones cannot read all of the shard. Never shrinks. */
  readonly versions?: Versions;
}

export interface StoredShard {
  readonly entry: ShardEntry;
  readonly revision: number;
}

/** A node in one life, as the list of members has it. */
export interface Member {
  /** Name of the node, which it keeps over restarts. */
  readonly node: string;
  /** This life of the node; also the name of its lane. */
  readonly incarnation: string;
  readonly weight: number;
  /** Grows with every heartbeat, so that a change can be seen without comparing clocks. */
  readonly beat: number;
  readonly leaving: boolean;
  readonly types: readonly string[];
  /** Those of `types` that have a version above 1; missing if there are none. Never changes in a life. */
  readonly versions?: Versions;
}

/** What an app was created with; frozen. */
export interface AppSettings {
  readonly shards: number;
  readonly format: number;
}

/**
 * The shard table, the list of members and their heartbeats.
 *
 * 1. `writeShard` is a compare-and-set on the revision (0 for an entry that does not exist).
 * 2. `readShard` is never stale with respect to a write that was answered.
 * 3. Watchers are told of most changes soon; nothing may rest on it.
 * 4. An incarnation is listed once. Taken off the list it stays off, whatever `join` or `beat` of it was under way or
 *    is repeated (a store may forget this after an hour).
 * 5. `beat` and a conditional `leave` are decided one after the other: either the beat comes first, and a `leave` that
 *    names an older one changes nothing; or the `leave`, and the beat answers false.
 * 6. `readShards`, `members` and `beats` without `fresh` may be behind, also behind what they answered before, but
 *    not for ever. What they cost must not grow with the number of shards or, but for `members`, of nodes.
 */
export interface Directory {
  /** Creates the app, or returns what it was created with. */
  app(wanted: AppSettings): Promise<AppSettings>;
  /** What the app was created with; undefined if it was not. Changes nothing. */
  settings(): Promise<AppSettings | undefined>;
  readShard(shard: number): Promise<StoredShard | undefined>;
  /** The entries of some shards; those that do not exist are left out. May be behind. */
  readShards(shards: readonly number[]): Promise<ReadonlyMap<number, StoredShard>>;
  /** The new revision, or undefined if the entry is not at `expected`. */
  writeShard(shard: number, entry: ShardEntry, expected: number): Promise<number | undefined>;
  /**
   * Lists a member with its first beat, or changes what a listed one says of itself; that is a heartbeat too. One whose
   * beat is below the newest changes nothing. False if this incarnation was taken off the list before: it is over.
   */
  join(member: Member): Promise<boolean>;
  /**
   * A heartbeat; one that is not above the newest changes nothing. False if the member is not listed (any more): that
   * incarnation is over.
   */
  beat(incarnation: string, beat: number): Promise<boolean>;
  /**
   * Takes a member off the list: itself when it leaves, or another one that was found dead. With `beat` only if that is
   * its newest beat. True if the member is not listed now, false if its newest beat is another.
   */
  leave(incarnation: string, beat?: number): Promise<boolean>;
  /**
   * The list. May be behind; `beat` of an entry may be as old as its joining. It is asked for with every heartbeat, so
   * a store at the other end of a network answers from a copy that it keeps up to date.
   */
  members(): Promise<readonly Member[]>;
  /**
   * Newest beats of some members, in order; undefined for one that is not listed. With `fresh` never stale with respect
   * to a `join`, `beat` or `leave` that was answered; else it may be behind.
   */
  beats(incarnations: readonly string[], fresh: boolean): Promise<readonly (number | undefined)[]>;
  /**
   * Calls back after a shard was given up (its owner was set to undefined), with its number; and without one after the
   * list of members changed, or if something may have been missed. Heartbeats are no change. A hint only. Returns the
   * way to stop it.
   */
  watch(changed: (shard?: number) => void): () => void;
}

/** A message that was refused for good and had nobody waiting for the error. */
export interface DeadLetter {
  /** Where the record lies that says so: its batch (words/position.ts) and its index there. Also the letter's identity. */
  readonly position: number;
  readonly index: number;
  readonly type: string;
  readonly key: string;
  readonly event: unknown;
  readonly time: number;
  /** Code and text of the error. */
  readonly code: string;
  readonly reason: string;
}

/** What tells a letter from all others. */
export type DeadLetterId = Pick<DeadLetter, "position" | "index">;

/**
 * Idempotent by position and index.
 *
 * 1. `list` answers in the order of positions and indexes, from behind `after`, which need not exist.
 * 2. A letter is there once, however often it is put.
 * 3. What was removed stays so, also if it is put again: a take-over puts once more what it finds in the tail.
 */
export interface DeadLetters {
  put(letters: readonly DeadLetter[]): Promise<void>;
  list(limit: number, after?: DeadLetterId): Promise<readonly DeadLetter[]>;
  remove(letters: readonly DeadLetterId[]): Promise<void>;
}

/** What commits survive: a power loss, or the death of the process only. */
export type Durability = "fsync" | "process";

export interface Store {
  /** For people: what this is and where it lies. */
  readonly description: string;
  readonly durability: Durability;
  /** For people: what commits survive, and how that is known. */
  readonly durabilityNote?: string;
  /** Whether the server can be reached now; none where there is no server. The text is for people. */
  readonly connection?: { readonly connected: boolean; readonly text: string };
  readonly journal: Journal;
  readonly snapshots: Snapshots;
  readonly directory: Directory;
  readonly deadLetters: DeadLetters;
  readonly transport: Transport;
  readonly retention?: Retention;
  close(): Promise<void>;
}

/**
 * Carries frames to whoever subscribes to a subject.
 *
 * At most once, in order per sender and subject as far as the network keeps it; a frame may be lost, repeated or
 * late. Subjects: `shard.<n>`, `node.<incarnation>`, `client.<session>`. What is published is never mutated afterwards.
 * Subscribers in the sender's own process may be the only ones that get a frame.
 */
export interface Transport {
  /** First part of the names of client sessions that may be used here; none if it is missing. */
  readonly sessionPrefix?: string;
  /**
   * False if it is known that nobody listens there, or that nothing can be sent now.
   * @param via the incarnation that the sender believes to own the shard: a network may take its frames together
   */
  publish(subject: string, frame: Frame, via?: string): boolean;
  subscribe(subject: string, handler: (frame: Frame) => void): () => void;
  /**
   * Lets a gateway answer clients that are not ours, where the transport can be reached by such. What is returned ends it,
   * and resolves when all that came before is with the gateway.
   */
  serve?(gateway: Gateway): () => Promise<void>;
}

/** A message of a client that is not ours. */
export interface PlainMessage {
  readonly type: string;
  /** The key as it stands in the subject. */
  readonly token: string;
  readonly payload: Uint8Array;
  header(name: string): string | undefined;
  /** Undefined if nobody waits for an answer. */
  readonly respond: ((bytes: Uint8Array) => void) | undefined;
}

/** Answers clients that are not ours. */
export interface Gateway {
  plain(message: PlainMessage): void;
  /** What the app was created with, as JSON. */
  info(): Uint8Array;
}

/** Time. Nothing in engine, cluster or client reads it elsewhere. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch; for due times and what people see. May jump. */
  now(): number;
  /** Never goes back; for leases and deadlines. Milliseconds from an arbitrary point. */
  monotonic(): number;
  /** Calls back after so many milliseconds. Returns the way to cancel it. */
  after(delay_ms: number, callback: () => void): () => void;
  /** Calls back when what is running and what it queued is done: once per tick of the event loop. */
  defer(callback: () => void): void;
}

export interface Random {
  /** In [0, 1). */
  next(): number;
  /** A name that nobody else will draw: letters and digits. */
  id(): string;
}

/** What a node needs besides its store. */
export interface World {
  readonly clock: Clock;
  readonly random: Random;
}
