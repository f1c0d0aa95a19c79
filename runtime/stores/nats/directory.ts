/**
 * The shard table and the list of members on two KV buckets.
 *
 *   <app>_shards   app                    what the app was created with
 *                  <n>                    a shard's entry
 *   <app>_nodes    member.<incarnation>   who is there
 *                  beat.<incarnation>     its newest heartbeat
 *
 * Owns the form of these entries, and what it knows of the incarnations that this process has listed. Talks to the
 * connection and to the copy of the list of members.
 *
 * Invariants:
 * 1. What decides is read from the stream's leader; the copy and reads of many may be behind.
 * 2. A member is listed by a write that expects no entry, and changed by one that expects its own last: an incarnation
 *    that was taken off the list cannot list itself again.
 * 3. Beats are beside the list, so that they are read by those few who follow them and by nobody else.
 */
import { headers, type MsgHdrs } from "@nats-io/transport-node";
import type { AppSettings, Directory, Member, ShardEntry, StoredShard, Versions } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { NO_JOURNAL } from "../../words/position.ts";
import {
  expecting,
  fromJson,
  isConflict,
  isError,
  json,
  lastMessages,
  leaderGet,
  publishTo,
  refusalOf,
  type StoredMessage,
} from "./api.ts";
import type { Connection } from "./connection.ts";
import { Members } from "./members.ts";
import { type Layout, layoutIn, layoutOut, sameLayout, UNSPREAD } from "./layout.ts";
import type { Names } from "./names.ts";

const READ_KEYS = 512;
/** How long what is left of a member stays for the watchers to see. */
const GONE_TTL = "86400s";
const SETTINGS_TRIES = 5;

