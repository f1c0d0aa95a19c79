/**
 * Types that flow from a definition to a page, which need not ship its machine.
 *
 * Owns `actorType`. Of definitions it imports types only: they are gone in what a browser loads.
 */
import type { ActorDefinition, AnyActorDefinition, NoReplies } from "../engine/definition.ts";
import type { Machine } from "../engine/machine.ts";

/** A type of actors by its name, with everything that the compiler knows of it. */
export interface ActorType<D extends AnyActorDefinition = AnyActorDefinition> {
  readonly type: D["type"];
  /** Carries the types only; never there at run time. */
  readonly definition?: D;
}

/**
 * Names a type of actors by the types of its definition, so that a page has them without the machine:
 *
 *     import type { order } from "../actors/order.ts";
 *     const orders = actorType<typeof order>("order");
 *
 * @param type the definition's own; another one is a compile error
 */
export function actorType<D extends AnyActorDefinition>(type: D["type"]): ActorType<D> {
  return Object.freeze({ type });
}

/** The machine of a definition or of an `actorType`. */
export type MachineOf<D> =
  D extends ActorDefinition<string, infer M, object>
    ? M
    : D extends ActorType<infer I>
      ? MachineOf<I>
      : Machine;

/** The replies that a definition, or an `actorType`, declares. */
export type RepliesOf<D> =
  D extends ActorDefinition<string, Machine, infer R>
    ? R
    : D extends ActorType<infer I>
      ? RepliesOf<I>
      : NoReplies;
