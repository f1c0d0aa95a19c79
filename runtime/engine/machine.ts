/**
 * The machine: one pure step of an XState machine with all its children.
 *
 * Owns the reused inert scope in which steps are evaluated, the collection of what a step wants done (`Effects`), and
 * the translation of snapshots into plain data and back. Talks to the tree (machine/tree.ts), which runs XState's actors
 * within a step, and to the value checks. XState is imported here and in the folder machine/, nowhere else in the engine.
 *
 * Invariants:
 * 1. A step runs no effect: custom actions, tells, replies, timers and work are collected and left to the caller.
 * 2. A step that throws leaves nothing behind; the snapshot that went in is still valid.
 * 3. The context of every snapshot that comes out is deeply frozen plain data, but for references to its own children.
 * 4. `restore(persist(snapshot))` behaves like `snapshot`.
 *
 * `machine.transition` with a scope of our own is not a documented interface (the documented `transition` builds a
 * throw-away actor per call and is seven times slower); test/machine.test.ts pins what is relied on.
 */
import type { ContextFrom, EventFromLogic, EventObject, InputFrom, SnapshotFrom, StateValue } from "xstate";
import { KeyturnError, textOf } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { rebuilt } from "../words/thrown.ts";
import { OPAQUE, sawOpaque, seal, ValueFault } from "../words/values.ts";
import { type Asker, effectOf, type EffectSpec, moment, type Wish } from "./machine/actions.ts";
import {
  familyOf,
  historyOf,
  mayHoldRefs,
  noteRefs,
  type PackedChild,
  type PackedMachine,
  packMachine,
  pathOfActor,
  shownPath,
  withoutRefs,
} from "./machine/family.ts";
import {
  type ActorLogic,
  type ChildSnapshot,
  type ExecutableAction,
  type Machine,
  type MachineSnapshot,
  PROMISE_REJECT,
  type XActor,
} from "./machine/internals.ts";
import { bounded } from "./machine/logic.ts";
import { settle } from "./machine/planned.ts";
import { Tree } from "./machine/tree.ts";

export {
  type AddressedEvent,
  ask,
  type Asker,
  type AskInput,
  type DurableAction,
  fromDurablePromise,
  moment,
  perform,
  type Performance,
  type PromiseArgs,
  reply,
  tell,
  tellAll,
  type Wish,
} from "./machine/actions.ts";
export {
  familyOf,
  historyOf,
  mayHoldRefs,
  type PackedChild,
  plainContext,
  withoutRefs,
} from "./machine/family.ts";
export type { Machine, MachineSnapshot } from "./machine/internals.ts";

/** The events that a machine accepts. */
export type EventOf<M extends Machine> = EventFromLogic<M>;
export type ContextOf<M extends Machine> = ContextFrom<M>;
/** What a machine begins with: `types: {} as { input: … }`. */
export type InputOf<M extends Machine> = InputFrom<M>;
export type ValueOf<M extends Machine> = SnapshotFrom<M> extends { value: infer V } ? V : StateValue;

/** A timer that stands in an actor's state. */
export interface Timer {
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly due: number;
  /** Turn that set it: a firing meant for an older setting of the same id is told apart by it. */
  readonly generation: number;
  readonly event: EventObject;
  /** Sessions of the child that set it and of the child that it is for; undefined for the actor's own machine. */
  readonly source?: string | undefined;
  readonly target?: string | undefined;
  /** How long it was set for, milliseconds; only of delays, and of types that may have to begin them anew. */
  readonly delay?: number | undefined;
  /** The trace of the turn that set it, if that one is recorded. */
  readonly trace?: string | undefined;
}

/** Type of the event of a timer that stands for work: what a promise, callback or observable does outside. */
export const WORK = "xstate.keyturn.work";

/** Id of the timer, and type of its event, with which a migrated actor begins what only its new machine invokes. */
export const BEGIN = "xstate.keyturn.begin";

/** The event of a timer that stands for work. */
export interface WorkEvent extends EventObject {
  readonly type: typeof WORK;
  /** When it began first, milliseconds since the epoch. */
  readonly begun: number;
  /** Counts from 1; grows with each failed attempt that is tried again. */
  readonly attempt: number;
}

