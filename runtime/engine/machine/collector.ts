/**
 * Collects what a step wants done.
 *
 * Owns the effects of the step that is taken, reused by every step. Told by the tree what its actors ask for; whatever
 * is wrong with it is thrown and ends the step. Talks to the bound actors of custom actions (outside.ts).
 *
 * Invariant: nothing is done here; an action is only a function that can be called after the commit.
 */
import type { EventObject } from "xstate";
import { KeyturnError } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { OPAQUE, seal } from "../../words/values.ts";
import { effectOf, type EffectSpec, moment, type Wish } from "./actions.ts";
import { ASK_TIMEOUT, Effects, type Timer, WORK, type WorkEvent } from "./effects.ts";
import { plainError, sealNamed } from "./failures.ts";
import { familyOf, pathOfActor, shownPath, withoutRefs } from "./family.ts";
import { type ExecutableAction, type MachineSnapshot, PROMISE_REJECT, type XActor } from "./internals.ts";
import type { Outside } from "./outside.ts";

/** What XState's own sending actions have resolved. */
interface SendParams {
  readonly event: EventObject;
  readonly id?: string;
  readonly delay?: number;
  readonly to?: XActor | string;
  readonly sendId?: string;
}

export class Collector {
  readonly effects = new Effects();
  readonly #type: string;
  readonly #keepsDelays: boolean;
  /** The session of a child, undefined for the machine itself. */
  readonly #sessionOf: (actor: XActor) => string | undefined;
  readonly #outside: Outside;
  #now = 0;
  #turn = 0;
  #unnamed = 0;

  /** @param keepsDelays whether the timers of delays say how long they were set for */
  constructor(
    type: string,
    keepsDelays: boolean,
    sessionOf: (actor: XActor) => string | undefined,
    outside: Outside,
  ) {
    this.#type = type;
    this.#keepsDelays = keepsDelays;
    this.#sessionOf = sessionOf;
    this.#outside = outside;
  }

  /** A turn begins. `timers` are the actor's. */
  begin(timers: readonly Timer[], turn: number, now: number): void {
    const { effects } = this;
    // Arrays that somebody may hold are left to them.
    if (effects.tells.length > 0) effects.tells = [];
    if (effects.actions.length > 0) effects.actions = [];
    if (effects.receives.length > 0) effects.receives = [];
    if (effects.emitted.length > 0) effects.emitted = [];
    if (effects.childEmitted.length > 0) effects.childEmitted = [];
    effects.timers = timers;
    effects.replied = false;
    effects.reply = undefined;
    effects.deferred = false;
    if (effects.answers.length > 0) effects.answers = [];
    this.#turn = turn;
    this.#now = now;
    moment.now = now;
    this.#unnamed = 0;
  }

  collect(action: ExecutableAction, actor: XActor): void {
    const { exec } = action;
    const spec = effectOf(exec);
    if (spec !== undefined) this.#collectOwn(spec, action);
    else if (exec === undefined) {
      throw new KeyturnError(
        "machine_failed",
        `The action "${action.type}" of "${this.#type}" has no implementation. Give it one in setup({ actions }).`,
      );
    } else if (action.type.startsWith("xstate.")) this.#collectBuiltIn(action, actor);
    else
      this.effects.actions.push({
        name: action.type,
        run: () => exec(this.#outside.bound(action.info, actor), action.params),
      });
  }

  #collectOwn(spec: EffectSpec, action: ExecutableAction): void {
    const value = (expression: unknown): unknown =>
      typeof expression === "function" ? expression(action.info, action.params) : expression;
    if (spec.kind === "tell") this.#tell(value(spec.to), value(spec.event), undefined);
    else if (spec.kind === "perform") {
      const { replied, reply, wishes, deferred = false } = spec.run();
      this.effects.deferred = deferred;
      if (replied) {
        this.effects.replied = true;
        this.effects.reply = reply;
      }
      for (const wish of wishes) this.#grant(wish);
    } else if (spec.kind === "tellAll") {
      for (const [to, event] of value(spec.tells) as Iterable<readonly [unknown, unknown]>)
        this.#tell(to, event, undefined);
    } else {
      this.effects.replied = true;
      this.effects.reply = withoutRefs(value(spec.value));
    }
  }

