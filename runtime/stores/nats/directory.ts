/**
 * The shard table and the list of members on two KV buckets.
 *
 *   <app>_shards   app                    what the app was created with
 *                  <n>                    a shard's entry
 *   <app>_nodes    member.<incarnation>   who is there
 *                  beat.<incarnation>     its newest heartbeat
 *
 * Owns a mirror of the list of members, kept by a watch. Talks to the connection and to `@nats-io/kv` for the watch.
 *
 * Invariants:
 * 1. What decides is read from the stream's leader; the mirror and reads of many may be behind.
 * 2. A member is listed by a write that expects no entry, and changed by one that expects its own last: an incarnation
 *    that was taken off the list cannot list itself again.
 * 3. Beats are beside the list, so that they are read by those few who follow them and by nobody else.
 */
import { headers } from "@nats-io/transport-node";
import { type KV, Kvm, type KvWatchEntry } from "@nats-io/kv";
import type { QueuedIterator } from "@nats-io/transport-node";
import type { AppSettings, Directory, Member, ShardEntry, StoredShard } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import {
  ackOf,
  directGet,
  expecting,
  fromJson,
  isConflict,
  isError,
  json,
  leaderGet,
  refusalOf,
  type StoredMessage,
} from "./api.ts";
import type { Connection } from "./connection.ts";
import type { Names } from "./names.ts";

const READ_KEYS = 512;
/** How long what is left of a member stays for the watchers to see. */
const GONE_TTL = "86400s";
const WATCH_AGAIN_MS = 500;
const SETTINGS_TRIES = 5;

type Watch = QueuedIterator<KvWatchEntry>;

interface Own {
  /** Infinite once it is off the list. */
  beat: number;
  /** Sequence of the beat. */
  seq: number;
  /** Sequence of the entry in the list, 0 before there is one. */
  revision: number;
}

export class NatsDirectory implements Directory {
  readonly #connection: Connection;
  readonly #names: Names;
  readonly #watchers = new Set<(shard?: number) => void>();
  readonly #members = new Map<string, { member: Member; revision: number }>();
  /** Incarnations that this process has listed: its newest beat and the sequences of what it wrote. */
  readonly #own = new Map<string, Own>();
  #watch: Watch | undefined;
  #watching: Promise<void> | undefined;
  #unsubscribe: (() => void) | undefined;
  #closed = false;
  /** Hears what the app is, once it is known. */
  onSettings: (settings: AppSettings) => void = () => undefined;

  constructor(connection: Connection, names: Names) {
    this.#connection = connection;
    this.#names = names;
  }

  async app(wanted: AppSettings): Promise<AppSettings> {
    for (let tries = 0; tries < SETTINGS_TRIES; tries++) {
      const found = await this.settings();
      if (found !== undefined) return found;
      await this.#put(this.#names.shards, "app", json(wanted), 0);
    }
    throw new KeyturnError("store_failed", "The app's settings cannot be written and cannot be read.");
  }