/** Whether a timer stands for work. */
export function isWorkTimer(timer: Timer): boolean {
  return timer.event.type === WORK;
}

/** Id of the timer of a question that is not to wait for its answer for ever. */
const ASK_TIMEOUT = "timeout";

/** Whether a timer is the time-out of a question that an actor has asked. */
export function isAskTimeout({ id, source, target, event }: Timer): boolean {
  return id === ASK_TIMEOUT && source !== undefined && source === target && event.type === PROMISE_REJECT;
}

/** A message that a step told another actor, not yet checked. */
export interface TellEffect {
  readonly to: unknown;
  readonly event: unknown;
  /** Set if an answer is waited for: the session of the child that asks. */
  readonly asker: string | undefined;
}

/** An answer to a question of an earlier turn. */
export interface AnswerEffect {
  readonly to: Asker;
  readonly value: unknown;
  readonly error: KeyturnError | undefined;
}

/** A custom action, to be run after the commit, at most once. */
export interface ActionEffect {
  readonly name: string;
  /** What the action returns; a promise may still fail. */
  run(): unknown;
}

/** An event that a callback was sent, to be given to it after the commit. */
export interface ReceiveEffect {
  readonly session: string;
  readonly event: EventObject;
}

/** An event that a child emitted, and the child's path. */
export type ChildEmitted = readonly [path: string, event: unknown];

/** What one step wants done, in the order in which the machine asked for it. Reused: read it before the next step. */
export class Effects {
  tells: TellEffect[] = [];
  actions: ActionEffect[] = [];
  receives: ReceiveEffect[] = [];
  emitted: unknown[] = [];
  /** What its children emitted, by path. Whoever listens to the actor does not hear it, as in XState. */
  childEmitted: ChildEmitted[] = [];
  /** The actor's timers after the step; the same array as before if untouched. */
  timers: readonly Timer[] = [];
  replied = false;
  reply: unknown = undefined;
  /** Who asks now is answered by a later turn, and `answers` are for who asked before. */
  deferred = false;
  answers: AnswerEffect[] = [];
}

/** A snapshot as plain data. `history` maps history nodes to state node ids. */
export interface MachineState {
  readonly value: StateValue;
  readonly context: Readonly<Record<string, unknown>>;
  readonly status: MachineSnapshot["status"];
  readonly output: unknown;
  readonly history: Readonly<Record<string, readonly string[]>> | undefined;
  /** Why it failed, for the status "error": an error of a child that the machine did not handle. */
  readonly error?: unknown;
  /** The actors that it has invoked and spawned, parents first. */
  readonly children?: readonly PackedChild[] | undefined;
}

/** Takes what user code sends an actor outside of a step. */
export type Outlet = (owner: string, session: string | undefined, event: EventObject) => void;

/** Takes what XState's `log` action says, after the commit. */
export type Logger = (owner: string, label: string | undefined, value: unknown) => void;

const noChildren: ReadonlyMap<string, ActorLogic> = new Map();

/** What XState's own sending actions have resolved. */
interface SendParams {
  readonly event: EventObject;
  readonly id?: string;
  readonly delay?: number;
  readonly to?: XActor | string;
  readonly sendId?: string;
}

/** Runs steps of one machine. One per actor type and node. */
export class MachineHost {
  readonly machine: Machine;
  /** Where events go that custom actions send. Set by the engine. */
  outlet: Outlet | undefined;
  logger: Logger | undefined;
  /** Time that sessions made in the next step are not named before. Set by who steps an actor that was deleted. */
  bornAfter = 0;
  readonly #tree: Tree;
  readonly #type: string;
  readonly #effects = new Effects();
  /** Event types that some transition names; undefined if a wildcard takes any. */
  readonly #types: ReadonlySet<string> | undefined;
  /** What comes before the `.*` of partial wildcards. */
  readonly #families: readonly string[];
  readonly #keepsDelays: boolean;
  #now = 0;
  #turn = 0;
  #unnamed = 0;
  /** Whose custom action runs now. */
  #acting: { readonly owner: string; readonly snapshot: MachineSnapshot | undefined } | undefined;
  /** Whose children they are, as far as custom actions have seen them. */
  readonly #owners = new WeakMap<XActor, string>();

