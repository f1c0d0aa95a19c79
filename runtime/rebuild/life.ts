/**
 * One actor's past through a new definition.
 *
 * Owns how a recorded turn becomes a step: which event, at what time, for whom. Talks to the machine's host. A step's
 * effects are dropped: nothing is told, answered, run or committed.
 *
 * What is replayed:
 * - Events, inputs and the results of work and questions come as they were recorded, at their recorded times.
 * - A timer that both definitions have set (same id, source and due time) fires when the journal says that it did. One
 *   that only the new one has fires when it is due, as soon as a later record shows that the time has passed.
 * - Deletions end a life, also those by a life policy. Policies of the new definition count from the promotion on.
 * - What the former definition refused was not part of the past, and is not replayed unless that is asked for.
 *
 * Invariant: turns have the numbers and times that they had, so the sessions of children are the same ones; where they are
 * not, what is the same is found and named so (sessions.ts).
 */
import { begin, checkOutput } from "../engine/beginning.ts";
import { checkFits, type HostedType } from "../engine/definition.ts";
import { isWake } from "../engine/delays.ts";
import { invoked, isBeginning } from "../engine/invocations.ts";
import { isLifeTimer } from "../engine/life.ts";
import {
  type Asker,
  type Effects,
  familyOf,
  isWorkTimer,
  type MachineSnapshot,
  moment,
  type Timer,
} from "../engine/machine.ts";
import { type EventObject, PROMISE_REJECT, PROMISE_RESOLVE } from "../engine/machine/internals.ts";
import { adopt } from "../engine/migration.ts";
import {
  FromShard,
  FromTimer,
  FromWork,
  KeyframeTurn,
  type Link,
  type TurnRecord,
} from "../engine/record.ts";
import { type ActorData, Patch } from "../engine/state.ts";
import { asError } from "../engine/faults.ts";
import { decodeKey } from "../words/address.ts";
import type { KeyturnError } from "../words/errors.ts";
import { takeNames } from "./sessions.ts";
import { type Sent, type TellFindings, Tells } from "./tells.ts";

/** Type of the event of a turn that only begins an actor. */
const INIT = "xstate.init";
/** Timers of the new definition that fire between two records at most; more is a circle. */
const ELAPSE_MAX = 1_000;
/** Turns that the journal does not have are numbered between those that it has. */
const EXTRA = 1 / 4_096;

const noTimers: readonly Timer[] = [];

/** Hears of what did not go as it did. */
export interface Findings extends TellFindings {
  rejected(life: Life, event: EventObject, time: number, error: KeyturnError): void;
  /** A timer or result that the journal has and the new definition does not wait for. */
  unmatched(life: Life, event: EventObject): void;
  /** More timers of the new definition were due between two records than are fired. */
  circled(life: Life): void;
}

/** An actor that is being replayed. Many are held at once: it is as small as it can be. */
export class Life {
  readonly id: string;
  /** Last turn that was replayed, and its record's place. */
  turn = 0;
  seq = 0;
  index = 0;
  /** Undefined before it has begun, and where its beginning is missing. */
  snapshot: MachineSnapshot | undefined = undefined;
  timers: readonly Timer[] = noTimers;
  /** Timers of the running definition. */
  running: readonly Timer[] = noTimers;
  /** Version that wrote its last record. */
  version = 0;
  /** Turn at which a rebuild took its place last. */
  rebuilt = 0;
  /** Of invocations that the new definition has at another path: the one in the journal, by session. */
  paths: ReadonlyMap<string, string> | undefined = undefined;
  /** False if the journal does not have it from its first turn on. */
  whole = true;

  constructor(id: string) {
    this.id = id;
  }

  get key(): string {
    return decodeKey(this.id.slice(this.id.indexOf(".") + 1));
  }

  get at(): Link {
    return [this.seq, this.index];
  }
}

/** Replays records of one type. */
export class Replayer {
  readonly #hosted: HostedType;
  readonly #findings: Findings;
  readonly #retryRefused: boolean;
  readonly #tells: Tells;
  #extra = 0;
  /** Who asked in the turn that is being replayed, if it left the answer to a later one. */
  #asker: Asker | undefined = undefined;
  /** That turn's record, where it says more than its event. */
  #record: TurnRecord | undefined = undefined;

  constructor(hosted: HostedType, findings: Findings, retryRefused: boolean, tell: boolean) {
    this.#hosted = hosted;
    this.#findings = findings;
    this.#retryRefused = retryRefused;
    this.#tells = new Tells(findings, tell);
  }

  /**
   * A turn like most: an event from outside in a record that says nothing of timers or children.
   * @param whole whether the record holds the whole state
   */
  plain(life: Life, event: EventObject, turn: number, time: number, whole: boolean): void {
    if (life.timers.length > 0) this.#elapse(life, time);
    if (whole) life.running = noTimers;
    this.#message(life, event, turn, time);
    this.#tells.compare(life, undefined, turn, time);
  }

