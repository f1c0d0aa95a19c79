/**
 * What if: events put to an actor's state in memory, and what each would do. Nothing is committed, told or run.
 *
 * Owns the passing of imagined time: delays fire when they are due, between the events. Talks to the machine's host.
 * What a machine begins outside (promises, callbacks, questions) stands still; it is listed with what began it.
 */
import { begin, checkOutput } from "../engine/beginning.ts";
import {
  type ActorDefinition,
  type ActorState,
  checkFits,
  type HostedType,
  registryOf,
} from "../engine/definition.ts";
import type { PastState } from "../engine/history.ts";
import { invoked, isBeginning } from "../engine/invocations.ts";
import {
  BEGIN,
  type Effects,
  type EventOf,
  familyOf,
  isWorkTimer,
  type Machine,
  type MachineSnapshot,
  persist,
  type Timer,
} from "../engine/machine.ts";
import type { EventObject } from "../engine/machine/internals.ts";
import { adopt } from "../engine/migration.ts";
import { checkEvent, shownState } from "../engine/outgoing.ts";
import { NoLink, unpackTimer } from "../engine/record.ts";
import { asError } from "../engine/faults.ts";
import { durationOf } from "../words/duration.ts";
import { type ErrorCode, KeyturnError } from "../words/errors.ts";
import { seal, ValueFault } from "../words/values.ts";
import { type Difference, differences } from "./compare.ts";

/** Delays that fire in one what-if at most. */
const FIRED_MAX = 10_000;

/** An event, or one that comes so long after what was before: milliseconds or a text such as "3 days". */
export type WhatIfEvent<M extends Machine = Machine> =
  | EventOf<M>
  | { readonly event?: EventOf<M>; readonly after: number | string };

export interface WhatIfOptions<M extends Machine = Machine> {
  /** Where it begins: what `ref.past()` gives; without one with an actor that does not exist yet. */
  readonly from?: PastState | undefined;
  readonly events: readonly WhatIfEvent<M>[];
  /** Key of the actor, for machines that ask for it; "what-if" by default. */
  readonly key?: string;
  /** When it begins, milliseconds since the epoch; by default when `from` was, or else 0. */
  readonly at?: number;
}

/** What one event, or one delay that fell due, did. */
export interface WhatIfStep<M extends Machine = Machine> {
  readonly event: { readonly type: string };
  /** Imagined, milliseconds since the epoch. */
  readonly time: number;
  /** True for a delay that fell due. */
  readonly fired: boolean;
  /** Set if the event is refused: the state is as before. */
  readonly refused?: { readonly code: ErrorCode; readonly reason: string };
  readonly state: ActorState<M>;
  /** What is different from before. */
  readonly changes: readonly Difference[];
  readonly told: readonly { readonly to: unknown; readonly event: unknown; readonly asked: boolean }[];
  readonly emitted: readonly unknown[];
  readonly replied: boolean;
  readonly reply: unknown;
  /** Custom actions that would run, by name. */
  readonly actions: readonly string[];
  /** Promises, callbacks and observables that would begin, by path. */
  readonly begun: readonly string[];
}

export interface WhatIfResult<M extends Machine = Machine> {
  readonly steps: readonly WhatIfStep<M>[];
  readonly state: ActorState<M>;
  /** What is different from where it began. */
  readonly changes: readonly Difference[];
  /** Delays that are running at the end: id and due time. */
  readonly timers: readonly { readonly id: string; readonly due: number }[];
}

/**
 * Puts events to a state, and tells what they would do. No effect leaves, nothing is stored.
 * @throws KeyturnError `invalid_options`, `incompatible_snapshot`, `migration_failed`
 */
export function whatIf<T extends string, M extends Machine, R extends object>(
  definition: ActorDefinition<T, M, R>,
  options: WhatIfOptions<M>,
): WhatIfResult<M> {
  const hosted = registryOf([definition]).get(definition.type) as HostedType;
  const run = new WhatIf(hosted, options as WhatIfOptions);
  for (const given of options.events) run.take(given as WhatIfEvent);
  return run.result() as unknown as WhatIfResult<M>;
}

/** A what-if that goes on event by event, for who has other things to do in between. */
export class WhatIf {
  readonly #hosted: HostedType;
  readonly #firedMax: number;
  readonly #key: string;
  readonly #steps: WhatIfStep[] = [];
  readonly #begin: MachineSnapshot;
  readonly #beginTimers: readonly Timer[];
  #snapshot: MachineSnapshot | undefined;
  #timers: readonly Timer[] = [];
  #turn: number;
  #time: number;
  #fired = 0;

