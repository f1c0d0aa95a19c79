/**
 * The machine: one pure step of an XState machine with all its children.
 *
 * Owns the order of a step: the tree (machine/tree.ts) runs XState's actors, the collector (machine/collector.ts) takes
 * what they want done, and what came of it is checked and frozen. XState is imported here and in the folder machine/, nowhere else in the engine.
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
import { KeyturnError } from "../words/errors.ts";
import { sawOpaque } from "../words/values.ts";
import { Collector } from "./machine/collector.ts";
import { BEGIN, type Effects, type Timer } from "./machine/effects.ts";
import { failureOf, sealState } from "./machine/failures.ts";
import { mayHoldRefs, noteRefs } from "./machine/family.ts";
import type { ActorLogic, ChildSnapshot, Machine, MachineSnapshot, XActor } from "./machine/internals.ts";
import { bounded } from "./machine/logic.ts";
import { Outside } from "./machine/outside.ts";
import { settle } from "./machine/planned.ts";
import { incompatible, type MachineState, resolveSnapshot, share, walkNodes } from "./machine/snapshots.ts";
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
  type ActionEffect,
  type AnswerEffect,
  BEGIN,
  type ChildEmitted,
  Effects,
  isAskTimeout,
  isWorkTimer,
  type ReceiveEffect,
  type TellEffect,
  type Timer,
  WORK,
  type WorkEvent,
} from "./machine/effects.ts";
export { plainError } from "./machine/failures.ts";
export {
  familyOf,
  historyOf,
  mayHoldRefs,
  type PackedChild,
  plainContext,
  withoutRefs,
} from "./machine/family.ts";
export type { Machine, MachineSnapshot } from "./machine/internals.ts";
export type { Logger, Outlet } from "./machine/outside.ts";
export { type MachineState, persist, sameStates } from "./machine/snapshots.ts";

/** The events that a machine accepts. */
export type EventOf<M extends Machine> = EventFromLogic<M>;
export type ContextOf<M extends Machine> = ContextFrom<M>;
/** What a machine begins with: `types: {} as { input: … }`. */
export type InputOf<M extends Machine> = InputFrom<M>;
export type ValueOf<M extends Machine> = SnapshotFrom<M> extends { value: infer V } ? V : StateValue;

const noChildren: ReadonlyMap<string, ActorLogic> = new Map();

