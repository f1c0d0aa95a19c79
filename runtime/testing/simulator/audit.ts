/**
 * The audit: what must hold for every journal, whatever machines ran.
 *
 * Owns the walk over all lanes. Reads the disk directly, with the formats of the engine; no machine is involved.
 *
 * What is checked:
 * 1. Lanes: every batch continues the one before it; nothing but a seal comes after a seal.
 * 2. Ownership: a record of a shard lies in the lane of the shard's owner at that moment, per the shard table.
 * 3. Turns: an actor's turns count up by one, over all lanes, and each links to the one before.
 * 4. Channels: messages between shards are numbered without gap, and each is taken once, in order, as it was sent.
 * 5. Requests: no number of a session is applied twice; no request id of an actor's life is.
 * 6. Timers: each that fires was set, was due by its owner's clock, and fires once.
 * 7. Dead letters: exactly those that the journal tells of.
 */
import {
  type Batch,
  decodeBatch,
  decodeRecord,
  DeleteTurn,
  DeltaTurn,
  FromSession,
  FromShard,
  FromTimer,
  KeyframeTurn,
  type Link,
  NoLink,
  type OutMessage,
  Refusal,
  resolveLink,
  type TurnRecord,
} from "../../engine/record.ts";
import { type ActorData, Patch } from "../../engine/state.ts";
import type { Timer } from "../../engine/machine.ts";
import { versionIn } from "../../cluster/versions.ts";
import type { ShardEntry } from "../../ports/index.ts";
import { textOf } from "../../words/errors.ts";
import { atOtherEnd, shardOfChannel } from "../../words/lanes.ts";
import { limits } from "../../words/limits.ts";
import type { Claim, Disk } from "./disk.ts";

/** Violations found per kind of check; more of the same say nothing new. */
const REPORTS_MAX = 20;

export interface Audit {
  readonly violations: readonly string[];
  /** Every actor that the journal knows; undefined for those that were deleted. */
  readonly actors: ReadonlyMap<string, ActorData | undefined>;
  readonly records: number;
  readonly batches: number;
  /** Messages that were told and not taken yet. */
  readonly undelivered: number;
  /** Earliest due time of all timers that are set. */
  readonly latestDue: number;
}

interface ActorTrail {
  turn: number;
  patch: Patch;
  last: Link;
  timers: readonly Timer[];
  readonly requestIds: Set<string>;
}

interface LaneTrail {
  last: Batch;
  sealed: boolean;
}

/** Reads the whole journal of a disk as recovery would, and lists what is not as it has to be. */
export async function audit(disk: Disk): Promise<Audit> {
  const walk = new Walk(disk.claims);
  for (let seq = 1; seq <= disk.lastSeq; seq++) {
    const bytes = await disk.memory.journal.get(seq);
    if (bytes === undefined) walk.report(`journal entry ${seq} is gone`);
    else walk.batch(decodeBatch(bytes, seq));
  }
  walk.deadLetters(
    (await disk.memory.deadLetters.list(Number.MAX_SAFE_INTEGER)).map(
      ({ position, index }) => `${position}.${index}`,
    ),
  );
  return walk.result();
}

class Walk {
  readonly #violations: string[] = [];
  readonly #claims = new Map<number, Claim[]>();
  readonly #lanes = new Map<string, LaneTrail>();
  readonly #actors = new Map<string, ActorTrail>();
  readonly #outs = new Map<string, OutMessage[]>();
  readonly #taken = new Map<string, number>();
  readonly #requests = new Set<string>();
  readonly #refused = new Set<string>();
  #records = 0;
  #batches = 0;

  constructor(claims: readonly Claim[]) {
    for (const claim of claims) {
      const list = this.#claims.get(claim.shard);
      if (list === undefined) this.#claims.set(claim.shard, [claim]);
      else list.push(claim);
    }
  }

