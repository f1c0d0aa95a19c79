/**
 * Planned steps: XState's steps by plans (plans.ts), without working out anew what is always the same.
 *
 * What a step gives is what XState gives. Whatever a plan does not cover is XState's, and so is any error: such a step is
 * begun anew by XState, so guards and expressions, which are pure, may run twice. A step is as in XState's `macrostep`:
 * one microstep for the event, and then as many as eventless transitions and raised events ask for.
 *
 * Owns the running of plans. Talks to XState's actions by their `resolve` and `execute`, as XState does.
 *
 * Invariant: a step that is not done to its end has collected nothing.
 */
import type { EventObject } from "xstate";
import { limits } from "../../words/limits.ts";
import type { ExecutableAction, Machine, MachineSnapshot, Scope } from "./internals.ts";
import type { Transition } from "./microstep.ts";
import { type Action, type BuiltIn, type Configuration, type Expression, type Plan, Plans } from "./plans.ts";
import { choose, chooseEventless } from "./selection.ts";

/** Thrown by a step that XState must take. */
const LEFT = Symbol("left to XState");

const leave = (): never => {
  throw LEFT;
};

const steps = new WeakMap<object, PlannedSteps>();

/** Makes a machine take planned steps where it can. Changes the machine. */
export function planSteps(machine: Machine): void {
  const planned = new PlannedSteps(machine);
  steps.set(machine, planned);
  const byXState = machine.transition as unknown as PlannedSteps["step"];
  const transition: PlannedSteps["step"] = (snapshot, event, scope) =>
    planned.step(snapshot, event, scope) ?? byXState(snapshot, event, scope);
  machine.transition = transition as never;
}

/**
 * Puts a snapshot's states into document order, and lets it share what is the same for all that are in those states.
 * XState keeps them in the order in which they were entered, and takes eventless transitions of several regions in that
 * order: a restored actor would take them otherwise.
 */
export function settle(snapshot: MachineSnapshot): void {
  snapshot._nodes.sort((a, b) => a.order - b.order);
  steps.get(snapshot.machine)?.share(snapshot);
}

/** The steps of one machine. */
export class PlannedSteps {
  readonly #machine: Machine;
  readonly #plans: Plans;
  readonly #taken: Transition[] = [];
  readonly #collected: ExecutableAction[] = [];
  readonly #raised: EventObject[] = [];
  /** Where the step has come to. */
  #at: Configuration | undefined;
  #context: unknown;
  #isShuffled = false;
  /** The step's first plan: where XState has to take over, it is not tried again. */
  #first: Plan | undefined;
  /** A machine may be its own child; what that does in between is XState's. */
  #isBusy = false;

  constructor(machine: Machine) {
    this.#machine = machine;
    this.#plans = new Plans(machine);
  }