/** Runs steps of one machine. One per actor type and node. */
export class MachineHost {
  readonly machine: Machine;
  /** Runs custom actions after the commit. */
  readonly outside: Outside;
  /** Time that sessions made in the next step are not named before. Set by who steps an actor that was deleted. */
  bornAfter = 0;
  readonly #tree: Tree;
  readonly #type: string;
  readonly #collector: Collector;
  readonly #effects: Effects;
  /** Event types that some transition names; undefined if a wildcard takes any. */
  readonly #types: ReadonlySet<string> | undefined;
  /** What comes before the `.*` of partial wildcards. */
  readonly #families: readonly string[];

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
    // A copy, so that the bound on eventless loops is ours and the user's own machine is left alone.
    this.machine = bounded(machine);
    // Not `machine.events`: that leaves out transitions which do nothing.
    const names = [...walkNodes(this.machine.root)].flatMap((node) => [...node.transitions.keys()]);
    this.#types = names.includes("*") ? undefined : new Set(names);
    this.#families = names.filter((name) => name.endsWith(".*")).map((name) => name.slice(0, -2));
    const sessionOf = (actor: XActor): string | undefined =>
      actor === this.#tree.root ? undefined : actor.sessionId;
    this.outside = new Outside(sessionOf);
    const collector = new Collector(type, keepsDelays, sessionOf, this.outside);
    this.#collector = collector;
    this.#effects = collector.effects;
    this.#tree = new Tree(type, this.machine, children as ReadonlyMap<string, ActorLogic>, {
      collect: (action, actor) => collector.collect(action, actor),
      setTimer: (source, target, event, delay, id) =>
        collector.setTimer(id, delay, event, sessionOf(source), sessionOf(target)),
      cancelTimer: (source, id) => collector.cancel((t) => t.source === sessionOf(source) && t.id === id),
      cancelTimers: (source) => collector.cancel((t) => t.source === sessionOf(source)),
      begin: (actor) => collector.beginWork(actor),
      question: (actor) => collector.question(actor),
      receive: (actor, event) => collector.receive(actor, event),
      checkChild,
      sentOutside: (target, event) => this.outside.sentOutside(target, event),
    });
    if (typeof machine.config.context === "object") sealState(machine.config.context, "context", undefined);
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
      throw failureOf(this.#type, error);
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
      throw failureOf(this.#type, error);
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
      throw failureOf(this.#type, error);
    }
    this.#check(next, snapshot, event);
    share(next, snapshot);
    return { snapshot: next, effects: this.#effects };
  }

  /** Rebuilds a snapshot. Throws `incompatible_snapshot` if this machine has no such state. */
  restore(state: MachineState): MachineSnapshot {
    try {
      const snapshot = resolveSnapshot(this.#type, this.machine, [
        state.value,
        state.context,
        state.status,
        state.output,
        state.history ?? null,
        state.error,
      ]);
      if (state.children !== undefined)
        this.#tree.rebuild(snapshot, state.children, (machine, packed) =>
          resolveSnapshot(this.#type, machine, packed),
        );
      return snapshot;
    } catch (cause) {
      throw cause instanceof KeyturnError ? cause : incompatible(this.#type, state.value, cause);
    }
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

  #begin(timers: readonly Timer[], turn: number, now: number): void {
    this.#collector.begin(timers, turn, now);
    this.#tree.begin(turn, Math.max(now, this.bornAfter));
  }

  /** Whether what a step made can be kept. */
  #check(next: MachineSnapshot, before: MachineSnapshot | undefined, event: EventObject | undefined): void {
    // A child's error that the machine does not handle ends it, if it came from outside. One that was thrown in this
    // very turn is the turn's failure.
    if (next.status === "error") {
      const given = event !== undefined && "data" in event;
      if (!given || next.error !== (event as { data?: unknown }).data)
        throw failureOf(this.#type, next.error);
      sealState(next.error, "error", undefined);
    }
    if (next._nodes !== before?._nodes) settle(next);
    if (next.context !== before?.context && this.#checkContext(next.context, before?.context)) {
      this.#tree.ensureFamily(next);
      noteRefs(next);
    } else if (mayHoldRefs(before)) noteRefs(next);
    this.#collector.dropOrphans(next, before);
    if (next.status === "active") return;
    if (next.output !== undefined) sealState(next.output, "output", before?.output);
    // Nothing can happen to an actor that is done.
    if (this.#effects.timers.length > 0) this.#effects.timers = [];
  }

  /** Returns whether a reference to an actor is in what is new. */
  #checkContext(context: Record<string, unknown>, before: Record<string, unknown> | undefined): boolean {
    if (before === undefined) {
      sealState(context, "context", this.machine.config.context);
      return sawOpaque();
    }
    let refs = false;
    for (const name in context) {
      const value = context[name];
      // Numbers and truths need no look; most turns change nothing else.
      if (value !== before[name] && typeof value !== "number" && typeof value !== "boolean") {
        sealState(value, `context.${name}`, before[name]);
        refs ||= sawOpaque();
      }
    }
    Object.freeze(context);
    return refs;
  }
}

/** What a child has become in a step can be kept. */
function checkChild(next: ChildSnapshot, before: ChildSnapshot | undefined, id: string): void {
  const names = ["context", "output", "input", "error"] as const;
  for (const name of names) {
    const value = next[name];
    if (value !== undefined && value !== before?.[name])
      sealState(value, `${name} of "${id}"`, before?.[name]);
  }
}
