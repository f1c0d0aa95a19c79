/**
 * An actor's state as data: how records change it, and its stored form.
 *
 * Owns the snapshot format and `Patch`, the sum of several records without the state that they start from. Talks to
 * records and the codec. Recovery and history run on this file alone; no machine is involved.
 *
 * Invariants:
 * 1. Adding records to a patch and applying the patch to a state equals applying the records one by one.
 * 2. A patch knows the turns it spans. It is applied to a state from within its span (what the state has already, the
 *    patch only repeats), or to none at all if it holds a keyframe or a deletion. Everything else is a gap, and refused.
 */
import { envelope, openEnvelope, decode, encode } from "../words/codec.ts";
import { KeyturnError } from "../words/errors.ts";
import { isWorkTimer, type MachineState, type Timer } from "./machine.ts";
import { addChange, type FamilyChange, inOrder, type PackedChild } from "./machine/family.ts";
import {
  type Batch,
  type Change,
  decodeRecord,
  DeleteTurn,
  KeyframeTurn,
  type Link,
  NoLink,
  type PackedTimer,
  packTimers,
  type TurnRecord,
  unpackTimer,
} from "./record.ts";

/** A request id that a caller gave, and where its turn's record lies. */
export interface RequestMark {
  readonly requestId: string;
  readonly at: Link;
}

/** All there is to an actor, as of one turn. */
export interface ActorData {
  readonly machine: MachineState;
  readonly timers: readonly Timer[];
  readonly requests: readonly RequestMark[];
  readonly turn: number;
  readonly version: number;
  /** Its last record and its last keyframe. */
  readonly last: Link;
  readonly keyframe: Link;
  /** When its last turn was, milliseconds since the epoch, about; not kept of types without an index. */
  readonly time?: number | undefined;
}

const SNAPSHOT_MAGIC = 0x53;
const SNAPSHOT_VERSION = 1;

export function encodeSnapshot(id: string, data: ActorData): Uint8Array {
  const body = [
    id,
    data.version,
    data.turn,
    data.last,
    data.keyframe,
    packedMachine(data.machine),
    data.timers.length === 0 ? null : packTimers(data.timers),
    data.requests.length === 0 ? null : data.requests.map((r) => [r.requestId, r.at]),
  ];
  if (data.time !== undefined) body.push(data.time);
  return envelope(encode(body), SNAPSHOT_MAGIC, SNAPSHOT_VERSION);
}

/** Children and an error are rare; without them the format is as it was before there were any. */
function packedMachine(m: MachineState): unknown[] {
  const packed: unknown[] = [m.value, m.context, m.status, m.output, m.history ?? null];
  if (m.children !== undefined || m.error !== undefined) packed.push(m.children ?? null, m.error);
  return packed;
}

/** Throws `corrupt_snapshot` or `newer_format`, naming the actor. */
export function decodeSnapshot(id: string, bytes: Uint8Array): ActorData {
  const body = openEnvelope(bytes, SNAPSHOT_MAGIC, SNAPSHOT_VERSION);
  if (body === "newer") {
    throw new KeyturnError(
      "newer_format",
      `The snapshot of ${id} was written in format ${bytes[1]}, this runtime reads up to ${SNAPSHOT_VERSION}. Upgrade this node.`,
    );
  }
  if (typeof body === "string") throw damaged(id);
  const [storedId, version, turn, last, keyframe, machine, timers, requests, time] = decode(body) as [
    string,
    number,
    number,
    Link,
    Link,
    [
      unknown,
      Record<string, unknown>,
      MachineState["status"],
      unknown,
      MachineState["history"] | null,
      (readonly PackedChild[] | null)?,
      unknown?,
    ],
    PackedTimer[] | null,
    [string, Link][] | null,
    number?,
  ];
  if (storedId !== id) throw damaged(id);
  const [value, context, status, output, history, children, error] = machine;
  return {
    machine: {
      value: value as MachineState["value"],
      context,
      status,
      output,
      history: history ?? undefined,
      ...rare(children ?? undefined, error),
    },
    timers: timers === null ? [] : timers.map(unpackTimer),
    requests: requests === null ? [] : requests.map(([requestId, at]) => ({ requestId, at })),
    turn,
    version,
    last,
    keyframe,
    ...(time === undefined ? {} : { time }),
  };
}

