/**
 * The machines within a machine: those of the actors that it may invoke and spawn.
 *
 * Owns how they are found by the names that an actor's state shows for its children (`src`). Talks to the naming that
 * restores children, so both find the same. Runs nothing of the user's.
 */
import type { AnyActorDefinition } from "../definition.ts";
import { splitPath } from "./family.ts";
import type { ActorLogic, Machine } from "./internals.ts";
import { Naming } from "./naming.ts";

/** How many machines of one type are found at most. */
const MACHINES_MAX = 64;

/** A machine within a type, and which of the others its actors are, by the name of their logic. */
export interface InnerMachine {
  readonly machine: Machine;
  readonly actors: Readonly<Record<string, number>>;
}

export class InnerMachines {
  readonly #naming: Naming;
  readonly #definition: AnyActorDefinition;

  constructor(definition: AnyActorDefinition) {
    this.#definition = definition;
    this.#naming = new Naming(definition.type, definition.children as ReadonlyMap<string, ActorLogic>);
  }

  /** All of a type, its own first. A machine that spawns itself is there once. */
  all(): readonly InnerMachine[] {
    const places = new Map<Machine, number>([[this.#definition.machine, 0]]);
    const found: InnerMachine[] = [];
    for (const machine of places.keys()) {
      const actors: Record<string, number> = {};
      for (const [src, inner] of this.#naming.machinesIn(machine)) {
        if (!places.has(inner) && places.size >= MACHINES_MAX) continue;
        const place = places.get(inner) ?? places.size;
        places.set(inner, place);
        actors[src] = place;
      }
      found.push({ machine, actors });
    }
    return found;
  }

  /**
   * The machine of the child at a path; undefined for one that is none, or is not known.
   * @param srcOf the name of the logic of a child, by its path
   */
  of(path: string, srcOf: (path: string) => string | undefined): Machine | undefined {
    const { parent } = splitPath(path);
    const above = parent === "" ? this.#definition.machine : this.of(parent, srcOf);
    const src = srcOf(path);
    return above === undefined || src === undefined ? undefined : this.#naming.machineOf(src, above);
  }
}