  /**
   * @param children logics that machines spawn without naming them, by the name that is stored for them
   * @param keepsDelays whether the timers of delays say how long they were set for
   */
  constructor(
    type: string,
    machine: Machine,
    children: ReadonlyMap<string, unknown> = noChildren,
    keepsDelays = false,
  ) {
    this.#type = type;
    this.#keepsDelays = keepsDelays;
    // A copy, so that the bound on eventless loops is ours and the user's own machine is left alone.
    this.machine = bounded(machine);
    // Not `machine.events`: that leaves out transitions which do nothing.
    const names = [...walkNodes(this.machine.root)].flatMap((node) => [...node.transitions.keys()]);
    this.#types = names.includes("*") ? undefined : new Set(names);
    this.#families = names.filter((name) => name.endsWith(".*")).map((name) => name.slice(0, -2));
    this.#tree = new Tree(type, this.machine, children as ReadonlyMap<string, ActorLogic>, {
      collect: (action, actor) => this.#collect(action, actor),
      setTimer: (source, target, event, delay, id) =>
        this.#setTimer(id, delay, event, this.#sessionOf(source), this.#sessionOf(target)),
      cancelTimer: (source, id) => this.#cancel((t) => t.source === this.#sessionOf(source) && t.id === id),
      cancelTimers: (source) => this.#cancel((t) => t.source === this.#sessionOf(source)),
      begin: (actor) => this.#beginWork(actor),
      question: (actor) => this.#question(actor),
      receive: (actor, event) => this.#effects.receives.push({ session: actor.sessionId, event }),
      checkChild: (next, before, id) => this.#checkChild(next, before, id),
      sentOutside: (target, event) => this.#sentOutside(target, event),
    });
    if (typeof machine.config.context === "object")
      this.#sealed(machine.config.context, "context", undefined);
  }

  /** Event types that its transitions name, families as `name.*`; undefined if it takes any. */
  get eventTypes(): readonly string[] | undefined {
    return this.#types && [...this.#types].filter((name) => name !== "" && !name.startsWith("xstate."));
  }

  /** Throws `invalid_event` for an event type that no transition of the machine names, in whatever state. */
  checkType(type: string): void {
    if (this.#types === undefined || this.#types.has(type)) return;
    for (const family of this.#families) if (type === family || type.startsWith(`${family}.`)) return;
    const known = [...this.#types].filter((name) => !name.startsWith("xstate.")).join(", ");
    throw new KeyturnError(
      "invalid_event",
      `"${this.#type}" has no transition for events of type "${type.slice(0, 80)}" in any of its states. It takes: ${known}.`,
    );
  }

  /** The snapshot of an actor that no message has reached yet, with what its entry wants done. */
  start(
    key: string,
    turn: number,
    now: number,
    input: unknown = { type: this.#type, key },
  ): { snapshot: MachineSnapshot; effects: Effects } {
    this.#begin([], turn, now);
    let snapshot: MachineSnapshot;
    try {
      snapshot = this.#tree.start(input);
    } catch (error) {
      throw this.#failure(error);
    }
    this.#check(snapshot, undefined, undefined);
    share(snapshot, undefined);
    return { snapshot, effects: this.#effects };
  }

  /**
   * The snapshot after one event. `timers` are the actor's; `continuing` keeps the effects of `start`.
   * @param session of the child that the event is for; undefined for the machine itself
   */
  step(
    snapshot: MachineSnapshot,
    event: EventObject,
    timers: readonly Timer[],
    turn: number,
    now: number,
    continuing = false,
    session?: string,
  ): { snapshot: MachineSnapshot; effects: Effects } {
    if (!continuing) this.#begin(timers, turn, now);
    // An XState actor that is done takes no event; `transition` by itself would.
    if (snapshot.status !== "active") return { snapshot, effects: this.#effects };
    let next: MachineSnapshot;
    try {
      next = this.#tree.step(snapshot, event, session);
    } catch (error) {
      throw this.#failure(error);
    }
    this.#check(next, snapshot, event);
    share(next, snapshot);
    return { snapshot: next, effects: this.#effects };
  }

  /** Whether a restored snapshot lacks what its states invoke. Throws what the machine throws for an input. */
  lacksInvoked(snapshot: MachineSnapshot): boolean {
    return this.#tree.lacking(snapshot, { type: BEGIN }).length > 0;
  }

  /** The snapshot after that has begun, with what its beginning wants done. */
  invoke(
    snapshot: MachineSnapshot,
    timers: readonly Timer[],
    turn: number,
    now: number,
  ): { snapshot: MachineSnapshot; effects: Effects } {
    this.#begin(timers, turn, now);
    const event = { type: BEGIN };
    let next: MachineSnapshot;
    try {
      next = this.#tree.invoke(snapshot, event);
    } catch (error) {
      throw this.#failure(error);
    }
    this.#check(next, snapshot, event);
    share(next, snapshot);
    return { snapshot: next, effects: this.#effects };
  }

  /** Rebuilds a snapshot. Throws `incompatible_snapshot` if this machine has no such state. */
  restore(state: MachineState): MachineSnapshot {
    try {
      const snapshot = this.#resolve(this.machine, [
        state.value,
        state.context,
        state.status,
        state.output,
        state.history ?? null,
        state.error,
      ]);
      if (state.children !== undefined)
        this.#tree.rebuild(snapshot, state.children, (machine, packed) => this.#resolve(machine, packed));
      return snapshot;
    } catch (cause) {
      throw cause instanceof KeyturnError ? cause : this.#incompatible(state, cause);
    }
  }

  /** A snapshot without children. Throws if the machine has no such state. */
  #resolve(machine: Machine, packed: PackedMachine): MachineSnapshot {
    const [value, context, status, output, history, error] = packed;
    seal(context, "context");
    const historyValue: Record<string, unknown> = {};
    for (const [node, ids] of Object.entries(history ?? {}))
      historyValue[node] = ids.map((id) => nodeOf(machine, id));
    const config = { value, context, status, output, error, historyValue };
    const snapshot = machine.resolveState(config as never) as MachineSnapshot;
    // XState fills in initial states where the machine has become deeper; nobody has entered those.
    if (!sameValue(snapshot.value, value)) throw this.#incompatible({ value }, undefined);
    // XState takes it for done where its nodes are final; it may have failed before.
    (snapshot as { status: string }).status = status;
    settle(snapshot);
    share(snapshot, undefined);
    return snapshot;
  }

  #incompatible(state: { readonly value: StateValue }, cause: unknown): KeyturnError {
    const why = cause === undefined ? "" : ` (${textOf(cause)})`;
    return new KeyturnError(
      "incompatible_snapshot",
      `The stored state ${JSON.stringify(state.value)} of a "${this.#type}" is not a state of its machine${why}. ` +
        "Deploy a machine that has it, or a migration.",
      { cause },
    );
  }

  #log(params: unknown): void {
    const { label, value } = params as { label?: string; value: unknown };
    this.logger?.(this.#acting?.owner ?? "", label, value);
  }

  /** Tags of a state; none if this machine does not have it. */
  tagsOf(value: unknown): readonly string[] {
    try {
      return [...(this.machine.resolveState({ value } as never) as MachineSnapshot).tags];
    } catch {
      return [];
    }
  }

  /** The logic of a child as its machine names it. */
  logicOf(actor: XActor): ActorLogic {
    return this.#tree.logicOf(actor);
  }

  /**
   * Runs a custom action of a committed turn: what it reads of its actors is of that turn, whatever it sends, now or
   * later, is sent to them.
   */
  runFor(owner: string, snapshot: MachineSnapshot | undefined, action: ActionEffect): unknown {
    this.#acting = { owner, snapshot };
    for (const { actor } of familyOf(snapshot)?.members.values() ?? []) this.#owners.set(actor, owner);
    try {
      return action.run();
    } finally {
      this.#acting = undefined;
    }
  }

  /** The arguments of an action that runs now, bound to the actor that it is of. */
  #bound(info: ExecutableAction["info"], actor: XActor): object {
    const acting = this.#acting;
    if (acting === undefined) return info;
    const family = familyOf(acting.snapshot);
    const bind = (one: XActor): XActor => {
      const session = this.#sessionOf(one);
      const snapshot = session === undefined ? acting.snapshot : family?.bySession(session)?.snapshot;
      const send = (event: EventObject): void => this.outlet?.(acting.owner, session, event);
      const bound = Object.create(one) as XActor;
      Object.defineProperties(bound, {
        send: { value: send },
        _send: { value: send },
        getSnapshot: { value: () => snapshot ?? one._snapshot },
      });
      return bound;
    };
    const named = (id: string): XActor | undefined => {
      const found = family?.keyed.get(id);
      return found === undefined ? undefined : bind(found);
    };
    const all = (): object =>
      Object.fromEntries([...(family?.keyed ?? [])].map(([id, one]) => [id, bind(one)]));
    const system = Object.create(info.system as object) as object;
    Object.defineProperties(system, { get: { value: named }, getAll: { value: all } });
    return { ...info, self: bind(actor), system };
  }

  /** An event that user code sent one of its actors outside of a step. */
  #sentOutside(target: XActor, event: EventObject): void {
    const owner = this.#owners.get(target) ?? this.#acting?.owner;
    if (owner !== undefined) this.outlet?.(owner, this.#sessionOf(target), event);
  }

  #begin(timers: readonly Timer[], turn: number, now: number): void {
    const effects = this.#effects;
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
    this.#tree.begin(turn, Math.max(now, this.bornAfter));
  }

  /** The session of a child, undefined for the machine itself. */
  #sessionOf(actor: XActor): string | undefined {
    return actor === this.#tree.root ? undefined : actor.sessionId;
  }

  #collect(action: ExecutableAction, actor: XActor): void {
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
      this.#effects.actions.push({
        name: action.type,
        run: () => exec(this.#bound(action.info, actor), action.params),
      });
  }

  #collectOwn(spec: EffectSpec, action: ExecutableAction): void {
    const value = (expression: unknown): unknown =>
      typeof expression === "function" ? expression(action.info, action.params) : expression;
    if (spec.kind === "tell") this.#tell(value(spec.to), value(spec.event), undefined);
    else if (spec.kind === "perform") {
      const { replied, reply, wishes, deferred = false } = spec.run();
      this.#effects.deferred = deferred;
      if (replied) {
        this.#effects.replied = true;
        this.#effects.reply = reply;
      }
      for (const wish of wishes) this.#grant(wish);
    } else if (spec.kind === "tellAll") {
      for (const [to, event] of value(spec.tells) as Iterable<readonly [unknown, unknown]>)
        this.#tell(to, event, undefined);
    } else {
      this.#effects.replied = true;
      this.#effects.reply = withoutRefs(value(spec.value));
    }
  }

  #grant(wish: Wish): void {
    switch (wish.kind) {
      case "tell":
        this.#tell(wish.to, wish.event, undefined);
        return;
      case "emit":
        seal(wish.event, "the emitted event");
        this.#effects.emitted.push(wish.event);
        return;
      case "later": {
        const { id, delay_ms, event, spare } = wish;
        if (spare !== undefined && this.#effects.timers.length + spare.timers >= limits.timersPerActor)
          this.#grant(spare.instead);
        else this.#setTimer(id, delay_ms, event, undefined, undefined);
        return;
      }
      case "cancel":
        this.#cancel((timer) => timer.source === undefined && timer.id === wish.id);
        return;
      case "answer": {
        const { to, value, error } = wish;
        const fault = error === undefined ? undefined : new KeyturnError(error.code, error.message);
        this.#effects.answers.push({ to, value, error: fault });
        return;
      }
    }
  }

  #tell(to: unknown, event: unknown, asker: string | undefined): void {
    if (this.#effects.tells.length >= limits.tellsPerTurn) {
      throw new KeyturnError("tell_invalid", `One turn may tell at most ${limits.tellsPerTurn} messages.`);
    }
    this.#effects.tells.push({ to, event: withoutRefs(event), asker });
  }

  #collectBuiltIn(action: ExecutableAction, actor: XActor): void {
    const params = action.params as SendParams;
    const own = actor === this.#tree.root;
    switch (action.type) {
      case "xstate.raise":
        // A child's is set when XState gets to it, so that it is gone if the child ends meanwhile.
        if (typeof params.delay !== "number") return;
        if (own) this.#setTimer(params.id, params.delay, params.event, undefined, undefined);
        else action.exec?.(action.info, action.params);
        return;
      case "xstate.sendTo":
        // In the order of the actions: a cancel that follows is to find it.
        if (own && typeof params.delay === "number" && typeof params.to === "object" && OPAQUE in params.to)
          this.#setTimer(params.id, params.delay, params.event, undefined, this.#sessionOf(params.to));
        else action.exec?.(action.info, action.params);
        return;
      case "xstate.cancel":
        if (own) this.#cancel((timer) => timer.source === undefined && timer.id === params.sendId);
        else action.exec?.(action.info, action.params);
        return;
      case "xstate.emit":
        seal(params.event, "the emitted event");
        if (own) this.#effects.emitted.push(withoutRefs(params.event));
        else this.#effects.childEmitted.push([shownPath(pathOfActor(actor)), withoutRefs(params.event)]);
        return;
      case "xstate.log":
        this.#effects.actions.push({ name: "log", run: () => this.#log(action.params) });
        return;
      default:
        action.exec?.(action.info, action.params);
    }
  }

  #setTimer(
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
    const timers = this.#effects.timers.filter((timer) => timer.id !== name || timer.source !== source);
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
    this.#effects.timers = timers;
  }

  #cancel(which: (timer: Timer) => boolean): void {
    const { timers } = this.#effects;
    if (timers.some(which)) this.#effects.timers = timers.filter((timer) => !which(timer));
  }

  /** What an actor does outside is kept as a timer of its own: due at once, there until the actor ends. */
  #beginWork(actor: XActor): void {
    const event: WorkEvent = { type: WORK, begun: this.#now, attempt: 1 };
    this.#setTimer(WORK, 0, event, actor.sessionId, actor.sessionId, false);
  }

  #question(actor: XActor): void {
    const { to, event, timeout_ms } = (actor._snapshot.input ?? {}) as Record<string, unknown>;
    this.#tell(to, event, actor.sessionId);
    if (timeout_ms === undefined) return;
    const text = `${String(to)} did not answer within ${String(timeout_ms)} ms. What it was asked may be done, now or later.`;
    const error = new KeyturnError("timeout", text);
    const late = { type: PROMISE_REJECT, data: plainError(error) };
    this.#setTimer(ASK_TIMEOUT, Number(timeout_ms), late, actor.sessionId, actor.sessionId, false);
  }

  /** Whether what a step made can be kept. */
  #check(next: MachineSnapshot, before: MachineSnapshot | undefined, event: EventObject | undefined): void {
    // A child's error that the machine does not handle ends it, if it came from outside. One that was thrown in this
    // very turn is the turn's failure.
    if (next.status === "error") {
      const given = event !== undefined && "data" in event;
      if (!given || next.error !== (event as { data?: unknown }).data) throw this.#failure(next.error);
      this.#sealed(next.error, "error", undefined);
    }
    if (next._nodes !== before?._nodes) settle(next);
    if (next.context !== before?.context && this.#checkContext(next.context, before?.context)) {
      this.#tree.ensureFamily(next);
      noteRefs(next);
    } else if (mayHoldRefs(before)) noteRefs(next);
    this.#dropOrphans(next, before);
    if (next.status === "active") return;
    if (next.output !== undefined) this.#sealed(next.output, "output", before?.output);
    // Nothing can happen to an actor that is done.
    if (this.#effects.timers.length > 0) this.#effects.timers = [];
  }

  /** An actor that another of the same id has taken the place of is not part of the state: nor is what it waits for. */
  #dropOrphans(next: MachineSnapshot, before: MachineSnapshot | undefined): void {
    const family = familyOf(next);
    if (family === undefined && familyOf(before) === undefined) return;
    this.#cancel(
      ({ source }) => source !== undefined && source !== "" && family?.bySession(source) === undefined,
    );
  }

  #checkChild(next: ChildSnapshot, before: ChildSnapshot | undefined, id: string): void {
    const names = ["context", "output", "input", "error"] as const;
    for (const name of names) {
      const value = next[name];
      if (value !== undefined && value !== before?.[name])
        this.#sealed(value, `${name} of "${id}"`, before?.[name]);
    }
  }

  /** Returns whether a reference to an actor is in what is new. */
  #checkContext(context: Record<string, unknown>, before: Record<string, unknown> | undefined): boolean {
    if (before === undefined) {
      this.#sealed(context, "context", this.machine.config.context);
      return sawOpaque();
    }
    let refs = false;
    for (const name in context) {
      const value = context[name];
      // Numbers and truths need no look; most turns change nothing else.
      if (value !== before[name] && typeof value !== "number" && typeof value !== "boolean") {
        this.#sealed(value, `context.${name}`, before[name]);
        refs ||= sawOpaque();
      }
    }
    Object.freeze(context);
    return refs;
  }

  #sealed(value: unknown, name: string, known: unknown): void {
    try {
      seal(value, name, known);
    } catch (fault) {
      if (!(fault instanceof ValueFault)) throw fault;
      throw new KeyturnError("context_invalid", fault.message, { cause: fault });
    }
  }

  /** What went wrong in a step, as one of our errors. The actor is as it was. */
  #failure(error: unknown): KeyturnError {
    if (error instanceof KeyturnError) return error;
    if (error instanceof ValueFault)
      return new KeyturnError("context_invalid", error.message, { cause: error });
    const text = textOf(error);
    if (text.startsWith("Infinite loop detected")) {
      return new KeyturnError(
        "machine_looped",
        `"${this.#type}" took more than ${limits.microsteps} steps for one event without coming to rest. Look for eventless or raised transitions in a circle.`,
        { cause: error },
      );
    }
    if (
      error instanceof TypeError &&
      /read only property|not extensible|Cannot delete property|sealed array/.test(text)
    ) {
      return new KeyturnError(
        "context_mutated",
        `"${this.#type}" changed its context or event in place (${text}). Return new values from assign instead.`,
        { cause: error },
      );
    }
    return new KeyturnError("machine_failed", `"${this.#type}" threw: ${text}`, { cause: error });
  }
}