/** A shard's entry as it is stored. */
interface StoredJson {
  readonly owner: string | null;
  readonly epoch: number;
  readonly segments: readonly [noJournal: number, lane: string, from: number, to: number | null][];
  readonly snapshots: number;
  /** Missing where all are 1. */
  readonly versions?: Versions;
}

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
  readonly #members: Members;
  /** Incarnations that this process has listed: its newest beat and the sequences of what it wrote. */
  readonly #own = new Map<string, Own>();
  #stops: readonly (() => void)[] | undefined;
  /** Hears what the app is, once it is known. */
  onSettings: (settings: AppSettings) => void = () => undefined;
  /**
   * The newest sequence of the snapshots that this process knows of. It is written into the shard table, which says
   * what need not be replayed because it is in snapshots; who reads that has to see snapshots at least as new.
   */
  snapshotsKnown: (shard: number) => number = () => 0;
  onSnapshotsKnown: (shard: number, seq: number) => void = () => undefined;
  /** How the app is spread if this process creates it, and as it was found. */
  layout: Layout;

  constructor(connection: Connection, names: Names, layout: Layout = UNSPREAD) {
    this.#connection = connection;
    this.#names = names;
    this.layout = layout;
    this.#members = new Members(
      connection,
      names,
      () => this.#changed(),
      (incarnation) => this.#gone(incarnation),
    );
  }

  async app(wanted: AppSettings): Promise<AppSettings> {
    return (await this.create(wanted)).settings;
  }

  /** `app`, and whether this very call created it. */
  async create(wanted: AppSettings): Promise<{ settings: AppSettings; made: boolean }> {
    for (let made = false, tries = 0; tries < SETTINGS_TRIES; tries++) {
      const { layout } = this;
      const settings = await this.settings();
      if (settings !== undefined) {
        // The streams that this process uses are those of the layout that it had found, or meant to write.
        sameLayout(this.#names.app, this.layout, layout);
        return { settings, made };
      }
      const bytes = json({ ...wanted, ...layoutOut(layout) });
      made = (await this.#put(this.#names.shards, "app", bytes, 0)) !== undefined;
    }
    throw new KeyturnError("store_failed", "The app's settings cannot be written and cannot be read.");
  }

  /** What the app was created with, if it was. */
  async settings(): Promise<AppSettings | undefined> {
    const subject = this.#names.key(this.#names.shards, "app");
    const found = await leaderGet(this.#connection, this.#names.shards, { last_by_subj: subject });
    if (found === undefined) return undefined;
    const settings = settingsOf(found.data);
    this.layout = layoutIn(fromJson(found.data));
    this.onSettings(settings);
    return settings;
  }

  async readShard(shard: number): Promise<StoredShard | undefined> {
    const subject = this.#names.key(this.#names.shards, String(shard));
    const found = await leaderGet(this.#connection, this.#names.shards, { last_by_subj: subject });
    if (found === undefined) return undefined;
    const stored = this.#stored(shard, found);
    if (stored !== undefined) return stored;
    throw new KeyturnError(
      "corrupt_record",
      `The entry of shard ${shard} in ${this.#names.shards} makes no sense: it is damaged, or something else has written it. Restore it from a copy.`,
    );
  }

  async readShards(shards: readonly number[]): Promise<ReadonlyMap<number, StoredShard>> {
    const prefix = this.#names.key(this.#names.shards, "");
    const entries = new Map<number, StoredShard>();
    for (const one of await this.#last(this.#names.shards, shards.map(String))) {
      const shard = Number(one.subject.slice(prefix.length));
      const stored = this.#stored(shard, one);
      // One that makes no sense is left out: who needs it reads it by itself, and learns what is wrong.
      if (stored !== undefined) entries.set(shard, stored);
    }
    return entries;
  }

  #stored(shard: number, { data, seq }: StoredMessage): StoredShard | undefined {
    try {
      const { owner, epoch, segments, snapshots, versions } = fromJson(data) as StoredJson;
      const entry: ShardEntry = {
        owner: owner ?? undefined,
        epoch,
        segments: segments.map(([, lane, from, to]) => ({ lane, from, to: to ?? undefined })),
        ...(versions === undefined ? {} : { versions }),
      };
      if (!isIndex(epoch) || !Object.values(versions ?? {}).every(isIndex)) return undefined;
      this.onSnapshotsKnown(shard, snapshots);
      return { entry, revision: seq };
    } catch {
      return undefined;
    }
  }

  async writeShard(shard: number, entry: ShardEntry, expected: number): Promise<number | undefined> {
    const { owner, epoch, segments, versions } = entry;
    const bytes = json({
      owner: owner ?? null,
      epoch,
      segments: segments.map(({ lane, from, to }) => [NO_JOURNAL, lane, from, to ?? null]),
      snapshots: this.snapshotsKnown(shard),
      ...(versions === undefined ? {} : { versions }),
    });
    const revision = await this.#put(this.#names.shards, String(shard), bytes, expected);
    if (revision !== undefined && owner === undefined) {
      this.#tell({ shard });
    }
    return revision;
  }

  async join(member: Member): Promise<boolean> {
    this.#listen();
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
    this.#members.put(member, revision);
    this.#tell({ member: revision });
    return true;
  }

  async beat(incarnation: string, beat: number): Promise<boolean> {
    return (await this.#setBeat(incarnation, beat, false)) !== "gone";
  }

  async leave(incarnation: string, beat?: number): Promise<boolean> {
    const key = `beat.${incarnation}`;
    while (true) {
      const found = await this.#leaderGet(key);
      const newest = found === undefined || found.data.length === 0 ? undefined : beatOf(found.data);
      if (beat !== undefined && newest !== undefined && newest !== beat) return false;
      // A heartbeat in between changes the sequence: then it was there first. Also one that is gone already is written
      // anew, since only a write proves that the answer was not an old one, of a leader that has been replaced.
      if ((await this.#purge(key, found?.seq ?? 0)) !== undefined) break;
    }
    await this.#unlist(incarnation);
    return true;
  }

  members(): Promise<readonly Member[]> {
    this.#listen();
    return this.#members.list();
  }

  async beats(incarnations: readonly string[], fresh: boolean): Promise<readonly (number | undefined)[]> {
    const keys = incarnations.map((incarnation) => `beat.${incarnation}`);
    const found = fresh
      ? await Promise.all(keys.map((key) => this.#leaderGet(key)))
      : await this.#last(this.#names.nodes, keys);
    const beats = new Map<string, number>();
    for (const one of found)
      if (one !== undefined && one.data.length > 0) beats.set(one.subject, beatOf(one.data));
    return incarnations.map((incarnation, index) => {
      const beat = beats.get(this.#names.key(this.#names.nodes, keys[index] as string));
      // Somebody began to take it off the list and did not get to the end.
      if (beat === undefined && fresh && this.#members.has(incarnation))
        this.#finish(incarnation).catch((error: unknown) => this.#connection.onTrouble("leave", error));
      return beat;
    });
  }

  watch(changed: (shard?: number) => void): () => void {
    // A function of its own, so that the same callback may watch twice and stop once.
    const own = (shard?: number): void => changed(shard);
    this.#watchers.add(own);
    this.#listen();
    return () => this.#watchers.delete(own);
  }

  close(): void {
    this.#watchers.clear();
    for (const stop of this.#stops ?? []) stop();
    this.#stops = [];
  }

  // ---- Changes ----------------------------------------------------------------------------------------------------

  /** Begins to follow what changes. */
  #listen(): void {
    this.#stops ??= [
      this.#connection.subscribe(this.#names.changed, ({ data }) => this.#told(changeIn(data))),
      // What was told meanwhile is lost.
      this.#connection.onReconnect(() => {
        this.#members.missed();
        this.#changed();
      }),
    ];
  }

  #told({ shard, member }: Change): void {
    if (member !== undefined)
      this.#members
        .told(member)
        .catch((error: unknown) => this.#connection.onTrouble("list of members", error));
    else this.#changed(shard);
  }

  /** Others hear of it, if they are there. */
  #tell(change: Change): void {
    this.#connection.publish(this.#names.changed, json(change));
  }

  #gone(incarnation: string): void {
    const own = this.#own.get(incarnation);
    if (own !== undefined) own.beat = Number.POSITIVE_INFINITY;
  }

  #changed(shard?: number): void {
    for (const changed of this.#watchers) changed(shard);
  }

  /** Takes off the list whoever has no beat any more; whoever has one after all is left alone. */
  async #finish(incarnation: string): Promise<void> {
    const key = `beat.${incarnation}`;
    const found = await this.#leaderGet(key);
    if (found !== undefined && found.data.length > 0) return;
    if ((await this.#purge(key, found?.seq ?? 0)) !== undefined) await this.#unlist(incarnation);
  }

  /** Behind the beat, which decides: if this one is lost, whoever finds the beat gone does it again. */
  async #unlist(incarnation: string): Promise<void> {
    const seq = await this.#purge(`member.${incarnation}`, undefined);
    this.#members.remove(incarnation);
    if (seq !== undefined) this.#tell({ member: seq });
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

  /** Replaces an entry by a marker. Undefined if it is not at the sequence that is expected. */
  #purge(key: string, expected: number | undefined): Promise<number | undefined> {
    const set = expected === undefined ? headers() : expecting(expected);
    set.set("KV-Operation", "PURGE");
    set.set("Nats-Rollup", "sub");
    set.set("Nats-TTL", GONE_TTL);
    return this.#publish(this.#names.nodes, key, undefined, set);
  }

  /** Compare-and-set of one key. Undefined for a conflict. */
  #put(stream: string, key: string, bytes: Uint8Array, expected: number): Promise<number | undefined> {
    return this.#publish(stream, key, bytes, expecting(expected));
  }

  async #publish(
    stream: string,
    key: string,
    bytes: Uint8Array | undefined,
    set: MsgHdrs,
  ): Promise<number | undefined> {
    const task = `write ${key} in ${stream}`;
    const answer = await publishTo(this.#connection, stream, this.#names.key(stream, key), bytes, set, task);
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
      const { messages } = await lastMessages(this.#connection, stream, wanted);
      found.push(...messages);
    }
    return found;
  }
}

function beatOf(bytes: Uint8Array): number {
  return fromJson(bytes) as number;
}

/** What is told to others: a shard that was given up, or the sequence of a change in the list of members. */
interface Change {
  readonly shard?: number;
  readonly member?: number;
}

/** What makes no sense is a hint that something has changed. */
function changeIn(bytes: Uint8Array): Change {
  try {
    const { shard, member } = fromJson(bytes) as Record<keyof Change, unknown>;
    if (isIndex(member)) return { member };
    return isIndex(shard) ? { shard } : {};
  } catch {
    return {};
  }
}

function isIndex(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** @throws KeyturnError `app_mismatch` */
export function settingsOf(bytes: Uint8Array): AppSettings {
  const { shards, format } = (fromJson(bytes) ?? {}) as Partial<AppSettings>;
  if (isIndex(shards) && shards >= 1 && shards <= limits.shards && isIndex(format)) return { shards, format };
  throw new KeyturnError(
    "app_mismatch",
    "What the app was created with makes no sense to this runtime: something else uses its name on this server. Use another app name.",
  );
}