  /** What the app was created with, if it was. */
  async settings(): Promise<AppSettings | undefined> {
    const subject = this.#names.key(this.#names.shards, "app");
    const found = await leaderGet(this.#connection, this.#names.shards, { last_by_subj: subject });
    if (found === undefined) return undefined;
    const settings = fromJson(found.data) as AppSettings;
    this.onSettings(settings);
    return settings;
  }

  async readShard(shard: number): Promise<StoredShard | undefined> {
    const subject = this.#names.key(this.#names.shards, String(shard));
    const found = await leaderGet(this.#connection, this.#names.shards, { last_by_subj: subject });
    return found === undefined ? undefined : { entry: shardOf(found.data), revision: found.seq };
  }

  async readShards(shards: readonly number[]): Promise<ReadonlyMap<number, StoredShard>> {
    const prefix = this.#names.key(this.#names.shards, "");
    const found = await this.#last(this.#names.shards, shards.map(String));
    return new Map(
      found.map(({ subject, data, seq }) => [
        Number(subject.slice(prefix.length)),
        { entry: shardOf(data), revision: seq },
      ]),
    );
  }

  async writeShard(shard: number, entry: ShardEntry, expected: number): Promise<number | undefined> {
    const { owner, epoch, segments } = entry;
    const bytes = json({
      owner: owner ?? null,
      epoch,
      segments: segments.map(({ journal, lane, from, to }) => [journal, lane, from, to ?? null]),
    });
    const revision = await this.#put(this.#names.shards, String(shard), bytes, expected);
    if (revision !== undefined && owner === undefined) {
      this.#connection.publish(this.#names.changed, json({ shard }));
    }
    return revision;
  }

  async join(member: Member): Promise<boolean> {
    await this.#start();
    const { incarnation, beat } = member;
    const settled = await this.#setBeat(incarnation, beat, true);
    if (settled !== "set") return settled === "old";
    const key = `member.${incarnation}`;
    const expected = this.#own.get(incarnation)?.revision ?? 0;
    let revision = await this.#put(this.#names.nodes, key, json(member), expected);
    if (revision === undefined) {
      // An earlier try may have had its effect without an answer. Or somebody has just taken this one off the list.
      const found = await this.#leaderGet(key);
      if (found === undefined || found.data.length === 0) return false;
      revision = await this.#put(this.#names.nodes, key, json(member), found.seq);
      if (revision === undefined) return false;
    }
    this.#ownOf(incarnation).revision = revision;
    this.#members.set(incarnation, { member, revision });
    return true;
  }

  async beat(incarnation: string, beat: number): Promise<boolean> {
    return (await this.#setBeat(incarnation, beat, false)) !== "gone";
  }

  async leave(incarnation: string, beat?: number): Promise<boolean> {
    const key = `beat.${incarnation}`;
    while (true) {
      const found = await this.#leaderGet(key);
      if (found === undefined || found.data.length === 0) break;
      if (beat !== undefined && beatOf(found.data) !== beat) return false;
      // A heartbeat in between changes the sequence: then it was there first.
      if (await this.#purge(key, found.seq)) break;
    }
    // Behind the beat, which decides: if this one is lost, whoever finds the beat gone does it again.
    await this.#purge(`member.${incarnation}`, undefined);
    this.#gone(incarnation);
    return true;
  }

  async members(): Promise<readonly Member[]> {
    await this.#start();
    return [...this.#members.values()].map(({ member }) => member);
  }

  async beats(incarnations: readonly string[], fresh: boolean): Promise<readonly (number | undefined)[]> {
    const keys = incarnations.map((incarnation) => `beat.${incarnation}`);
    const found = fresh
      ? await Promise.all(keys.map((key) => this.#leaderGet(key)))
      : await this.#last(this.#names.nodes, keys);
    const beats = new Map<string, number>();
    for (const one of found)
      if (one !== undefined && one.data.length > 0) beats.set(one.subject, beatOf(one.data));
    return keys.map((key) => beats.get(this.#names.key(this.#names.nodes, key)));
  }

  watch(changed: (shard?: number) => void): () => void {
    // A function of its own, so that the same callback may watch twice and stop once.
    const own = (shard?: number): void => changed(shard);
    this.#watchers.add(own);
    this.#start().catch((error: unknown) => this.#connection.onTrouble("watch of the members", error));
    return () => this.#watchers.delete(own);
  }

  close(): void {
    this.#closed = true;
    this.#watchers.clear();
    this.#unsubscribe?.();
    this.#watch?.stop();
  }

  // ---- The mirror -------------------------------------------------------------------------------------------------

  /** Begins to follow the list. Resolves when the mirror holds what was there. */
  #start(): Promise<void> {
    if (this.#watching === undefined) {
      this.#watching = this.#open();
      this.#watching.catch(() => {
        this.#watching = undefined;
      });
    }
    return this.#watching;
  }

  async #open(): Promise<void> {
    const bucket: KV = await new Kvm(this.#connection.nc).open(this.#names.nodes.slice(3), {
      bindOnly: true,
    });
    this.#unsubscribe ??= this.#connection.subscribe(this.#names.changed, ({ data }) =>
      this.#changed(shardNamedIn(data)),
    );
    const watch = await bucket.watch({ key: "member.*" });
    this.#watch = watch;
    const listed = new Set<string>();
    const pending = (
      watch as unknown as { _data: { info(cached?: boolean): Promise<{ num_pending: number }> } }
    )._data;
    const { num_pending: count } = await pending.info(true);
    let first: () => void = () => undefined;
    const complete = new Promise<void>((resolve) => {
      first = resolve;
    });
    let seen = 0;
    if (count === 0) first();
    const follow = async (): Promise<void> => {
      for await (const entry of watch) {
        this.#apply(entry);
        if (seen < count) {
          listed.add(entry.key.slice("member.".length));
          if (++seen === count) {
            // What the mirror held from an earlier watch and is not there any more.
            for (const name of [...this.#members.keys()]) if (!listed.has(name)) this.#gone(name);
            first();
          }
        } else this.#changed();
      }
    };
    void follow()
      .catch((error: unknown) => this.#connection.onTrouble("watch of the members", error))
      .then(() => {
        first();
        if (this.#closed) return;
        // The watch has ended, for whatever reason: another takes its place.
        this.#watching = undefined;
        const again = setTimeout(() => {
          if (!this.#closed)
            this.#start().then(
              () => this.#changed(),
              () => undefined,
            );
        }, WATCH_AGAIN_MS);
        again.unref();
      });
    await complete;
  }

  #apply({ key, operation, value, revision }: KvWatchEntry): void {
    const incarnation = key.slice("member.".length);
    if (operation !== "PUT" || value.length === 0) {
      this.#gone(incarnation);
      return;
    }
    const known = this.#members.get(incarnation);
    if (known !== undefined && known.revision >= revision) return;
    this.#members.set(incarnation, { member: fromJson(value) as Member, revision });
  }

  #gone(incarnation: string): void {
    this.#members.delete(incarnation);
    const own = this.#own.get(incarnation);
    if (own !== undefined) own.beat = Number.POSITIVE_INFINITY;
  }

  #changed(shard?: number): void {
    for (const changed of this.#watchers) changed(shard);
  }

  // ---- Reading and writing ----------------------------------------------------------------------------------------

  /**
   * Writes a heartbeat if it is newer than what is there: compare-and-set, so that it and a finding of death cannot both
   * come first.
   */
  async #setBeat(incarnation: string, beat: number, first: boolean): Promise<"set" | "old" | "gone"> {
    const key = `beat.${incarnation}`;
    const own = this.#own.get(incarnation);
    if (own?.beat === Number.POSITIVE_INFINITY) return "gone";
    let expected = own?.seq ?? 0;
    if (own === undefined && !first) {
      const found = await this.#leaderGet(key);
      if (found === undefined || found.data.length === 0) return "gone";
      if (beatOf(found.data) >= beat) return "old";
      expected = found.seq;
    } else if (own !== undefined && own.beat > beat) return "old";
    while (true) {
      const seq = await this.#put(this.#names.nodes, key, json(beat), expected);
      if (seq !== undefined) {
        Object.assign(this.#ownOf(incarnation), { beat, seq });
        return "set";
      }
      const found = await this.#leaderGet(key);
      if (found === undefined || found.data.length === 0) {
        this.#gone(incarnation);
        return "gone";
      }
      const newest = beatOf(found.data);
      if (newest > beat) return "old";
      Object.assign(this.#ownOf(incarnation), { beat: newest, seq: found.seq });
      // This very one: an earlier try had its effect without an answer.
      if (newest === beat) return "set";
      expected = found.seq;
    }
  }

  #ownOf(incarnation: string): Own {
    let own = this.#own.get(incarnation);
    if (own === undefined) this.#own.set(incarnation, (own = { beat: 0, seq: 0, revision: 0 }));
    return own;
  }

  #leaderGet(key: string): Promise<StoredMessage | undefined> {
    const subject = this.#names.key(this.#names.nodes, key);
    return leaderGet(this.#connection, this.#names.nodes, { last_by_subj: subject });
  }

  /** Replaces an entry by a marker. False if it is not at the sequence that is expected. */
  async #purge(key: string, expected: number | undefined): Promise<boolean> {
    const task = `take ${key} off the list`;
    const set = expected === undefined ? headers() : expecting(expected);
    set.set("KV-Operation", "PURGE");
    set.set("Nats-Rollup", "sub");
    set.set("Nats-TTL", GONE_TTL);
    const subject = this.#names.key(this.#names.nodes, key);
    const answer = ackOf(await this.#connection.request(subject, undefined, { headers: set }), task);
    if (!isError(answer)) return true;
    if (isConflict(answer)) return false;
    throw refusalOf(task, answer);
  }

  /** Compare-and-set of one key. Undefined for a conflict. */
  async #put(stream: string, key: string, bytes: Uint8Array, expected: number): Promise<number | undefined> {
    const task = `write ${key} in ${stream}`;
    const subject = this.#names.key(stream, key);
    const answer = ackOf(
      await this.#connection.request(subject, bytes, { headers: expecting(expected) }),
      task,
    );
    if (!isError(answer)) return answer.seq;
    if (isConflict(answer)) return undefined;
    throw refusalOf(task, answer);
  }

  /** The last values of several keys, from any replica. */
  async #last(
    stream: string,
    keys: readonly string[],
  ): Promise<{ subject: string; data: Uint8Array; seq: number }[]> {
    const found: { subject: string; data: Uint8Array; seq: number }[] = [];
    for (let at = 0; at < keys.length; at += READ_KEYS) {
      const wanted = keys.slice(at, at + READ_KEYS).map((key) => this.#names.key(stream, key));
      const { messages } = await directGet(this.#connection, stream, { multi_last: wanted });
      found.push(...messages);
    }
    return found;
  }
}

function shardOf(bytes: Uint8Array): ShardEntry {
  const { owner, epoch, segments } = fromJson(bytes) as {
    owner: string | null;
    epoch: number;
    segments: [journal: number, lane: string, from: number, to: number | null][];
  };
  return {
    owner: owner ?? undefined,
    epoch,
    segments: segments.map(([journal, lane, from, to]) => ({ journal, lane, from, to: to ?? undefined })),
  };
}

function beatOf(bytes: Uint8Array): number {
  return fromJson(bytes) as number;
}

function shardNamedIn(bytes: Uint8Array): number | undefined {
  try {
    const { shard } = fromJson(bytes) as { shard?: unknown };
    return typeof shard === "number" ? shard : undefined;
  } catch {
    return undefined;
  }
}
