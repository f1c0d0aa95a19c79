/**
 * Which states a set of transitions leaves and enters: SCXML's algorithm, as XState does it, once for each plan.
 *
 * Pure functions over a machine's state nodes. Knows no history, no final states and no invocations: what has any of them
 * to do with a step is left to XState (`undefined`).
 * Source: https://www.w3.org/TR/scxml/#AlgorithmforSCXMLInterpretation and XState 5's `microstep`.
 */
import type { AnyStateNode, AnyTransitionDefinition } from "xstate";

export type Node = AnyStateNode;
export type Transition = AnyTransitionDefinition;

/** What one microstep does, apart from guards. Lists are in the order in which things are done. */
export interface Microstep {
  readonly transitions: readonly Transition[];
  readonly exited: readonly Node[];
  readonly entered: readonly Node[];
  /** Of those entered, the ones whose initial transition is taken. */
  readonly initial: ReadonlySet<Node>;
  /** Active after it, in the order in which XState keeps them. */
  readonly nodes: readonly Node[];
}

/** @param nodes that are active before it */
export function microstepOf(enabled: readonly Transition[], nodes: readonly Node[]): Microstep | undefined {
  for (const { target } of enabled) if (target?.some((node) => node.type === "history")) return undefined;
  const transitions = withoutConflicts(enabled, nodes);
  const exited = exitSet(transitions, nodes).sort((a, b) => b.order - a.order);
  const initial = new Set<Node>();
  const entering = new Set<Node>();
  try {
    for (const transition of transitions) addEntered(transition, initial, entering);
  } catch (error) {
    if (error === HISTORY) return undefined;
    throw error;
  }
  const entered = [...entering].sort((a, b) => a.order - b.order);
  if (exited.some((node) => node.invoke.length > 0 || hasHistory(node))) return undefined;
  if (entered.some((node) => node.invoke.length > 0 || node.type === "final")) return undefined;
  const active = new Set(nodes);
  for (const node of exited) active.delete(node);
  for (const node of entered) active.add(node);
  return { transitions, exited, entered, initial, nodes: [...active] };
}

/** Thrown where an initial state turns out to be a history state. */
const HISTORY = Symbol("history");

function hasHistory(node: Node): boolean {
  return Object.values(node.states).some((child) => child.type === "history");
}

/** Also true for any node if there is no parent, as in XState. */
function isDescendant(node: Node, parent: Node | undefined): boolean {
  let marker = node;
  while (marker.parent !== undefined && marker.parent !== parent) marker = marker.parent;
  return marker.parent === parent;
}

/** From the parent up, without `end`. */
export function ancestorsOf(node: Node, end: Node | undefined): Node[] {
  const ancestors: Node[] = [];
  if (node === end) return ancestors;
  for (let at = node.parent; at !== undefined && at !== end; at = at.parent) ancestors.push(at);
  return ancestors;
}

function domainOf({ target, source, reenter }: Transition): Node | undefined {
  const targets = target ?? [];
  if (!reenter && targets.every((node) => node === source || isDescendant(node, source))) return source;
  const [head = source, ...tail] = [...new Set(targets), source] as Node[];
  const common = ancestorsOf(head, undefined).find((ancestor) =>
    tail.every((node) => isDescendant(node, ancestor)),
  );
  if (common !== undefined) return common;
  return reenter ? undefined : source.machine.root;
}

function exitSet(transitions: readonly Transition[], nodes: readonly Node[]): Node[] {
  const exited = new Set<Node>();
  for (const transition of transitions) {
    if (transition.target === undefined || transition.target.length === 0) continue;
    const domain = domainOf(transition);
    if (transition.reenter && transition.source === domain) exited.add(domain);
    for (const node of nodes) if (isDescendant(node, domain)) exited.add(node);
  }
  return [...exited];
}

/** Of two transitions that leave the same state, the one of the inner state is taken. */
function withoutConflicts(enabled: readonly Transition[], nodes: readonly Node[]): Transition[] {
  const kept = new Set<Transition>();
  for (const one of enabled) {
    const exits = new Set(exitSet([one], nodes));
    const preempted: Transition[] = [];
    let isPreempted = false;
    for (const other of kept) {
      if (!exitSet([other], nodes).some((node) => exits.has(node))) continue;
      if (isDescendant(one.source, other.source)) preempted.push(other);
      else {
        isPreempted = true;
        break;
      }
    }
    if (isPreempted) continue;
    for (const other of preempted) kept.delete(other);
    kept.add(one);
  }
  return [...kept];
}

function addEntered(transition: Transition, initial: Set<Node>, entered: Set<Node>): void {
  const { target, source, reenter } = transition;
  const domain = domainOf(transition);
  for (const node of target ?? []) {
    if (source !== node || source !== domain || reenter) {
      entered.add(node);
      initial.add(node);
    }
    addDescendants(node, initial, entered);
  }
  for (const node of new Set(target ?? [])) {
    const ancestors = ancestorsOf(node, domain);
    if (domain?.type === "parallel") ancestors.push(domain);
    addAncestors(ancestors, source.parent === undefined && reenter ? undefined : domain, initial, entered);
  }
}

function addDescendants(node: Node, initial: Set<Node>, entered: Set<Node>): void {
  if (node.type === "compound") {
    const first = node.initial.target[0] as Node;
    if (first.type === "history") throw HISTORY;
    entered.add(first);
    initial.add(first);
    addDescendants(first, initial, entered);
    addAncestors(ancestorsOf(first, node), undefined, initial, entered);
  } else if (node.type === "parallel") {
    for (const child of regionsOf(node)) {
      if ([...entered].some((other) => isDescendant(other, child))) continue;
      entered.add(child);
      initial.add(child);
      addDescendants(child, initial, entered);
    }
  }
}

function addAncestors(
  ancestors: readonly Node[],
  within: Node | undefined,
  initial: Set<Node>,
  entered: Set<Node>,
): void {
  for (const ancestor of ancestors) {
    if (within === undefined || isDescendant(ancestor, within)) entered.add(ancestor);
    if (ancestor.type !== "parallel") continue;
    for (const child of regionsOf(ancestor)) {
      if ([...entered].some((other) => isDescendant(other, child))) continue;
      entered.add(child);
      addDescendants(child, initial, entered);
    }
  }
}

function regionsOf(node: Node): Node[] {
  return Object.values(node.states).filter((child) => child.type !== "history");
}

/** The state value of active nodes. The regions of a parallel state are named in the nodes' order, as XState does. */
export function stateValueOf(root: Node, nodes: readonly Node[]): unknown {
  const children = new Map<Node, Node[]>();
  for (const node of nodes) {
    if (node.parent === undefined) continue;
    const siblings = children.get(node.parent);
    if (siblings === undefined) children.set(node.parent, [node]);
    else siblings.push(node);
  }
  const valueAt = (node: Node): unknown => {
    const active = children.get(node) ?? [];
    const [only] = active;
    if (node.type === "compound" && only !== undefined && isAtomic(only)) return only.key;
    return Object.fromEntries(active.map((child) => [child.key, valueAt(child)]));
  };
  return valueAt(root);
}

/** Whether a state has none within. */
export function isAtomic({ type }: Node): boolean {
  return type === "atomic" || type === "final";
}
