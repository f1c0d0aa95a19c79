/**
 * An actor in memory, and the turns it takes.
 *
 * Owns both states that an active actor has at once: the one its last turn made (`latest`), on which the next turn is
 * stepped, and the last one that is in the journal (`committed`), which snapshots are written from and a refused
 * append falls back to. The engine changes them; everybody else reads.
 *
 * Invariants:
 * 1. `committed.turn <= latest.turn`; they are the same object when nothing of the actor is in flight.
 * 2. Everything a turn holds is immutable but its batch's sequence.
 */
import type { HostedType } from "./definition.ts";
import type { KeyturnError } from "../words/errors.ts";
import type { AskLink } from "../words/frames.ts";
import type { MachineSnapshot, Timer } from "./machine.ts";
import { persist } from "./machine.ts";
import { adopt } from "./migration.ts";
import { InPreviousBatch, InThisBatch, type Link, NoLink } from "./record.ts";
import type { InChannel, Session, ShardState, Stepped } from "./shard.ts";
import type { ActorData, Patch, RequestMark } from "./state.ts";
import type { TurnSpan } from "./telemetry.ts";

/** A batch as those see it who only need to know where it came to lie. */
export class BatchRef {
  /** Journal sequence; 0 until the batch is committed. */
  seq = 0;
}

/** A record's place: its batch and its index there. */
export interface Place {
  readonly batch: BatchRef;
  readonly index: number;
}

const nowhere = new BatchRef();
export const NoPlace: Place = { batch: nowhere, index: 0 };

export function placeAt([seq, index]: Link): Place {
  if (seq === 0) return NoPlace;
  const batch = new BatchRef();
  batch.seq = seq;
  return { batch, index };
}

/** How a record in batch `own` links to a place: absolute, or relative while the place's sequence is not known. */
export function linkTo(place: Place, own: BatchRef): Link {
  if (place.batch.seq > 0) return [place.batch.seq, place.index];
  if (place === NoPlace || place.batch === nowhere) return NoLink;
  return [place.batch === own ? InThisBatch : InPreviousBatch, place.index];
}

/** A place in the journal. Only of what is committed. */
export function linkOf(place: Place): Link {
  return place.batch.seq > 0 ? [place.batch.seq, place.index] : NoLink;
}

export interface RequestPlace {
  readonly requestId: string;
  readonly place: Place;
}

/** One turn: the state it made, and where its record lies. Turn 0 is "no state yet". */
export class Turn implements Stepped, Place {
  readonly id: string;
  readonly turn: number;
  /** Undefined before the first turn and after a deletion. */
  readonly snapshot: MachineSnapshot | undefined;
  readonly timers: readonly Timer[];
  readonly requests: readonly RequestPlace[];
  readonly version: number;
  readonly batch: BatchRef;
  readonly index: number;
  /** Place of its last keyframe, which may be itself; never the turn, which would keep its state alive. */
  readonly keyframe: Place;
  /** Upper estimate of the encoded state. */
  readonly bytes: number;
  /** What is stored, where an older version wrote it: written back as it is until a turn records the migrated state. */
  unmigrated: ActorData | undefined = undefined;
  /** When it was, milliseconds since the epoch; 0 where that is not kept: only types with an index need it. */
  time = 0;

  constructor(
    id: string,
    turn: number,
    snapshot: MachineSnapshot | undefined,
    timers: readonly Timer[],
    requests: readonly RequestPlace[],
    version: number,
    batch: BatchRef,
    index: number,
    keyframe: Place,
    bytes: number,
  ) {
    this.id = id;
    this.turn = turn;
    this.snapshot = snapshot;
    this.timers = timers;
    this.requests = requests;
    this.version = version;
    this.batch = batch;
    this.index = index;
    this.keyframe = keyframe;
    this.bytes = bytes;
  }

  get at(): Link | undefined {
    return this.batch.seq > 0 ? [this.batch.seq, this.index] : undefined;
  }
}

const nothing: readonly never[] = [];
/** A clock that is behind by more has been set. */
const SET_BACK_MS = 100;

/** The turn of an actor that no message has reached, or that was deleted. */
export function noTurn(id: string): Turn {
  return new Turn(id, 0, undefined, nothing, nothing, 0, nowhere, 0, NoPlace, 0);
}

/** A message on its way to a step. */
export interface Job {
  readonly kind: number;
  readonly shard: ShardState;
  readonly message: Message;
  /** The asking session, for a request. */
  readonly session: Session | undefined;
  /** The told message's origin, if it came from a shard; -1 otherwise. */
  readonly fromShard: number;
  /** Number in its channel. */
  readonly number: number;
  /** When it was taken in. Monotonic. */
  readonly since_ms: number;
  /** W3C trace context that the turn records and passes on: its own, or the one that came. */
  trace: string | undefined;
  /** Whether it is decided that it is traced or not. */
  traced: boolean;
  span: TurnSpan | undefined;
  /** Whether it was counted as having found its actor in memory or not. */
  looked: boolean;
}

/** A job that only says: something of this actor is due. */
export const TimerJob = 100;
/** A job that brings what came of a child's work, or what user code sent outside of a turn. */
export const ChildJob = 101;