  /** The snapshot after an event; undefined if XState is to take the step, of which nothing was done then. */
  step(snapshot: MachineSnapshot, event: EventObject, scope: Scope): MachineSnapshot | undefined {
    if (snapshot.status !== "active" || this.#isBusy) return undefined;
    const configuration = this.#plans.configurationOf(snapshot);
    if (configuration === undefined) return undefined;
    this.#isBusy = true;
    this.#at = configuration;
    try {
      const next = this.#evaluate(snapshot, event, scope);
      if (next !== undefined) for (const action of this.#collected) scope.actionExecutor(action);
      return next;
    } finally {
      this.#forget();
    }
  }

  /** Lets a snapshot share what is the same for all that are in the same states. */
  share(snapshot: MachineSnapshot): void {
    const configuration = this.#plans.configurationOf(snapshot);
    if (configuration === undefined) return;
    const own = snapshot as { _nodes: unknown; value: unknown; tags: unknown };
    own._nodes = configuration.nodes;
    own.value = configuration.value;
    own.tags = configuration.tags;
  }

  #forget(): void {
    this.#isBusy = false;
    this.#isShuffled = false;
    this.#first = undefined;
    this.#context = undefined;
    if (this.#taken.length > 0) this.#taken.length = 0;
    if (this.#collected.length > 0) this.#collected.length = 0;
    if (this.#raised.length > 0) this.#raised.length = 0;
  }

  #evaluate(snapshot: MachineSnapshot, event: EventObject, scope: Scope): MachineSnapshot | undefined {
    const configuration = this.#at as Configuration;
    const choice = this.#plans.choice(configuration, event.type);
    if (choice === undefined) return undefined;
    try {
      choose(choice, snapshot, event, this.#taken);
      const next = this.#microstep(snapshot, event, scope);
      if (next === undefined) return undefined;
      if (this.#raised.length === 0 && (this.#at as Configuration).eventless === undefined) return next;
      return this.#goOn(next, event, scope);
    } catch (error) {
      // An error is XState's to report. Only what can never be planned is not tried again.
      if (error === LEFT && this.#first !== undefined) this.#first.isOff = true;
      return undefined;
    }
  }

  /** Takes eventless transitions, and then raised events, until there are none. */
  #goOn(start: MachineSnapshot, event: EventObject, scope: Scope): MachineSnapshot {
    const taken = this.#taken;
    const most = this.#machine.options?.maxIterations ?? limits.microsteps;
    let now = start;
    let cause = event;
    let isChanged = true;
    for (let count = 1; count <= most; count++) {
      taken.length = 0;
      const { eventless } = this.#at as Configuration;
      if (isChanged && eventless !== undefined) {
        if (this.#isShuffled) leave();
        chooseEventless(eventless, now, cause, taken);
      }
      const isEventless = taken.length > 0;
      if (!isEventless) {
        const raised = this.#raised.shift();
        if (raised === undefined) return now;
        cause = raised;
        choose(this.#plans.choice(this.#at as Configuration, cause.type) ?? leave(), now, cause, taken);
      }
      const next = this.#microstep(now, cause, scope) ?? leave();
      isChanged = !isEventless || next !== now;
      now = next;
    }
    return leave();
  }

  /** Takes the chosen transitions; undefined if there is no plan for them. */
  #microstep(snapshot: MachineSnapshot, event: EventObject, scope: Scope): MachineSnapshot | undefined {
    if (this.#taken.length === 0) return snapshot;
    const before = this.#at as Configuration;
    const plan = this.#plans.plan(before, this.#taken);
    if (plan === undefined) return undefined;
    this.#first ??= plan;
    this.#context = snapshot.context;
    for (const action of plan.actions) this.#resolve(action, snapshot, event, scope);
    const { after } = plan;
    this.#at = after;
    if (plan.isShuffled) this.#isShuffled = true;
    if (after === before && this.#context === snapshot.context) return snapshot;
    return snapshotAfter(snapshot, after, this.#context);
  }

  #resolve(action: Action, snapshot: MachineSnapshot, event: EventObject, scope: Scope): void {
    const { assignment, resolve, run, type } = action;
    const { self, system } = scope;
    const context = this.#context;
    const params =
      typeof action.params === "function"
        ? (action.params as Expression)({ context, event }, undefined)
        : action.params;
    if (assignment !== undefined) {
      if (context === undefined || context === null) leave();
      const args = { context, event, spawn: leave, self, system };
      this.#context = assigned(assignment, context as object, params, args);
      return;
    }
    const info = { context, event, self, system };
    if (resolve === undefined) {
      this.#collected.push({ type, info, params, exec: run as ExecutableAction["exec"] });
      return;
    }
    const now = context === snapshot.context ? snapshot : snapshotAfter(snapshot, undefined, context);
    const extra = { internalQueue: this.#raised, deferredActorIds: undefined };
    const [, resolved, more] = resolve(scope, now, info, params, run, extra);
    const { execute } = run as BuiltIn;
    if (execute !== undefined)
      this.#collected.push({ type, info, params: resolved, exec: () => execute(scope, resolved) });
    for (const one of more ?? []) this.#resolve(this.#plans.read(one) ?? leave(), snapshot, event, scope);
  }
}

function assigned(
  assignment: Expression | Readonly<Record<string, unknown>>,
  context: object,
  params: unknown,
  args: object,
): object {
  if (typeof assignment === "function") return { ...context, ...(assignment(args, params) as object) };
  const next = { ...context } as Record<string, unknown>;
  for (const name of Object.keys(assignment)) {
    const value = assignment[name];
    next[name] = typeof value === "function" ? (value as Expression)(args, params) : value;
  }
  return next;
}

/** A snapshot with the fields, and the order of fields, of XState's own. */
function snapshotAfter(
  before: MachineSnapshot,
  configuration: Configuration | undefined,
  context: unknown,
): MachineSnapshot {
  const at = configuration ?? { nodes: before._nodes, value: before.value, tags: before.tags };
  return {
    status: before.status,
    output: before.output,
    error: before.error,
    machine: before.machine,
    context,
    _nodes: at.nodes,
    value: at.value,
    tags: at.tags,
    children: before.children,
    historyValue: before.historyValue,
    matches: before.matches,
    hasTag: before.hasTag,
    can: before.can,
    getMeta: before.getMeta,
    toJSON: before.toJSON,
  } as unknown as MachineSnapshot;
}
