/**
 * Names of actor logics: what a child's logic is found by when its actor is restored.
 *
 * A logic has the name that its machine gives it in `setup({ actors })`, the one of `defineActor({ children })`, or, where
 * it stands in the machine itself, that of its place. Owns nothing but a cache of those places.
 */
import { KeyturnError } from "../../words/errors.ts";
import type { ActorLogic, Machine, XActor } from "./internals.ts";

export class Naming {
  readonly #type: string;
  readonly #named: ReadonlyMap<string, ActorLogic>;

  /** @param named logics that machines spawn without a name there */
  constructor(type: string, named: ReadonlyMap<string, ActorLogic>) {
    this.#type = type;
    this.#named = named;
  }

  /** Throws `unsupported_machine` if there is none. */
  nameOf(actor: XActor, parent: Machine): string {
    if (typeof actor.src === "string") return actor.src;
    const logics = parent.implementations.actors as Record<string, unknown>;
    for (const [name, logic] of Object.entries(logics)) if (logic === actor.src) return name;
    for (const [name, logic] of this.#named) if (logic === actor.src) return name;
    for (const [name, logic] of inlineSpawns(parent)) if (logic === actor.src) return name;
    throw new KeyturnError(
      "unsupported_machine",
      `"${this.#type}" spawns "${actor.id}" from a logic without a name, which could not be found again after a restart. Name it in setup({ actors }), or in defineActor({ children }).`,
    );
  }

  logicOf(src: string, parent: Machine): ActorLogic | undefined {
    const inline = /^xstate\.invoke\.(\d+)\.(.*)/.exec(src);
    if (inline !== null) {
      const invoke = (parent as unknown as Indexed).idMap.get(inline[2] as string)?.config.invoke as
        | { src: unknown }
        | { src: unknown }[]
        | undefined;
      const found = Array.isArray(invoke) ? invoke[Number(inline[1])] : invoke;
      return found?.src as ActorLogic | undefined;
    }
    return (
      (parent.implementations.actors as unknown as Record<string, ActorLogic>)[src] ??
      this.#named.get(src) ??
      inlineSpawns(parent).get(src)
    );
  }

  /** The logic of that name, if it is a machine. */
  machineOf(src: string, parent: Machine): Machine | undefined {
    const logic = this.logicOf(src, parent);
    return logic?.__xstatenode === true ? (logic as unknown as Machine) : undefined;
  }

  /** The machines among the logics that a machine may invoke or spawn, by name. */
  machinesIn(parent: Machine): ReadonlyMap<string, Machine> {
    const names = new Set([
      ...Object.keys(parent.implementations.actors),
      ...inlineSpawns(parent).keys(),
      ...this.#named.keys(),
    ]);
    const walk = (node: Machine["root"]): void => {
      for (const { src } of node.invoke) if (typeof src === "string") names.add(src);
      for (const child of Object.values(node.states)) walk(child as Machine["root"]);
    };
    walk(parent.root);
    const found = new Map<string, Machine>();
    for (const name of names) {
      const machine = this.machineOf(name, parent);
      if (machine !== undefined) found.set(name, machine);
    }
    return found;
  }
}

const inlineNames = new WeakMap<object, ReadonlyMap<string, ActorLogic>>();

/** Logics that stand in a machine's own `spawnChild` actions, by their place: state, what it does it at, which action. */
function inlineSpawns(machine: Machine): ReadonlyMap<string, ActorLogic> {
  let names = inlineNames.get(machine);
  if (names === undefined) inlineNames.set(machine, (names = findSpawns(machine)));
  return names;
}

function findSpawns(machine: Machine): ReadonlyMap<string, ActorLogic> {
  const names = new Map<string, ActorLogic>();
  const add = (place: string, actions: readonly unknown[]): void =>
    actions.forEach((action, index) => {
      const { type, src } = action as { type?: unknown; src?: unknown };
      if (typeof action === "function" && type === "xstate.spawnChild" && typeof src === "object")
        names.set(`spawn.${place}.${index}`, src as ActorLogic);
    });
  const walk = (node: Machine["root"]): void => {
    add(`${node.id}.entry`, node.entry);
    add(`${node.id}.exit`, node.exit);
    for (const [event, transitions] of node.transitions)
      for (const [at, { actions }] of transitions.entries()) add(`${node.id}.on.${event}.${at}`, actions);
    for (const [at, { actions }] of (node.always ?? []).entries()) add(`${node.id}.always.${at}`, actions);
    for (const child of Object.values(node.states)) walk(child as Machine["root"]);
  };
  walk(machine.root);
  return names;
}

/** A machine's state nodes by id. */
interface Indexed {
  readonly idMap: ReadonlyMap<string, { readonly config: { readonly invoke?: unknown } }>;
}