  /** Any turn, with its record. */
  turn(life: Life, record: TurnRecord, time: number): void {
    if (life.timers.length > 0) this.#elapse(life, time);
    const before = life.running;
    const { change, kind } = record;
    if (change !== null && (change.timers !== null || kind === KeyframeTurn))
      life.running = change.timers ?? noTimers;
    const event = record.event as EventObject;
    this.#asker = record.asker as Asker | undefined;
    this.#record = record;
    if (record.source === FromTimer) this.#timer(life, record, event, before, time);
    else if (record.source === FromWork) this.#work(life, record, event, time);
    else if (record.source === FromShard && isAnswer(event)) this.#answer(life, record, event, time);
    else this.#message(life, event, record.turn, time);
    this.#asker = undefined;
    this.#record = undefined;
    this.#tells.compare(life, record, record.turn, time);
    if (change?.children) takeNames(life, record, this.#hosted.host);
  }

  /** A turn with which a former rebuild was promoted: the state in it is no event of the past. */
  promoted(life: Life, record: TurnRecord, time: number): void {
    life.running = record.change?.timers ?? noTimers;
    life.rebuilt = record.turn;
    this.#tells.compare(life, record, record.turn, time);
    if (record.change?.children) takeNames(life, record, this.#hosted.host);
  }

  /** A message that the running definition refused. */
  refused(life: Life, event: EventObject, time: number): void {
    if (!this.#retryRefused || isAnswer(event)) return;
    if (life.timers.length > 0) this.#elapse(life, time);
    this.#message(life, event, this.#between(life), time);
    this.#tells.compare(life, undefined, life.turn, time);
  }

  /** An actor's life is over. */
  ended(life: Life): void {
    this.#tells.settle(life);
  }

  /** What an actor would have told and has not, see Tells; undefined if that is not known. */
  untold(life: Life): readonly Sent[] | undefined {
    if (!this.#tells.exact) return undefined;
    return life.whole ? this.#tells.missing(life) : [];
  }

  /** Nothing more is replayed. */
  settle(): void {
    this.#tells.settleAll();
  }

  /**
   * Begins with a state that a record holds as a whole: that of a fork, or where the beginning is missing.
   * @throws KeyturnError if the new definition cannot have it
   */
  restore(life: Life, record: TurnRecord, link: Link, time: number): void {
    const patch = new Patch(record.turn - 1);
    patch.add(record, link, 0);
    const data = patch.applyTo(life.id, undefined, 0) as ActorData;
    life.running = data.timers;
    const { snapshot, timers } = adopt(this.#hosted, data, time);
    const begun = invoked(this.#hosted.host, snapshot, timers, record.turn + this.#fraction(), time);
    const own = (begun?.effects.timers ?? timers).filter(isOwn);
    if (begun !== undefined) this.#tells.note(begun.effects);
    this.#tells.compare(life, undefined, record.turn, time);
    life.snapshot = begun?.snapshot ?? snapshot;
    life.timers = own.length > 0 ? own : noTimers;
  }

  #message(life: Life, event: EventObject, turn: number, time: number): void {
    try {
      if (event.type === INIT) {
        this.#begin(life, turn, time, (event as { input?: unknown }).input);
        return;
      }
      // What comes of the machine's own doings is not checked where it is taken, either.
      if (!event.type.startsWith("xstate.")) checkFits(this.#hosted, event);
      this.#step(life, event, life.timers, turn, time, undefined);
    } catch (error) {
      this.#findings.rejected(life, event, time, asError(error));
    }
  }

  #begin(life: Life, turn: number, time: number, input: unknown): void {
    moment.asker = this.#asker;
    const { snapshot, effects } = begin(this.#hosted, life.key, turn, time, input);
    if (snapshot.status === "done") checkOutput(this.#hosted.definition, snapshot);
    this.#note(snapshot, effects);
    life.snapshot = snapshot;
    life.timers = effects.timers;
  }

  #note(snapshot: MachineSnapshot, effects: Effects): void {
    if (effects.tells.length > 0 || effects.emitted.length > 0) this.#tells.note(effects);
    if (this.#record !== undefined) this.#tells.noteAnswers(effects, this.#record, snapshot);
  }

  #step(
    life: Life,
    event: EventObject,
    timers: readonly Timer[],
    turn: number,
    time: number,
    session: string | undefined,
  ): void {
    const { host, definition } = this.#hosted;
    const before = life.snapshot;
    moment.asker = this.#asker;
    const start = before ?? begin(this.#hosted, life.key, turn, time).snapshot;
    const { snapshot, effects } = host.step(start, event, timers, turn, time, before === undefined, session);
    if (snapshot.status === "done" && before?.status !== "done") checkOutput(definition, snapshot);
    this.#note(snapshot, effects);
    life.snapshot = snapshot;
    life.timers = effects.timers;
  }

  /** Fires what only the new definition has set and what is due by now. */
  #elapse(life: Life, time: number): void {
    for (let fired = 0; ; fired++) {
      let next: Timer | undefined;
      for (const timer of life.timers) {
        if (timer.due > time || isWorkTimer(timer) || hasLike(life.running, timer)) continue;
        if (next === undefined || timer.due < next.due) next = timer;
      }
      if (next === undefined) return;
      if (fired === ELAPSE_MAX) {
        this.#findings.circled(life);
        return;
      }
      this.#fire(life, next, this.#between(life), next.due);
    }
  }

  #fire(life: Life, timer: Timer, turn: number, time: number): void {
    const rest = life.timers.filter((other) => other !== timer);
    const { target } = timer;
    life.timers = rest;
    if (target !== undefined && !this.#lives(life, target)) return;
    try {
      this.#step(life, timer.event, rest, turn, time, target);
    } catch (error) {
      this.#findings.rejected(life, timer.event, time, asError(error));
    }
  }

  /** A timer that fired. */
  #timer(life: Life, record: TurnRecord, event: EventObject, running: readonly Timer[], time: number): void {
    const fired = running.find(
      ({ id, generation }) => id === record.sourceName && generation === record.sourceNumber,
    );
    if (fired === undefined || isLifeTimer(fired) || isWake(fired) || isBeginning(fired)) return;
    const timer = life.timers.find((other) => isLike(other, fired));
    if (timer === undefined) this.#findings.unmatched(life, event);
    else if (record.refusal === undefined || this.#retryRefused) this.#fire(life, timer, record.turn, time);
    else life.timers = life.timers.filter((other) => other !== timer);
  }

  /** What came of work outside, or an event that user code sent. */
  #work(life: Life, record: TurnRecord, event: EventObject, time: number): void {
    const session = String(record.sourceName);
    if (session === "") {
      this.#message(life, event, record.turn, time);
      return;
    }
    const own = life.timers.find((timer) => timer.source === session && isWorkTimer(timer));
    const again = life.running.find((timer) => timer.source === session && isWorkTimer(timer));
    if (event.type === PROMISE_REJECT && again !== undefined) {
      // It was tried again: only its timer has changed.
      if (own !== undefined)
        life.timers = life.timers.map((timer) =>
          timer === own ? { ...own, due: again.due, event: again.event } : timer,
        );
    } else if (!this.#lives(life, session)) this.#findings.unmatched(life, event);
    else if (record.refusal !== undefined && !this.#retryRefused)
      life.timers = life.timers.filter((timer) => timer !== own);
    else this.#child(life, event, record.turn, time, session);
  }

  /** The answer to a question. A record does not name the child that asked: it is the one whose asking ended. */
  #answer(life: Life, record: TurnRecord, event: EventObject, time: number): void {
    const asking = [...(familyOf(life.snapshot)?.members.values() ?? [])].find(
      (member) =>
        member.kind === "ask" &&
        member.snapshot.status === "active" &&
        endedIn(record, life.paths?.get(member.session) ?? member.path),
    );
    if (asking === undefined) this.#findings.unmatched(life, event);
    else this.#child(life, event, record.turn, time, asking.session);
  }

  #child(life: Life, event: EventObject, turn: number, time: number, session: string): void {
    try {
      this.#step(life, event, life.timers, turn, time, session);
    } catch (error) {
      this.#findings.rejected(life, event, time, asError(error));
    }
  }

  #lives({ snapshot }: Life, session: string): boolean {
    return familyOf(snapshot)?.bySession(session)?.snapshot.status === "active";
  }

  #between(life: Life): number {
    return life.turn + this.#fraction();
  }

  #fraction(): number {
    this.#extra = (this.#extra + 1) % 4_096;
    return (this.#extra === 0 ? ++this.#extra : this.#extra) * EXTRA;
  }
}

function isAnswer(event: EventObject): boolean {
  return event.type === PROMISE_RESOLVE || event.type === PROMISE_REJECT;
}

/** Whether a record says that the child of a path is over. */
function endedIn({ change, kind }: TurnRecord, path: string): boolean {
  const children = change?.children ?? [];
  for (const child of children) {
    if (child === path) return true;
    if (typeof child !== "string" && child[0] === path)
      return (child[5] as { status?: unknown } | null)?.status !== "active";
  }
  return kind === KeyframeTurn;
}

/** The life timer is the runtime's, and so is what records a migration. */
function isOwn(timer: Timer): boolean {
  return !isLifeTimer(timer) && !isWake(timer);
}

function isLike(timer: Timer, other: Timer): boolean {
  return timer.id === other.id && timer.due === other.due && timer.source === other.source;
}

function hasLike(timers: readonly Timer[], timer: Timer): boolean {
  for (const other of timers) if (isLike(timer, other)) return true;
  return false;
}