  /** @param firedMax delays that fire at most */
  constructor(
    hosted: HostedType,
    { from, key = "what-if", at }: Omit<WhatIfOptions, "events">,
    firedMax = FIRED_MAX,
  ) {
    this.#hosted = hosted;
    this.#firedMax = firedMax;
    this.#key = key;
    this.#turn = from?.turn ?? 0;
    this.#time = at ?? from?.time ?? 0;
    if (!Number.isFinite(this.#time))
      throw new KeyturnError("invalid_options", "A what-if begins at a number of milliseconds.");
    if (from !== undefined) {
      const data = {
        ...from,
        requests: [],
        last: NoLink,
        keyframe: NoLink,
        timers: from.timers.map(unpackTimer),
      };
      const { snapshot, timers } = adopt(hosted, data, this.#time);
      this.#snapshot = snapshot;
      this.#timers = timers;
    }
    this.#begin = this.#snapshot ?? begin(hosted, key, 1, this.#time).snapshot;
    this.#beginTimers = this.#timers;
  }

  /** What was done so far. */
  get steps(): readonly WhatIfStep[] {
    return this.#steps;
  }

  take(given: WhatIfEvent): void {
    const { after } = given as { readonly after?: number | string };
    const timed = after !== undefined && !("type" in given);
    const event = timed ? (given as { event?: EventObject }).event : (given as EventObject);
    if (timed) this.#pass(durationOf(after, "after"));
    if (event === undefined) return;
    const before = this.#snapshot;
    try {
      checkEvent(event);
      seal(event, "the event");
      checkFits(this.#hosted, event);
    } catch (cause) {
      const error =
        cause instanceof ValueFault ? new KeyturnError("invalid_event", cause.message) : asError(cause);
      this.#refused(event as EventObject, false, error);
      return;
    }
    this.#step(event as EventObject, this.#timers, false, undefined, before);
  }

  result(): WhatIfResult {
    const snapshot = this.#snapshot ?? this.#begin;
    return {
      steps: this.#steps,
      state: shownState(snapshot, this.#turn, 0) as ActorState,
      changes: this.#differences(this.#begin, this.#beginTimers, snapshot),
      timers: this.#timers
        .filter((timer) => !isWorkTimer(timer) && !isBeginning(timer))
        .map(({ id, due }) => ({ id, due })),
    };
  }

  /** Lets imagined time pass: delays fire when they are due. */
  #pass(duration_ms: number): void {
    const end = this.#time + duration_ms;
    while (true) {
      let next: Timer | undefined;
      for (const timer of this.#timers)
        if (timer.due <= end && !isWorkTimer(timer) && (next === undefined || timer.due < next.due))
          next = timer;
      if (next === undefined) break;
      if (++this.#fired > this.#firedMax) {
        throw new KeyturnError(
          "invalid_options",
          `More than ${this.#firedMax} delays fell due: the machine's delays may go in a circle. Let less time pass.`,
        );
      }
      const timer = next;
      const rest = this.#timers.filter((other) => other !== timer);
      this.#time = Math.max(this.#time, timer.due);
      const { target } = timer;
      if (target !== undefined && familyOf(this.#snapshot)?.bySession(target) === undefined)
        this.#timers = rest;
      else this.#step(timer.event, rest, true, target, this.#snapshot);
    }
    this.#time = end;
  }

  #step(
    event: EventObject,
    timers: readonly Timer[],
    fired: boolean,
    session: string | undefined,
    before: MachineSnapshot | undefined,
  ): void {
    const { host, definition } = this.#hosted;
    const turn = this.#turn + 1;
    const timersBefore = this.#timers;
    this.#timers = timers;
    try {
      const begun =
        before === undefined
          ? begin(this.#hosted, this.#key, turn, this.#time)
          : invoked(host, before, timers, turn, this.#time);
      const start = begun?.snapshot ?? (before as MachineSnapshot);
      const { snapshot, effects } =
        begun !== undefined && event.type === BEGIN
          ? begun
          : host.step(start, event, timers, turn, this.#time, begun !== undefined, session);
      if (snapshot.status === "done" && before?.status !== "done") checkOutput(definition, snapshot);
      this.#snapshot = snapshot;
      this.#turn = turn;
      this.#timers = effects.timers;
      this.#note(event, fired, effects, before ?? this.#begin, timersBefore);
    } catch (error) {
      this.#refused(event, fired, asError(error));
    }
  }

  #note(
    event: EventObject,
    fired: boolean,
    effects: Effects,
    before: MachineSnapshot,
    timersBefore: readonly Timer[],
  ): void {
    const snapshot = this.#snapshot as MachineSnapshot;
    const family = familyOf(snapshot);
    const begun = this.#timers
      .filter((timer) => isWorkTimer(timer) && !timersBefore.includes(timer))
      .map(({ source }) => family?.bySession(source ?? "")?.path ?? "");
    this.#steps.push({
      event,
      time: this.#time,
      fired,
      state: shownState(snapshot, this.#turn, 0) as ActorState,
      changes: this.#differences(before, timersBefore, snapshot),
      told: effects.tells.map(({ to, event: told, asker }) => ({
        to,
        event: told,
        asked: asker !== undefined,
      })),
      emitted: [...effects.emitted],
      replied: effects.replied,
      reply: effects.reply,
      actions: effects.actions.map(({ name }) => name),
      begun,
    });
  }

  #refused(event: EventObject, fired: boolean, { code, message }: KeyturnError): void {
    this.#steps.push({
      event,
      time: this.#time,
      fired,
      refused: { code, reason: message },
      state: shownState(this.#snapshot ?? this.#begin, this.#turn, 0) as ActorState,
      changes: [],
      told: [],
      emitted: [],
      replied: false,
      reply: undefined,
      actions: [],
      begun: [],
    });
  }

  #differences(
    before: MachineSnapshot,
    timersBefore: readonly Timer[],
    after: MachineSnapshot,
  ): Difference[] {
    return differences(
      { machine: persist(before), timers: timersBefore },
      { machine: persist(after), timers: this.#timers },
    );
  }
}
