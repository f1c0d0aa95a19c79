/**
 * Planned steps: XState's steps, without working out anew at every step what is always the same.
 *
 * In one configuration (a set of active states) one set of transitions always leaves and enters the same states, runs the
 * same list of actions and leads to the same configuration. XState works that out at every step; a plan is made once.
 * What a step gives is what XState gives; whatever a plan does not cover is XState's: history, final states, invoking and
 * spawning, eventless transitions, raised events, errors. A step that turns out to be such is begun anew by XState, so
 * guards and expressions, which are pure, may run twice.
 *
 * Owns configurations, which the snapshots of all actors of a machine share, and plans. Talks to XState's actions by their
 * `resolve` and `execute`, as XState does; which states are left and entered says microstep.ts, what is chosen
 * selection.ts.
 *
 * Invariants:
 * 1. A step that is not done to its end has collected nothing.
 * 2. Configurations and plans are bounded; past the bounds XState steps.
 */
import type { EventObject } from "xstate";
import type { ExecutableAction, Machine, MachineSnapshot, Scope } from "./internals.ts";
import { type Microstep, microstepOf, type Node, type Transition, stateValueOf } from "./microstep.ts";
import { type Choice, choiceOf, choose } from "./selection.ts";

/** Different sets of active states that are kept of one machine, and event types and plans of one such set. */
const CONFIGURATIONS_MAX = 4_096;
const EVENT_TYPES_MAX = 256;
const PLANS_MAX = 1_024;

const CONFIGURATION = Symbol("keyturn.configuration");

type NodeList = Node[] & { [CONFIGURATION]?: Configuration | undefined };

/** A set of active states. One object each, which the snapshots share. */
interface Configuration {
  readonly nodes: NodeList;
  readonly value: unknown;
  readonly tags: Set<string>;
  /** Whether XState must look for eventless transitions. */
  readonly isEventless: boolean;
  readonly choices: Map<string, Choice | undefined>;
  readonly plans: PlanNode;
  planCount: number;
}

/** Plans by the transitions that are taken, one after the other. */
interface PlanNode {
  plan: Plan | undefined | null;
  readonly next: Map<Transition, PlanNode>;
}

interface Plan {
  readonly actions: readonly Action[];
  readonly after: Configuration;
  /** Set once it has turned out that XState must do it. */
  isOff: boolean;
}

type Expression = (args: object, params: unknown) => unknown;

/** An action of a plan. `assignment` is set for assign, `resolve` for XState's other actions. */
interface Action {
  readonly type: string;
  readonly run: unknown;
  readonly params: unknown;
  readonly assignment: Expression | Readonly<Record<string, unknown>> | undefined;
  readonly resolve: Resolve | undefined;
}

type Resolve = (
  scope: Scope,
  snapshot: MachineSnapshot,
  args: object,
  params: unknown,
  action: unknown,
  extra: object,
) => [snapshot: MachineSnapshot, params: unknown, actions: readonly unknown[] | undefined];

interface BuiltIn {
  readonly type: string;
  readonly resolve?: Resolve;
  readonly execute?: (scope: Scope, params: unknown) => void;
  readonly assignment?: Action["assignment"];
}

