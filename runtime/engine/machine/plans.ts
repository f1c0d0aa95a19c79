/**
 * Plans: what a set of transitions does in one configuration, worked out once.
 *
 * In one configuration (a set of active states) one set of transitions always leaves and enters the same states, runs the
 * same list of actions and leads to the same configuration. XState works that out at every step.
 *
 * Owns the configurations of one machine, which the snapshots of all its actors share, and their plans. Which states are
 * left and entered says microstep.ts, what there is to choose from selection.ts.
 *
 * Invariant: configurations, event types and plans are bounded; past the bounds, and for what a plan does not cover
 * (history, final states, invoking and spawning), there is none, and XState steps.
 */
import type { Machine, MachineSnapshot, Scope } from "./internals.ts";
import {
  isAtomic,
  type Microstep,
  microstepOf,
  type Node,
  stateValueOf,
  type Transition,
} from "./microstep.ts";
import { type Choice, choiceOf, eventlessOf } from "./selection.ts";

/** Different sets of active states that are kept of one machine, and event types and plans of one such set. */
const CONFIGURATIONS_MAX = 4_096;
const EVENT_TYPES_MAX = 256;
const PLANS_MAX = 1_024;

const CONFIGURATION = Symbol("keyturn.configuration");

type NodeList = Node[] & { [CONFIGURATION]?: Configuration | undefined };

/** A set of active states. One object each, which the snapshots share. */
export interface Configuration {
  /** In the order of the document. */
  readonly nodes: NodeList;
  readonly value: unknown;
  readonly tags: Set<string>;
  /** What may be taken without an event, one for each active state that has no others within; undefined if nothing. */
  readonly eventless: readonly Choice[] | undefined;
  readonly choices: Map<string, Choice | undefined>;
  readonly plans: PlanNode;
  planCount: number;
}

/** Plans by the transitions that are taken, one after the other. */
interface PlanNode {
  plan: Plan | undefined | null;
  readonly next: Map<Transition, PlanNode>;
}

/** What one microstep does. */
export interface Plan {
  readonly actions: readonly Action[];
  readonly after: Configuration;
  /** Whether XState would look for eventless transitions in another order than that of the document. */
  readonly isShuffled: boolean;
  /** Set once it has turned out that XState must do it. */
  isOff: boolean;
}

export type Expression = (args: object, params: unknown) => unknown;

/** An action of a plan. `assignment` is set for assign, `resolve` for XState's other actions. */
export interface Action {
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

/** An action that XState brings along. */
export interface BuiltIn {
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

/** The plans of one machine. */
export class Plans {
  readonly #machine: Machine;
  readonly #configurations = new Map<string, Configuration>();

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  configurationOf(snapshot: MachineSnapshot): Configuration | undefined {
    const nodes = snapshot._nodes as NodeList;
    const known = nodes[CONFIGURATION];
    if (known !== undefined) return known;
    if (snapshot.machine !== this.#machine || !isInOrder(nodes)) return undefined;
    return this.#configuration(nodes, snapshot.value);
  }

  /** What there is to choose from for an event type. */
  choice({ choices, nodes, value }: Configuration, type: string): Choice | undefined {
    const known = choices.get(type);
    if (known !== undefined || choices.has(type)) return known;
    if (choices.size >= EVENT_TYPES_MAX) return undefined;
    // Stopping, and errors of children that nobody handles, are no transitions.
    const isSpecial = type === "xstate.stop" || type === "xstate.init" || type.startsWith("xstate.error.");
    const choice = isSpecial ? undefined : choiceOf(this.#machine, nodes, value, type);
    choices.set(type, choice);
    return choice;
  }

  /** The plan for those transitions. */
  plan(configuration: Configuration, taken: readonly Transition[]): Plan | undefined {
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
    if (at.plan === undefined) at.plan = this.#make(configuration, [...taken]) ?? null;
    return at.plan === null || at.plan.isOff ? undefined : at.plan;
  }

  /** An action as it stands in a machine's configuration; undefined if XState must do it. */
  read(action: unknown): Action | undefined {
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
    return RESOLVABLE.has(type) ? { type, run, params, assignment: undefined, resolve } : undefined;
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
      eventless: eventlessOf(this.#machine, nodes),
      choices: new Map(),
      plans: { plan: undefined, next: new Map() },
      planCount: 0,
    };
    nodes[CONFIGURATION] = configuration;
    this.#configurations.set(name, configuration);
    return configuration;
  }

  #make(before: Configuration, taken: readonly Transition[]): Plan | undefined {
    const microstep = microstepOf(taken, before.nodes);
    if (microstep === undefined) return undefined;
    const after = this.#after(before, microstep);
    if (after === undefined) return undefined;
    const { transitions, exited, entered, initial, nodes } = microstep;
    const named: unknown[] = [
      ...exited.flatMap(({ exit }) => exit as unknown[]),
      ...transitions.flatMap(({ actions }) => actions as unknown[]),
      ...entered.flatMap((node) => [
        ...(node.entry as unknown[]),
        ...(initial.has(node) ? (node.initial.actions as unknown[]) : []),
      ]),
    ];
    const actions: Action[] = [];
    for (const action of named) {
      const read = this.read(action);
      if (read === undefined) return undefined;
      actions.push(read);
    }
    const isShuffled = after !== before && !isInOrder(nodes.filter(isAtomic));
    return { actions, after, isShuffled, isOff: false };
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
}

function isInOrder(nodes: readonly Node[]): boolean {
  for (let at = 1; at < nodes.length; at++)
    if ((nodes[at - 1] as Node).order > (nodes[at] as Node).order) return false;
  return true;
}