/** What few actors have. */
function rare(children: readonly PackedChild[] | undefined, error: unknown): Partial<MachineState> {
  return children === undefined && error === undefined ? {} : { children, error };
}

function damaged(id: string): KeyturnError {
  return new KeyturnError(
    "corrupt_snapshot",
    `The snapshot of ${id} is damaged: its checksum or its name does not fit. It is not served. Restore the store from a copy.`,
  );
}

function missesTurns(id: string, first: number, last: number): KeyturnError {
  return new KeyturnError(
    "corrupt_record",
    `The journal misses turns ${first} to ${last} of ${id}. Its shard is stopped. Restore the store from a copy.`,
  );
}

/** The earliest due time of some timers, undefined without any. */
export function earliestDue(timers: readonly Timer[]): number | undefined {
  let due: number | undefined;
  for (const timer of timers) if (due === undefined || timer.due < due) due = timer.due;
  return due;
}

/** The same without work that runs already: what a node that has the actor still has to wake up for. */
export function nextDue(timers: readonly Timer[], now: number): number | undefined {
  let due: number | undefined;
  for (const timer of timers) {
    if (isWorkTimer(timer) && timer.due <= now) continue;
    if (due === undefined || timer.due < due) due = timer.due;
  }
  return due;
}

/** Several consecutive records of one actor, added up. */
export class Patch {
  /** Turn before the first record. */
  readonly after: number;
  turn: number;
  /** When its last record was made, milliseconds since the epoch, about; 0 if that is not known. */
  time = 0;
  /** What it adds to a state when that is encoded, from above: its records' lengths, from the last keyframe on. */
  bytes = 0;
  /** True if the patch needs no state to start from. */
  #whole = false;
  #deleted = false;
  #context: Record<string, unknown> = {};
  #removed: Set<string> | undefined;
  #value: unknown = null;
  #rest: Change["rest"] = null;
  #children: FamilyChange[] = [];
  #timers: readonly Timer[] | null = null;
  #requests: RequestMark[] = [];
  #version = 1;
  #last: Link = NoLink;
  #keyframe: Link = NoLink;
  /** Records that are not decoded yet: plain changes, in order, behind everything that was added. */
  #waiting: { readonly batch: Batch; readonly at: Link }[] = [];

  constructor(after: number) {
    this.after = after;
    this.turn = after;
  }

  /** Due time of the earliest timer, as far as the patch knows; undefined if it says nothing about timers. */
  get timers(): readonly Timer[] | null {
    // What waits has none.
    return this.#timers;
  }

  /** Whether it says all that there is to say of a state, but for what is remembered of requests. */
  get standsAlone(): boolean {
    return this.#whole || this.after === 0;
  }

  /** Adds the next record undecoded: a change that has no timers and no request id. */
  defer(id: string, turn: number, batch: Batch, at: Link): void {
    if (turn !== this.turn + 1) throw missesTurns(id, this.turn + 1, turn - 1);
    this.bytes += batch.offsetAt(at[1] + 1) - batch.offsetAt(at[1]);
    this.turn = turn;
    this.#last = at;
    this.#waiting.push({ batch, at });
  }