/** XState's actions whose `resolve` can be called as it is. */
const RESOLVABLE: ReadonlySet<string> = new Set([
  "xstate.emit",
  "xstate.log",
  "xstate.cancel",
  "xstate.raise",
  "xstate.sendTo",
  "xstate.enqueueActions",
]);

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
  readonly #configurations = new Map<string, Configuration>();
  readonly #taken: Transition[] = [];
  readonly #collected: ExecutableAction[] = [];
  readonly #raised: EventObject[] = [];
  #context: unknown;
  /** A machine may be its own child; what that does in between is XState's. */
  #isBusy = false;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** The snapshot after an event; undefined if XState is to take the step, of which nothing was done then. */
  step(snapshot: MachineSnapshot, event: EventObject, scope: Scope): MachineSnapshot | undefined {
    const configuration = this.#configurationOf(snapshot);
    if (configuration === undefined || configuration.isEventless) return undefined;
    if (snapshot.status !== "active" || this.#isBusy) return undefined;
    const choice = this.#choice(configuration, event.type);
    if (choice === undefined) return undefined;
    const taken = this.#taken;
    const collected = this.#collected;
    let plan: Plan | undefined;
    let context: unknown;
    this.#isBusy = true;
    try {
      choose(choice, snapshot, event, taken);
      if (taken.length === 0) return snapshot;
      plan = this.#plan(configuration, taken);
      if (plan === undefined) return undefined;
      this.#context = snapshot.context;
      for (const action of plan.actions) this.#resolve(action, snapshot, event, scope);
      if (this.#raised.length > 0) leave();
      context = this.#context;
    } catch (error) {
      // An error is XState's to report. Only what can never be planned is not tried again.
      if (error === LEFT && plan !== undefined) plan.isOff = true;
      this.#forget();
      return undefined;
    } finally {
      taken.length = 0;
      this.#isBusy = false;
    }
    this.#isBusy = true;
    try {
      for (const action of collected) scope.actionExecutor(action);
    } finally {
      this.#forget();
    }
    const { after } = plan;
    if (after === configuration && context === snapshot.context) return snapshot;
    return snapshotAfter(snapshot, after, context);
  }

  /** Lets a snapshot share what is the same for all that are in the same states. */
  share(snapshot: MachineSnapshot): void {
    const configuration = this.#configurationOf(snapshot);
    if (configuration === undefined) return;
    const own = snapshot as { _nodes: unknown; value: unknown; tags: unknown };
    own._nodes = configuration.nodes;
    own.value = configuration.value;
    own.tags = configuration.tags;
  }

  #forget(): void {
    this.#isBusy = false;
    if (this.#collected.length > 0) this.#collected.length = 0;
    if (this.#raised.length > 0) this.#raised.length = 0;
    this.#context = undefined;
  }

  #configurationOf(snapshot: MachineSnapshot): Configuration | undefined {
    const nodes = snapshot._nodes as NodeList;
    const known = nodes[CONFIGURATION];
    if (known !== undefined) return known;
    if (snapshot.machine !== this.#machine || !isInOrder(nodes)) return undefined;
    return this.#configuration(nodes, snapshot.value);
  }

  /** @param nodes in the order of the document */
  #configuration(nodes: NodeList, value: unknown): Configuration | undefined {
    // By both: the value tells the order of regions, and XState can be led into sets that no value describes.
    const name = `${JSON.stringify(value)} ${nodes.map(({ order }) => order).join()}`;
    const known = this.#configurations.get(name);
    if (known !== undefined) return known;
    if (this.#configurations.size >= CONFIGURATIONS_MAX) return undefined;
    const configuration: Configuration = {
      nodes,
      value,
      tags: new Set(nodes.flatMap(({ tags }) => tags as string[])),
      isEventless: nodes.some(({ always }) => always !== undefined),
      choices: new Map(),
      plans: { plan: undefined, next: new Map() },
      planCount: 0,
    };
    nodes[CONFIGURATION] = configuration;
    this.#configurations.set(name, configuration);
    return configuration;
  }

  #choice({ choices, nodes, value }: Configuration, type: string): Choice | undefined {
    const known = choices.get(type);
    if (known !== undefined || choices.has(type)) return known;
    if (choices.size >= EVENT_TYPES_MAX) return undefined;
    // Stopping, and errors of children that nobody handles, are no transitions.
    const isSpecial = type === "xstate.stop" || type === "xstate.init" || type.startsWith("xstate.error.");
    const choice = isSpecial ? undefined : choiceOf(this.#machine, nodes, value, type);
    choices.set(type, choice);
    return choice;
  }

  #plan(configuration: Configuration, taken: readonly Transition[]): Plan | undefined {
    let at = configuration.plans;
    for (const transition of taken) {
      let next = at.next.get(transition);
      if (next === undefined) {
        if (configuration.planCount >= PLANS_MAX) return undefined;
        configuration.planCount++;
        at.next.set(transition, (next = { plan: undefined, next: new Map() }));
      }
      at = next;
    }
    if (at.plan === undefined) at.plan = this.#makePlan(configuration, [...taken]) ?? null;
    return at.plan === null || at.plan.isOff ? undefined : at.plan;
  }

  #makePlan(before: Configuration, taken: readonly Transition[]): Plan | undefined {
    const microstep = microstepOf(taken, before.nodes);
    if (microstep === undefined) return undefined;
    const after = this.#after(before, microstep);
    if (after === undefined || after.isEventless) return undefined;
    const { transitions, exited, entered, initial } = microstep;
    const named: unknown[] = [
      ...exited.flatMap(({ exit }) => exit as unknown[]),
      ...transitions.flatMap(({ actions }) => actions as unknown[]),
      ...entered.flatMap((node) => [
        ...(node.entry as unknown[]),
        ...(initial.has(node) ? (node.initial.actions as unknown[]) : []),
      ]),
    ];
    try {
      return { actions: named.map((action) => this.#read(action)), after, isOff: false };
    } catch (error) {
      if (error === LEFT) return undefined;
      throw error;
    }
  }

  #after(before: Configuration, { nodes }: Microstep): Configuration | undefined {
    const known = new Set(before.nodes);
    if (nodes.length === known.size && nodes.every((node) => known.has(node))) return before;
    const value = stateValueOf(this.#machine.root, nodes);
    return this.#configuration(
      [...nodes].sort((a, b) => a.order - b.order),
      value,
    );
  }

  #read(action: unknown): Action {
    const isInline = typeof action === "function";
    const named = action as { readonly type: string; readonly params?: unknown };
    const name = typeof action === "string" ? action : named.type;
    const implementations = this.#machine.implementations.actions as Record<string, unknown>;
    const run = isInline ? action : implementations[name];
    const params = isInline || typeof action === "string" ? undefined : named.params;
    const { type, resolve, assignment } = (run ?? {}) as BuiltIn;
    if (run === undefined || resolve === undefined) {
      const shown = isInline ? action.name || "(anonymous)" : name;
      return { type: shown, run, params, assignment: undefined, resolve: undefined };
    }
    // By its name: a program may have XState twice, as two module formats.
    if (type === "xstate.assign") return { type, run, params, assignment, resolve: undefined };
    if (!RESOLVABLE.has(type)) leave();
    return { type, run, params, assignment: undefined, resolve };
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
      this.#context = assigned(assignment, context as object, params, {
        context,
        event,
        spawn: leave,
        self,
        system,
      });
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
    for (const one of more ?? []) this.#resolve(this.#read(one), snapshot, event, scope);
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

function isInOrder(nodes: readonly Node[]): boolean {
  for (let at = 1; at < nodes.length; at++)
    if ((nodes[at - 1] as Node).order > (nodes[at] as Node).order) return false;
  return true;
}
