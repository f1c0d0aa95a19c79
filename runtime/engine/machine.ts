/**
 * The machine: one pure step of an XState machine, and the only file of the runtime that imports XState.
 *
 * Owns the reused inert scope in which steps are evaluated, the collection of what a step wants done (`Effects`), and
 * the translation of snapshots into plain data and back. Talks to XState and to the value checks.
 *
 * Invariants:
 * 1. A step runs no effect: custom actions, tells, replies and timers are collected and left to the caller.
 * 2. A step that throws leaves nothing behind; the snapshot that went in is still valid.
 * 3. The context of every snapshot that comes out is deeply frozen plain data.
 * 4. `restore(persist(snapshot))` behaves like `snapshot`.
 *
 * `machine.transition` with a scope of our own is not a documented interface (the documented `transition` builds a
 * throw-away actor per call and is seven times slower); test/machine.test.ts pins what is relied on.
 */
import {
  type ActionArgs,
  type AnyMachineSnapshot,
  type AnyStateMachine,
  type ContextFrom,
  createActor,
  type EventFromLogic,
  type EventObject,
  type MachineContext,
  type ParameterizedObject,
  type SnapshotFrom,
  type StateValue,
} from "xstate";
import { KeyturnError, textOf } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { seal, ValueFault } from "../words/values.ts";

export type Machine = AnyStateMachine;
export type MachineSnapshot = AnyMachineSnapshot;
/** The events that a machine accepts. */
export type EventOf<M extends Machine> = EventFromLogic<M>;
export type ContextOf<M extends Machine> = ContextFrom<M>;
export type ValueOf<M extends Machine> = SnapshotFrom<M> extends { value: infer V } ? V : StateValue;

/** A timer that stands in an actor's state. */
export interface Timer {
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly due: number;
  /** Turn that set it: a firing meant for an older setting of the same id is told apart by it. */
  readonly generation: number;
  readonly event: EventObject;
}

/** A message that a step told another actor, not yet checked. */
export interface TellEffect {
  readonly to: unknown;
  readonly event: unknown;
}

/** A custom action, to be run after the commit, at most once. */
export interface ActionEffect {
  readonly name: string;
  /** What the action returns; a promise may still fail. */
  run(): unknown;
}

/** What one step wants done, in the order in which the machine asked for it. Reused: read it before the next step. */
export class Effects {
  tells: TellEffect[] = [];
  actions: ActionEffect[] = [];
  emitted: unknown[] = [];
  /** The actor's timers after the step; the same array as before if untouched. */
  timers: readonly Timer[] = [];
  replied = false;
  reply: unknown = undefined;
}

/** A snapshot as plain data. `history` maps history nodes to state node ids. */
export interface MachineState {
  readonly value: StateValue;
  readonly context: Readonly<Record<string, unknown>>;
  readonly status: MachineSnapshot["status"];
  readonly output: unknown;
  readonly history: Readonly<Record<string, readonly string[]>> | undefined;
}

const EFFECT = Symbol("keyturn.effect");

type TellSpec = { kind: "tell"; to: unknown; event: unknown };
type ReplySpec = { kind: "reply"; value: unknown };
type MarkedAction = ((...args: never[]) => void) & { [EFFECT]?: TellSpec | ReplySpec };

type Expression<C extends MachineContext, E extends EventObject, P, A extends EventObject, R> = (
  args: ActionArgs<C, E, A>,
  params: P,
) => R;

/** A value that is not a function. (With `unknown` TypeScript would not infer the expression's arguments.) */
type Plain = string | number | boolean | bigint | null | undefined | (object & { readonly call?: never });

/** An action in a machine, as XState types them. */
export type DurableAction<
  C extends MachineContext,
  E extends EventObject,
  P extends ParameterizedObject["params"] | undefined,
  A extends EventObject,
> = (args: ActionArgs<C, E, A>, params: P) => void;

function mark<A extends (...args: never[]) => void>(spec: TellSpec | ReplySpec, name: string): A {
  // Outside the runtime, in a plain XState actor, the action does nothing.
  const action: MarkedAction = () => undefined;
  Object.defineProperty(action, "name", { value: name });
  action[EFFECT] = spec;
  return action as A;
}