function sealNamed(value: unknown, code: "timers_full", name: string): void {
  try {
    seal(value, name);
  } catch (fault) {
    if (fault instanceof ValueFault) throw new KeyturnError(code, fault.message, { cause: fault });
    throw fault;
  }
}

const noTags: Set<string> = new Set();

/** XState builds tags and value anew for every snapshot. Shared, an actor takes two thirds of the memory. */
function share(next: MachineSnapshot, before: MachineSnapshot | undefined): void {
  if (next.tags.size === 0) next.tags = noTags;
  if (before === undefined || next === before || !sameStates(next, before)) return;
  next.tags = before.tags;
  next.value = before.value;
}

/** A snapshot as plain data. */
export function persist(snapshot: MachineSnapshot): MachineState {
  const family = familyOf(snapshot);
  if (family === undefined && snapshot.error === undefined) {
    return {
      value: snapshot.value,
      context: snapshot.context,
      status: snapshot.status,
      output: snapshot.output,
      history: historyOf(snapshot),
    };
  }
  const [value, context, status, output, history, error] = packMachine(snapshot);
  return { value, context, status, output, history: history ?? undefined, error, children: family?.pack() };
}

/**
 * One of our errors as machines see it and as it is stored: an Error like those that promises throw, with `code`,
 * `outcome` and `retryable`. Others are values like any other (words/values.ts). Records from before hold the same
 * properties in a plain object.
 */
export function plainError(error: unknown): unknown {
  if (!(error instanceof KeyturnError)) return error;
  const { message, ...known } = error.toJSON();
  return rebuilt([0, error.name, message, known]);
}

function sameValue(a: StateValue, b: StateValue): boolean {
  if (typeof a === "string" || typeof b === "string") return a === b;
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length &&
    names.every((name) => {
      const [mine, other] = [a[name], b[name]];
      return mine !== undefined && other !== undefined && sameValue(mine, other);
    })
  );
}

/** Whether two snapshots are in the same states; XState keeps the node list when they are. */
export function sameStates(a: MachineSnapshot, b: MachineSnapshot): boolean {
  return a._nodes === b._nodes;
}

/** XState's own search takes the dots of an id that was given for a path. */
function nodeOf(machine: Machine, id: string): Machine["root"] {
  for (const node of walkNodes(machine.root)) if (node.id === id) return node;
  throw new Error(`There is no state node "${id}".`);
}

function* walkNodes(node: Machine["root"]): Generator<Machine["root"]> {
  yield node;
  for (const child of Object.values(node.states)) yield* walkNodes(child as Machine["root"]);
}