export function newJob(
  kind: number,
  shard: ShardState,
  message: Message,
  session: Session | undefined,
  fromShard: number,
  number: number,
  since_ms: number,
): Job {
  // One literal, so that all of them have one shape.
  return {
    kind,
    shard,
    message,
    session,
    fromShard,
    number,
    since_ms,
    trace: message.trace,
    traced: false,
    span: undefined,
    looked: false,
  };
}

/** What a request, a told message and a due timer have in common. */
export interface Message {
  readonly id: string;
  readonly key: string;
  readonly event: unknown;
  readonly requestId?: string | undefined;
  readonly trace: string | undefined;
  /** For a told message: which question it is, or answers. */
  readonly link?: AskLink;
  /** For what a child's work gave, and for an event that user code sent outside of a turn: the child that it is for. */
  readonly session?: string | undefined;
  /** For what a child sent its parent, the durable actor's machine, outside of a turn: the child. */
  readonly sender?: string | undefined;
}

/** See above. */
export class Activation {
  readonly id: string;
  readonly key: string;
  readonly shard: ShardState;
  readonly hosted: HostedType;
  latest: Turn;
  committed: Turn;
  /** Turn that the stored snapshot stands at, 0 if there is none; -1 after a deletion that is not stored yet. */
  saved = 0;
  /** Counts deletions, so that a snapshot being written meanwhile is not taken for one of the new life. */
  life = 0;
  /** Wall-clock time behind all of the life that was deleted last. */
  bornAfter = 0;
  /** Revision of the stored snapshot or of its marker, 0 if there is neither. */
  revision = 0;
  /** A snapshot may have been given to the store since this was loaded: there may be one, whatever `revision` says. */
  written = false;
  /** Wall-clock time of its last turn or, before there is one, of its load. For types with a life policy. */
  used_ms = 0;
  /** Set on every use, cleared by the passivation sweep. */
  used = true;
  /** In the list of its shard and type; see actors.ts. */
  place = 0;
  /** Messages that wait for the actor to be loaded; undefined once it is. */
  mailbox: Job[] | undefined = undefined;
  /** While it is loaded: what the tail said of it. */
  patch: Patch | undefined = undefined;
  /** Channels whose messages wait because it had no room for them: a sink that is down. Parking's. */
  crowd: Set<InChannel> | undefined = undefined;
  /** Why it could not be loaded. Everything sent to it is refused so, until it is passivated and tried again. */
  failed: KeyturnError | undefined = undefined;
  /** What is stored of an actor that the hosted version cannot load: a replacement may take its place. */
  stored: ActorData | undefined = undefined;

  constructor(id: string, key: string, shard: ShardState, hosted: HostedType) {
    this.id = id;
    this.key = key;
    this.shard = shard;
    this.hosted = hosted;
    this.latest = noTurn(id);
    this.committed = this.latest;
  }

  /** What sessions of a turn are named by: not a time of a former life, unless the clock was set back. */
  timeOf(now: number): number {
    return this.bornAfter - now > SET_BACK_MS ? now : Math.max(now, this.bornAfter);
  }

  /** Whether what was made at that time is of a former life. */
  isFormer(made_ms: number, now: number): boolean {
    return made_ms < this.bornAfter && this.timeOf(now) >= this.bornAfter;
  }

  /** One that could not be loaded has a state in its place that can. */
  mend(): void {
    this.failed = undefined;
    this.stored = undefined;
    this.shard.patches.delete(this.id);
    // A checkpoint may be writing what the tail said of it at this moment.
    this.written = true;
  }

  get loading(): boolean {
    return this.mailbox !== undefined;
  }

  /** True if the stored snapshot is behind what is committed. */
  get dirty(): boolean {
    return this.committed.turn !== this.saved;
  }

  /** True while turns of it wait for their commit. */
  get inFlight(): boolean {
    return this.latest !== this.committed;
  }

  /** Takes the state that storage holds, migrated. Throws `newer_version`, `migration_failed`, `incompatible_snapshot`. */
  fill(data: ActorData, bytes: number, now: number): void {
    const { snapshot, timers } = adopt(this.hosted, data, now);
    const turn = new Turn(
      this.id,
      data.turn,
      snapshot,
      timers,
      data.requests.map(({ requestId, at }) => ({ requestId, place: placeAt(at) })),
      data.version,
      placeAt(data.last).batch,
      data.last[1],
      placeAt(data.keyframe),
      bytes,
    );
    if (data.version < this.hosted.definition.version) turn.unmigrated = data;
    turn.time = data.time ?? 0;
    this.latest = turn;
    this.committed = turn;
  }
}

/** A committed turn as data for the store. Undefined after a deletion. */
export function dataOf(turn: Turn): ActorData | undefined {
  if (turn.snapshot === undefined) return undefined;
  if (turn.unmigrated !== undefined) return turn.unmigrated;
  return {
    machine: persist(turn.snapshot),
    timers: turn.timers,
    requests: turn.requests.map(({ requestId, place }): RequestMark => ({ requestId, at: linkOf(place) })),
    turn: turn.turn,
    version: turn.version,
    last: linkOf(turn),
    keyframe: linkOf(turn.keyframe),
    ...(turn.time === 0 ? {} : { time: turn.time }),
  };
}
