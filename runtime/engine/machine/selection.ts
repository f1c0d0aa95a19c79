/**
 * Which transitions an event may take in one configuration, looked up once: XState looks for them at every step.
 *
 * Owns the order in which candidates are tried, innermost state first, and the reading of guards. What it cannot read is
 * left to XState (`undefined`).
 */
import type { EventObject } from "xstate";
import type { Machine, MachineSnapshot } from "./internals.ts";
import { ancestorsOf, isAtomic, type Node, type Transition } from "./microstep.ts";

type GuardFunction = ((args: object, params: unknown) => boolean) & {
  readonly check?: (snapshot: MachineSnapshot, args: object, guard: unknown) => boolean;
};

interface Guard {
  readonly run: GuardFunction;
  /** A value, or a function of context and event. */
  readonly params: unknown;
}

interface Candidate {
  readonly transition: Transition;
  readonly guard: Guard | undefined;
}

/** An active state that has candidates, or has active states within that do. */
export interface Choice {
  readonly regions: readonly Choice[];
  readonly candidates: readonly Candidate[];
}

/** What there is to choose from for an event type; undefined if XState is to choose. */
export function choiceOf(
  machine: Machine,
  nodes: readonly Node[],
  value: unknown,
  type: string,
): Choice | undefined {
  const active = new Set(nodes);
  try {
    return choiceAt(machine, machine.root, value, active, type);
  } catch (error) {
    if (error === UNREADABLE) return undefined;
    throw error;
  }
}

/** Puts those that are taken into `taken`. Throws what a guard throws. */
export function choose(
  { regions, candidates }: Choice,
  snapshot: MachineSnapshot,
  event: EventObject,
  taken: Transition[],
): void {
  const before = taken.length;
  for (const region of regions) choose(region, snapshot, event, taken);
  if (taken.length > before) return;
  for (const { guard, transition } of candidates) {
    if (guard !== undefined && !passes(guard, snapshot, event)) continue;
    taken.push(transition);
    return;
  }
}

/** What may be taken without an event, for each active state that has none within, in the order of the nodes. */
export function eventlessOf(machine: Machine, nodes: readonly Node[]): readonly Choice[] | undefined {
  if (nodes.every(({ always }) => always === undefined)) return undefined;
  return nodes.filter(isAtomic).map((leaf) => {
    const always = [leaf, ...ancestorsOf(leaf, undefined)].flatMap((node) => node.always ?? []);
    const candidates = always.map((transition) => ({
      transition,
      guard: transition.guard === undefined ? undefined : readEventlessGuard(machine, transition.guard),
    }));
    return { regions: [], candidates };
  });
}

/** As `choose`; a transition that several states have in common is taken once. */
export function chooseEventless(
  choices: readonly Choice[],
  snapshot: MachineSnapshot,
  event: EventObject,
  taken: Transition[],
): void {
  for (const { candidates } of choices)
    for (const { guard, transition } of candidates) {
      if (guard !== undefined && !passes(guard, snapshot, event)) continue;
      if (!taken.includes(transition)) taken.push(transition);
      break;
    }
}

/** One that cannot be read fails when it is asked, which leaves the step to XState. */
function readEventlessGuard(machine: Machine, guard: unknown): Guard {
  try {
    return readGuard(machine, guard);
  } catch (error) {
    if (error !== UNREADABLE) throw error;
    return {
      run: () => {
        throw UNREADABLE;
      },
      params: undefined,
    };
  }
}

const UNREADABLE = Symbol("unreadable");

function choiceAt(
  machine: Machine,
  node: Node,
  value: unknown,
  active: ReadonlySet<Node>,
  type: string,
): Choice {
  // In the order of the value's names: XState's own.
  const within: [string, unknown][] =
    typeof value === "string" ? [[value, undefined]] : Object.entries((value ?? {}) as object);
  const regions: Choice[] = [];
  for (const [name, inner] of within) {
    const child = node.states[name];
    if (child === undefined || !active.has(child)) throw UNREADABLE;
    const choice = choiceAt(machine, child, inner, active, type);
    if (choice.regions.length > 0 || choice.candidates.length > 0) regions.push(choice);
  }
  const candidates = transitionsFor(node, type).map((transition) => ({
    transition,
    guard: transition.guard === undefined ? undefined : readGuard(machine, transition.guard),
  }));
  // What lies between is not needed.
  const [only] = regions;
  return candidates.length === 0 && regions.length === 1 ? (only as Choice) : { regions, candidates };
}

/** A state's own transitions for an event type: exact ones, then by wildcards, the longest first. */
function transitionsFor({ transitions }: Node, type: string): Transition[] {
  const own = transitions as ReadonlyMap<string, readonly Transition[]>;
  const wild = [...own.keys()]
    .filter((name) => name !== type && matchesWildcard(type, name))
    .sort((a, b) => b.length - a.length);
  return [...(own.get(type) ?? []), ...wild.flatMap((name) => own.get(name) ?? [])];
}

/** Tokens are what lies between dots; `*` stands for all that follow. */
function matchesWildcard(type: string, name: string): boolean {
  if (name === "*") return true;
  if (!name.endsWith(".*")) return false;
  const tokens = type.split(".");
  const wanted = name.split(".");
  for (const [at, token] of wanted.entries()) {
    if (token === "*") return at === wanted.length - 1;
    if (token !== tokens[at]) return false;
  }
  return true;
}

function readGuard(machine: Machine, guard: unknown): Guard {
  if (typeof guard === "function") return { run: guard as GuardFunction, params: undefined };
  const name = typeof guard === "string" ? guard : (guard as { type: string }).type;
  const run = (machine.implementations.guards as Record<string, unknown>)[name];
  // One that stands for another is resolved by XState, and so is the error of one that is missing.
  if (typeof run !== "function") throw UNREADABLE;
  const params = typeof guard === "string" ? undefined : (guard as { params?: unknown }).params;
  return { run: run as GuardFunction, params };
}

function passes({ run, params }: Guard, snapshot: MachineSnapshot, event: EventObject): boolean {
  const args = { context: snapshot.context as unknown, event };
  if (run.check !== undefined) return run.check(snapshot, args, run);
  const given = typeof params === "function" ? (params as (args: object) => unknown)({ ...args }) : params;
  return run(args, given);
}