  #grant(wish: Wish): void {
    switch (wish.kind) {
      case "tell":
        this.#tell(wish.to, wish.event, undefined);
        return;
      case "emit":
        seal(wish.event, "the emitted event");
        this.effects.emitted.push(wish.event);
        return;
      case "later": {
        const { id, delay_ms, event, spare } = wish;
        if (spare !== undefined && this.effects.timers.length + spare.timers >= limits.timersPerActor)
          this.#grant(spare.instead);
        else this.setTimer(id, delay_ms, event, undefined, undefined);
        return;
      }
      case "cancel":
        this.cancel((timer) => timer.source === undefined && timer.id === wish.id);
        return;
      case "answer": {
        const { to, value, error } = wish;
        const fault = error === undefined ? undefined : new KeyturnError(error.code, error.message);
        this.effects.answers.push({ to, value, error: fault });
        return;
      }
    }
  }

  #tell(to: unknown, event: unknown, asker: string | undefined): void {
    if (this.effects.tells.length >= limits.tellsPerTurn) {
      throw new KeyturnError("tell_invalid", `One turn may tell at most ${limits.tellsPerTurn} messages.`);
    }
    this.effects.tells.push({ to, event: withoutRefs(event), asker });
  }

  #collectBuiltIn(action: ExecutableAction, actor: XActor): void {
    const params = action.params as SendParams;
    const own = this.#sessionOf(actor) === undefined;
    switch (action.type) {
      case "xstate.raise":
        // A child's is set when XState gets to it, so that it is gone if the child ends meanwhile.
        if (typeof params.delay !== "number") return;
        if (own) this.setTimer(params.id, params.delay, params.event, undefined, undefined);
        else action.exec?.(action.info, action.params);
        return;
      case "xstate.sendTo":
        // In the order of the actions: a cancel that follows is to find it.
        if (own && typeof params.delay === "number" && typeof params.to === "object" && OPAQUE in params.to)
          this.setTimer(params.id, params.delay, params.event, undefined, this.#sessionOf(params.to));
        else action.exec?.(action.info, action.params);
        return;
      case "xstate.cancel":
        if (own) this.cancel((timer) => timer.source === undefined && timer.id === params.sendId);
        else action.exec?.(action.info, action.params);
        return;
      case "xstate.emit":
        seal(params.event, "the emitted event");
        if (own) this.effects.emitted.push(withoutRefs(params.event));
        else this.effects.childEmitted.push([shownPath(pathOfActor(actor)), withoutRefs(params.event)]);
        return;
      case "xstate.log":
        this.effects.actions.push({ name: "log", run: () => this.#outside.log(action.params) });
        return;
      default:
        action.exec?.(action.info, action.params);
    }
  }

  setTimer(
    id: string | undefined,
    delay: number,
    event: EventObject,
    source: string | undefined,
    target: string | undefined,
    keepsDelay = this.#keepsDelays,
  ): void {
    if (!(delay >= 0)) throw new KeyturnError("machine_failed", `A delay of ${delay} ms is not a time.`);
    const plain = withoutRefs(event);
    sealNamed(plain, "timers_full", "the delayed event");
    // XState would draw a random id; one derived from its place is the same on every replay.
    const name = id ?? `~${this.#turn}.${this.#unnamed++}`;
    // JavaScript's callers may name it by a function; that could be recorded, but never be read again.
    if (typeof name !== "string")
      throw new KeyturnError("machine_failed", `The id of a delay is a text, not a ${typeof name}.`);
    const timers = this.effects.timers.filter((timer) => timer.id !== name || timer.source !== source);
    // The life timer (life.ts) is not the machine's.
    const others = timers.some((timer) => timer.source === "") ? timers.length - 1 : timers.length;
    if (others >= limits.timersPerActor) {
      throw new KeyturnError(
        "timers_full",
        `An actor may have at most ${limits.timersPerActor} timers, and actors that work outside, at a time.`,
      );
    }
    const timer = { id: name, due: this.#now + delay, generation: this.#turn, event: plain };
    const known = keepsDelay ? { ...timer, delay } : timer;
    timers.push(source === undefined && target === undefined ? known : { ...known, source, target });
    this.effects.timers = timers;
  }

  cancel(which: (timer: Timer) => boolean): void {
    const { timers } = this.effects;
    if (timers.some(which)) this.effects.timers = timers.filter((timer) => !which(timer));
  }

  /** An event for a callback. */
  receive(actor: XActor, event: EventObject): void {
    this.effects.receives.push({ session: actor.sessionId, event });
  }

  /** What an actor does outside is kept as a timer of its own: due at once, there until the actor ends. */
  beginWork(actor: XActor): void {
    const event: WorkEvent = { type: WORK, begun: this.#now, attempt: 1 };
    this.setTimer(WORK, 0, event, actor.sessionId, actor.sessionId, false);
  }

  question(actor: XActor): void {
    const { to, event, timeout_ms } = (actor._snapshot.input ?? {}) as Record<string, unknown>;
    this.#tell(to, event, actor.sessionId);
    if (timeout_ms === undefined) return;
    const text = `${String(to)} did not answer within ${String(timeout_ms)} ms. What it was asked may be done, now or later.`;
    const error = new KeyturnError("timeout", text);
    const late = { type: PROMISE_REJECT, data: plainError(error) };
    this.setTimer(ASK_TIMEOUT, Number(timeout_ms), late, actor.sessionId, actor.sessionId, false);
  }

  /** An actor that another of the same id has taken the place of is not part of the state: nor is what it waits for. */
  dropOrphans(next: MachineSnapshot, before: MachineSnapshot | undefined): void {
    const family = familyOf(next);
    if (family === undefined && familyOf(before) === undefined) return;
    this.cancel(
      ({ source }) => source !== undefined && source !== "" && family?.bySession(source) === undefined,
    );
  }
}