/**
 * Tells another actor, from inside a machine: the message is part of this turn's record, leaves after the commit,
 * and is applied exactly once.
 * @param to an address, `type/key`
 */
export function tell<
  C extends MachineContext,
  E extends EventObject,
  P extends ParameterizedObject["params"] | undefined,
  A extends EventObject,
>(
  to: string | Expression<C, E, P, A, string>,
  event: (EventObject & { readonly [name: string]: unknown }) | Expression<C, E, P, A, EventObject>,
): DurableAction<C, E, P, A> {
  return mark({ kind: "tell", to, event }, "tell");
}

/**
 * Answers whoever asked, from inside a machine. The last reply of a turn counts; without one the asker gets the new
 * state. Ignored when nobody asked.
 */
export function reply<
  C extends MachineContext,
  E extends EventObject,
  P extends ParameterizedObject["params"] | undefined,
  A extends EventObject,
>(value: Plain | Expression<C, E, P, A, unknown>): DurableAction<C, E, P, A> {
  return mark({ kind: "reply", value }, "reply");
}

interface ExecutableAction {
  type: string;
  info: { context: unknown; event: unknown };
  params: unknown;
  exec: (MarkedAction & ((info: unknown, params: unknown) => void)) | undefined;
}

const noop = (): void => undefined;

/** Runs steps of one machine. One per actor type and node. */
export class MachineHost {
  readonly machine: Machine;
  readonly #scope: Record<string, unknown>;
  readonly #self: unknown;
  readonly #type: string;
  readonly #effects = new Effects();
  /** Event types that some transition names; undefined if a wildcard takes any. */
  readonly #types: ReadonlySet<string> | undefined;
  /** What comes before the `.*` of partial wildcards. */
  readonly #families: readonly string[];
  #now = 0;
  #turn = 0;
  #unnamed = 0;