  report(text: string): void {
    if (this.#violations.length < REPORTS_MAX) this.#violations.push(`audit: ${text}`);
  }

  batch(batch: Batch): void {
    this.#batches++;
    const { header, seq } = batch;
    const lane = header.incarnation;
    const before = this.#lanes.get(lane);
    const sealed = header.sealedBy !== undefined;
    if (before === undefined) {
      if (header.previousSeq !== 0 || header.number !== 1)
        this.report(`entry ${seq} begins lane ${lane} with number ${header.number}`);
    } else {
      if (before.sealed) this.report(`entry ${seq} comes after the seal of lane ${lane}`);
      const { last } = before;
      if (
        header.previousSeq !== last.seq ||
        header.previousCrc !== last.crc ||
        header.number !== last.header.number + 1
      )
        this.report(`entry ${seq} does not continue entry ${last.seq} of lane ${lane}`);
    }
    this.#lanes.set(lane, { last: batch, sealed });
    for (let index = 0; index < batch.count; index++) {
      this.#record(batch, index, batch.shardAt(index), decodeRecord(batch.recordAt(index)));
    }
  }

  #record(batch: Batch, index: number, shard: number, record: TurnRecord): void {
    this.#records++;
    const at: Link = [batch.seq, index];
    const where = `record ${batch.seq}.${index} of ${record.id}`;
    const entry = this.#entryAt(shard, batch.seq);
    const owner = entry?.owner;
    if (owner !== batch.header.incarnation)
      this.report(`${where} lies in lane ${batch.header.incarnation}, shard ${shard} belonged to ${owner}`);
    this.#version(record, entry, where);
    if (record.refusal !== undefined) this.#refused.add(`${batch.seq}.${index}`);
    this.#source(shard, record, where);
    for (const message of record.out) this.#out(wayOf(shard, message.toShard), message, where);
    const trail = this.#trailOf(record.id);
    if (record.kind === Refusal) {
      if (record.turn !== trail.turn)
        this.report(`${where} refuses at turn ${record.turn}, not ${trail.turn}`);
      return;
    }
    if (record.source === FromTimer) this.#fired(trail, record, batch.header.time + record.delay, where);
    if (record.turn !== trail.turn + 1)
      this.report(`${where} is turn ${record.turn} after turn ${trail.turn}`);
    const { requestId } = record;
    if (requestId !== undefined) {
      if (trail.requestIds.has(requestId)) this.report(`${where} applies request ${requestId} again`);
      trail.requestIds.add(requestId);
    }
    this.#follow(trail, record, at, batch, where);
  }