  /** Adds what was deferred. */
  #settle(): void {
    for (const { batch, at } of this.#waiting) {
      const { change, version } = decodeRecord(batch.recordAt(at[1]));
      if (change !== null) this.#change(change);
      this.#version = version;
    }
    this.#waiting = [];
  }

  /** Adds the next record, which lies at `last` and is so long. */
  add(record: TurnRecord, last: Link, requestsMax: number, length = 0): void {
    const anew = record.kind === KeyframeTurn || record.kind === DeleteTurn;
    this.bytes = anew ? length : this.bytes + length;
    // A whole state, or none, overtakes what waits.
    if (anew) this.#waiting = [];
    else this.#settle();
    if (record.kind === DeleteTurn) {
      this.#reset(true);
      this.turn = 0;
      this.#last = NoLink;
      this.#keyframe = NoLink;
      return;
    }
    if (record.turn !== this.turn + 1) {
      throw missesTurns(record.id, this.turn + 1, record.turn - 1);
    }
    const { change } = record;
    if (record.kind === KeyframeTurn) {
      const requests = this.#requests;
      this.#reset(this.#deleted);
      this.#requests = requests;
    }
    if (change !== null) this.#change(change);
    if (record.requestId !== undefined) {
      this.#requests.push({ requestId: record.requestId, at: last });
      if (this.#requests.length > requestsMax) this.#requests.shift();
    }
    this.turn = record.turn;
    this.#version = record.version;
    this.#last = last;
    if (record.kind === KeyframeTurn) this.#keyframe = last;
  }

  #change(change: Change): void {
    for (const name of change.removed ?? []) {
      delete this.#context[name];
      if (!this.#whole) {
        this.#removed ??= new Set();
        this.#removed.add(name);
      }
    }
    if (change.context !== null) {
      for (const name in change.context) {
        this.#context[name] = change.context[name];
        this.#removed?.delete(name);
      }
    }
    if (change.value !== null) this.#value = change.value;
    if (change.rest !== null) this.#rest = change.rest;
    if (change.timers !== null) this.#timers = change.timers;
    if (change.children) this.#children.push(change.children);
  }

  /** The state after the patch; undefined if the actor was deleted and nothing came after. */
  applyTo(id: string, base: ActorData | undefined, requestsMax: number): ActorData | undefined {
    if (this.#deleted && this.turn === 0) return undefined;
    this.#settle();
    const from = this.#whole ? undefined : base;
    const stands = base?.turn ?? 0;
    if (!this.#deleted && (stands > this.turn || (!this.#whole && stands < this.after))) {
      throw new KeyturnError(
        "corrupt_record",
        `The journal holds turns ${this.after + 1} to ${this.turn} of ${id}, its snapshot stands at turn ${stands}. It is not served. Restore the store from a copy.`,
      );
    }
    const context = { ...from?.machine.context, ...this.#context };
    if (this.#removed !== undefined) for (const name of this.#removed) delete context[name];
    // A keyframe forgets the state before it, but not the requests.
    const known = this.#deleted
      ? []
      : (base?.requests ?? []).filter((r) => !this.#requests.some((q) => q.requestId === r.requestId));
    const requests = [...known, ...this.#requests];
    const [status, output, history, error] = this.#rest ?? [
      from?.machine.status ?? "active",
      from?.machine.output,
      from?.machine.history ?? null,
      from?.machine.error,
    ];
    return {
      machine: {
        value: (this.#value ?? from?.machine.value) as MachineState["value"],
        context,
        status: status as MachineState["status"],
        output,
        history: (history as MachineState["history"] | null) ?? undefined,
        ...rare(this.#family(from), error),
      },
      timers: this.#timers ?? from?.timers ?? [],
      requests: requests.length > requestsMax ? requests.slice(requests.length - requestsMax) : requests,
      turn: this.turn,
      version: this.#version,
      last: this.#last,
      keyframe: this.#keyframe[0] > 0 ? this.#keyframe : (base?.keyframe ?? NoLink),
      ...(this.time === 0 ? {} : { time: this.time }),
    };
  }

  #family(from: ActorData | undefined): readonly PackedChild[] | undefined {
    const before = from?.machine.children;
    if (this.#children.length === 0) return before;
    const children = new Map((before ?? []).map((child) => [child[0], child] as const));
    for (const change of this.#children) addChange(children, change);
    // What the base has already is put into it once more, and so behind what came later.
    return inOrder([...children.values()], ([, session]) => session);
  }

  #reset(deleted: boolean): void {
    this.#whole = true;
    this.#deleted = deleted;
    this.#context = {};
    this.#removed = undefined;
    this.#value = null;
    this.#rest = null;
    this.#timers = null;
    this.#children = [];
    this.#requests = [];
  }
}
