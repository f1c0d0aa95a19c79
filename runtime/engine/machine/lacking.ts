/**
 * What the states of a machine invoke and is not there: the snapshot was stored by a machine that did not invoke it.
 *
 * Owns finding it, with its inputs, and making its actors as if those states had just been entered. Talks to user code,
 * which makes the inputs, and to XState's `createActor`.
 */
import { createActor, type EventObject } from "xstate";
import type { ActorLogic, Machine, MachineSnapshot, XActor } from "./internals.ts";
import type { Naming } from "./naming.ts";

/** An actor that is to be made, as `createActor` takes it. */
export interface Lacking {
  readonly logic: ActorLogic;
  readonly options: Omit<Invocation, "onSnapshot" | "systemId"> & {
    readonly systemId: string | undefined;
    readonly syncSnapshot: boolean;
  };
}

/** What a state node invokes, as XState keeps it. */
interface Invocation {
  readonly id: string;
  readonly src: string;
  readonly systemId?: string;
  readonly input?: unknown;
  readonly onSnapshot?: unknown;
}

/** What a root's states invoke and is not there, with its inputs. Throws what the machine throws for an input. */
export function findLacking(
  snapshot: MachineSnapshot,
  event: EventObject,
  root: XActor,
  machine: Machine,
  naming: Naming,
): Lacking[] {
  if (snapshot.status !== "active") return [];
  const lacking: Lacking[] = [];
  for (const node of snapshot._nodes)
    for (const { id, src, systemId, input, onSnapshot } of node.invoke as unknown as readonly Invocation[]) {
      if (snapshot.children[id] !== undefined) continue;
      const logic = naming.logicOf(src, machine);
      if (logic === undefined) throw new Error(`There is no actor logic "${src}".`);
      const args = { context: snapshot.context, event, self: root };
      const given = typeof input === "function" ? (input as (args: object) => unknown)(args) : input;
      lacking.push({
        logic,
        options: { id, src, systemId, syncSnapshot: onSnapshot !== undefined, input: given },
      });
    }
  return lacking;
}

/** Makes one of those, which is not started yet. */
export function makeLacking({ logic, options }: Lacking, root: XActor): XActor {
  return createActor(logic as never, { ...options, parent: root } as never) as unknown as XActor;
}