  #follow(trail: ActorTrail, record: TurnRecord, at: Link, batch: Batch, where: string): void {
    if (record.kind === DeleteTurn) {
      trail.turn = 0;
      trail.last = NoLink;
      trail.timers = [];
      trail.requestIds.clear();
    } else {
      const previous = resolveLink(record.previous, batch);
      if (previous[0] !== trail.last[0] || previous[1] !== trail.last[1])
        this.report(
          `${where} links to ${previous.join(".")}, its previous turn is at ${trail.last.join(".")}`,
        );
      trail.turn = record.turn;
      trail.last = at;
      const timers = record.change?.timers ?? null;
      if (timers !== null) trail.timers = timers;
      else if (record.kind === KeyframeTurn) trail.timers = [];
    }
    try {
      trail.patch.add(record, at, limits.requestsPerActor);
    } catch (error) {
      this.report(`${where}: ${textOf(error)}`);
      trail.patch = new Patch(record.turn);
    }
  }

  #source(shard: number, record: TurnRecord, where: string): void {
    if (record.source === FromSession) {
      const request = `${shard}/${record.sourceName}/${record.sourceNumber}`;
      if (this.#requests.has(request)) this.report(`${where} applies ${request} again`);
      this.#requests.add(request);
    } else if (record.source === FromShard) {
      const way = wayOf(
        shardOfChannel(record.sourceName as number),
        atOtherEnd(record.sourceName as number, shard),
      );
      const number = (this.#taken.get(way) ?? 0) + 1;
      if (record.sourceNumber !== number)
        this.report(`${where} takes ${way}:${record.sourceNumber}, next was ${number}`);
      this.#taken.set(way, record.sourceNumber);
      const sent = this.#outs.get(way)?.[record.sourceNumber - 1];
      const same = sent?.id === record.id && JSON.stringify(sent.event) === JSON.stringify(record.event);
      if (!same) this.report(`${where} is not what was sent as ${way}:${record.sourceNumber}`);
    }
  }

  #out(way: string, message: OutMessage, where: string): void {
    let list = this.#outs.get(way);
    if (list === undefined) this.#outs.set(way, (list = []));
    if (message.number !== list.length + 1)
      this.report(`${where} tells ${way}:${message.number}, next was ${list.length + 1}`);
    list[message.number - 1] = message;
  }

  #fired(trail: ActorTrail, record: TurnRecord, now: number, where: string): void {
    const timer = trail.timers.find(
      (t) => t.id === record.sourceName && t.generation === record.sourceNumber,
    );
    const name = `timer ${record.sourceName} of turn ${record.sourceNumber}`;
    if (timer === undefined) this.report(`${where} fires ${name}, which is not set`);
    else if (timer.due > now) this.report(`${where} fires ${name} ${timer.due - now} ms early`);
  }

  #trailOf(id: string): ActorTrail {
    let trail = this.#actors.get(id);
    if (trail === undefined) {
      trail = { turn: 0, patch: new Patch(0), last: NoLink, timers: [], requestIds: new Set() };
      this.#actors.set(id, trail);
    }
    return trail;
  }

  #stateOf(id: string, { patch }: ActorTrail): ActorData | undefined {
    try {
      return patch.applyTo(id, undefined, limits.requestsPerActor);
    } catch (error) {
      this.report(`${id}: ${textOf(error)}`);
      return undefined;
    }
  }

  /**
   * A turn is of the version that the shard's entry names: the entry says at least what its owner has, so a turn of
   * another version is one that the entry does not say, or of an owner that was too old.
   */
  #version({ id, kind, version, refusal }: TurnRecord, entry: ShardEntry | undefined, where: string): void {
    if (refusal !== undefined || (kind !== DeltaTurn && kind !== KeyframeTurn)) return;
    const needed = versionIn(entry?.versions, id.slice(0, id.indexOf(".")));
    if (version !== needed)
      this.report(`${where} is of version ${version}, its shard's entry says ${needed}`);
  }

  /** A shard's entry when the journal's entry at `seq` was appended. */
  #entryAt(shard: number, seq: number): ShardEntry | undefined {
    const claims = this.#claims.get(shard) ?? [];
    let entry: ShardEntry | undefined;
    for (const claim of claims) {
      if (claim.seq >= seq) break;
      entry = claim.entry;
    }
    return entry;
  }

  deadLetters(found: readonly string[]): void {
    for (const name of this.#refused)
      if (!found.includes(name)) this.report(`no dead letter for record ${name}`);
    for (const name of found)
      if (!this.#refused.has(name)) this.report(`a dead letter for record ${name}, which was not refused`);
  }

  result(): Audit {
    const actors = new Map<string, ActorData | undefined>();
    let latestDue = 0;
    for (const [id, trail] of this.#actors) {
      if (trail.turn === 0) actors.set(id, undefined);
      else actors.set(id, this.#stateOf(id, trail));
      for (const timer of trail.timers) latestDue = Math.max(latestDue, timer.due);
    }
    let undelivered = 0;
    for (const [way, list] of this.#outs) undelivered += list.length - (this.#taken.get(way) ?? 0);
    return {
      violations: this.#violations,
      actors,
      records: this.#records,
      batches: this.#batches,
      undelivered,
      latestDue,
    };
  }
}

/** A channel, as its sender names it. */
function wayOf(from: number, channel: number): string {
  return `${from}>${channel}`;
}