  constructor(type: string, machine: Machine) {
    this.#type = type;
    refuseChildren(type, machine);
    // A copy, so that the bound on eventless loops is ours and the user's own machine is left alone.
    this.machine = machine.provide({});
    const options = this.machine.options as { maxIterations: number };
    options.maxIterations = Math.min(options.maxIterations, limits.microsteps);
    // Not `machine.events`: that leaves out transitions which do nothing.
    const names = [...walkNodes(this.machine.root)].flatMap((node) => [...node.transitions.keys()]);
    this.#types = names.includes("*") ? undefined : new Set(names);
    this.#families = names.filter((name) => name.endsWith(".*")).map((name) => name.slice(0, -2));
    const self = createActor(this.machine);
    this.#self = self;
    this.#scope = {
      self,
      system: self.system,
      id: type,
      sessionId: type,
      defer: noop,
      logger: noop,
      stopChild: noop,
      emit: noop,
      actionExecutor: (action: ExecutableAction) => this.#collect(action),
    };
    if (typeof machine.config.context === "object")
      this.#sealed(machine.config.context, "context", undefined);
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
  start(key: string, turn: number, now: number): { snapshot: MachineSnapshot; effects: Effects } {
    this.#begin([], turn, now);
    let snapshot: MachineSnapshot;
    try {
      snapshot = this.machine.getInitialSnapshot(this.#scope as never, { type: this.#type, key } as never);
    } catch (error) {
      throw this.#failure(error);
    }
    this.#check(snapshot, undefined);
    share(snapshot, undefined);
    return { snapshot, effects: this.#effects };
  }

  /** The snapshot after one event. `timers` are the actor's; `continuing` keeps the effects of `start`. */
  step(
    snapshot: MachineSnapshot,
    event: EventObject,
    timers: readonly Timer[],
    turn: number,
    now: number,
    continuing = false,
  ): { snapshot: MachineSnapshot; effects: Effects } {
    if (!continuing) this.#begin(timers, turn, now);
    // An XState actor that is done takes no event; `transition` by itself would.
    if (snapshot.status !== "active") return { snapshot, effects: this.#effects };
    let next: MachineSnapshot;
    try {
      next = this.machine.transition(snapshot, event as never, this.#scope as never) as MachineSnapshot;
    } catch (error) {
      throw this.#failure(error);
    }
    this.#check(next, snapshot);
    share(next, snapshot);
    return { snapshot: next, effects: this.#effects };
  }

  /** Rebuilds a snapshot. Throws `incompatible_snapshot` if this machine has no such state. */
  restore(state: MachineState): MachineSnapshot {
    try {
      seal(state.context, "context");
      const historyValue: Record<string, unknown> = {};
      for (const [node, ids] of Object.entries(state.history ?? {})) {
        historyValue[node] = ids.map((id) => this.#nodeOf(id));
      }
      const snapshot = this.machine.resolveState({
        value: state.value,
        context: state.context,
        status: state.status,
        output: state.output,
        historyValue,
      } as never) as MachineSnapshot;
      // XState fills in initial states where the machine has become deeper; nobody has entered those.
      if (!sameValue(snapshot.value, state.value)) throw this.#incompatible(state, undefined);
      sortNodes(snapshot);
      share(snapshot, undefined);
      return snapshot;
    } catch (cause) {
      throw cause instanceof KeyturnError ? cause : this.#incompatible(state, cause);
    }
  }

  /** XState's own search takes the dots of an id that was given for a path. */
  #nodeOf(id: string): Machine["root"] {
    for (const node of walkNodes(this.machine.root)) if (node.id === id) return node;
    throw new Error(`There is no state node "${id}".`);
  }

  #incompatible(state: MachineState, cause: unknown): KeyturnError {
    return new KeyturnError(
      "incompatible_snapshot",
      `The stored state ${JSON.stringify(state.value)} of a "${this.#type}" is not a state of its machine. ` +
        "Deploy a machine that has it, or a migration.",
      { cause },
    );
  }

  #begin(timers: readonly Timer[], turn: number, now: number): void {
    const effects = this.#effects;
    if (effects.tells.length > 0) effects.tells = [];
    if (effects.actions.length > 0) effects.actions = [];
    if (effects.emitted.length > 0) effects.emitted = [];
    effects.timers = timers;
    effects.replied = false;
    effects.reply = undefined;
    this.#turn = turn;
    this.#now = now;
    this.#unnamed = 0;
  }

  #collect(action: ExecutableAction): void {
    const { exec } = action;
    const spec = exec?.[EFFECT];
    if (spec !== undefined) this.#collectOwn(spec, action);
    else if (exec === undefined) {
      throw new KeyturnError(
        "machine_failed",
        `The action "${action.type}" of "${this.#type}" has no implementation. Give it one in setup({ actions }).`,
      );
    } else if (action.type.startsWith("xstate.")) this.#collectBuiltIn(action);
    else this.#effects.actions.push({ name: action.type, run: () => exec(action.info, action.params) });
  }

  #collectOwn(spec: TellSpec | ReplySpec, action: ExecutableAction): void {
    const value = (expression: unknown): unknown =>
      typeof expression === "function" ? expression(action.info, action.params) : expression;
    if (spec.kind === "tell") {
      if (this.#effects.tells.length >= limits.tellsPerTurn) {
        throw new KeyturnError("tell_invalid", `One turn may tell at most ${limits.tellsPerTurn} messages.`);
      }
      this.#effects.tells.push({ to: value(spec.to), event: value(spec.event) });
    } else {
      this.#effects.replied = true;
      this.#effects.reply = value(spec.value);
    }
  }

  #collectBuiltIn(action: ExecutableAction): void {
    const params = action.params as {
      event: EventObject;
      id?: string;
      delay?: number;
      to?: unknown;
      sendId?: string;
    };
    switch (action.type) {
      case "xstate.raise":
        if (typeof params.delay === "number") this.#setTimer(params.id, params.delay, params.event);
        return;
      case "xstate.sendTo":
        if (params.to !== this.#self)
          throw this.#unsupported("sendTo to another XState actor (use tell instead)");
        // To itself without a delay is still an event of its own, after this one: a timer that is due at once.
        this.#setTimer(params.id, params.delay ?? 0, params.event);
        return;
      case "xstate.cancel":
        this.#effects.timers = this.#effects.timers.filter((timer) => timer.id !== params.sendId);
        return;
      case "xstate.emit":
        seal(params.event, "the emitted event");
        this.#effects.emitted.push(params.event);
        return;
      case "xstate.log":
        this.#effects.actions.push({ name: "log", run: () => action.exec?.(action.info, action.params) });
        return;
      default:
        throw this.#unsupported(action.type);
    }
  }

  #setTimer(id: string | undefined, delay: number, event: EventObject): void {
    if (!(delay >= 0)) throw new KeyturnError("machine_failed", `A delay of ${delay} ms is not a time.`);
    sealNamed(event, "timers_full", "the delayed event");
    // XState would draw a random id; one derived from its place is the same on every replay.
    const name = id ?? `~${this.#turn}.${this.#unnamed++}`;
    const timers = this.#effects.timers.filter((timer) => timer.id !== name);
    if (timers.length >= limits.timersPerActor) {
      throw new KeyturnError(
        "timers_full",
        `An actor may have at most ${limits.timersPerActor} timers at a time.`,
      );
    }
    timers.push({ id: name, due: this.#now + delay, generation: this.#turn, event });
    this.#effects.timers = timers;
  }

  /** Whether what a step made can be kept. */
  #check(next: MachineSnapshot, before: MachineSnapshot | undefined): void {
    if (next.status === "error") throw this.#failure(next.error);
    if (next._nodes !== before?._nodes) sortNodes(next);
    if (next.children !== before?.children && Object.keys(next.children).length > 0) {
      throw this.#unsupported("spawned actors");
    }
    if (next.context !== before?.context) this.#checkContext(next.context, before?.context);
    if (next.status === "active") return;
    if (next.output !== undefined) this.#sealed(next.output, "output", before?.output);
    // Nothing can happen to an actor that is done.
    if (this.#effects.timers.length > 0) this.#effects.timers = [];
  }

  #checkContext(context: Record<string, unknown>, before: Record<string, unknown> | undefined): void {
    if (before === undefined) {
      this.#sealed(context, "context", this.machine.config.context);
      return;
    }
    for (const name in context) {
      const value = context[name];
      // Numbers and truths need no look; most turns change nothing else.
      if (value !== before[name] && typeof value !== "number" && typeof value !== "boolean") {
        this.#sealed(value, `context.${name}`, before[name]);
      }
    }
    Object.freeze(context);
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

  #unsupported(what: string): KeyturnError {
    return new KeyturnError(
      "unsupported_machine",
      `"${this.#type}" uses ${what}, which is not supported yet.`,
    );
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

/** A snapshot's history as node ids. */
export function historyOf(snapshot: MachineSnapshot): MachineState["history"] {
  const stored = snapshot.historyValue as unknown as Record<string, { id: string }[]>;
  const nodes = Object.keys(stored);
  if (nodes.length === 0) return undefined;
  return Object.fromEntries(nodes.map((node) => [node, (stored[node] ?? []).map((item) => item.id)]));
}

/** A snapshot as plain data. */
export function persist(snapshot: MachineSnapshot): MachineState {
  return {
    value: snapshot.value,
    context: snapshot.context,
    status: snapshot.status,
    output: snapshot.output,
    history: historyOf(snapshot),
  };
}

/**
 * Puts a snapshot's states into document order. XState keeps them in the order in which they were entered, and takes
 * eventless transitions of several regions in that order: a restored actor would take them otherwise.
 */
function sortNodes(snapshot: MachineSnapshot): void {
  snapshot._nodes.sort((a, b) => a.order - b.order);
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

function refuseChildren(type: string, machine: Machine): void {
  for (const node of walkNodes(machine.root)) {
    if (node.invoke.length > 0 || actionsOf(node).some(spawns)) {
      throw new KeyturnError(
        "unsupported_machine",
        `"${type}" invokes or spawns an actor in ${node.path.join(".") || "its root"}; invoked and spawned actors are not supported yet.`,
      );
    }
  }
}

function actionsOf(node: Machine["root"]): unknown[] {
  const transitions = [...node.transitions.values()].flat();
  return [...node.entry, ...node.exit, ...[...transitions, ...(node.always ?? [])].flatMap((t) => t.actions)];
}

/** Spawning from inside `assign` or `enqueueActions` cannot be seen before it happens. */
function spawns(action: unknown): boolean {
  return typeof action === "function" && (action as { type?: unknown }).type === "xstate.spawnChild";
}

function* walkNodes(node: Machine["root"]): Generator<Machine["root"]> {
  yield node;
  for (const child of Object.values(node.states)) yield* walkNodes(child as Machine["root"]);
}
