/**
 * Custom actions of committed turns, and what they send.
 *
 * Owns what an action sees of its actors while it runs, and to whom what it sends goes, now or later. Talks to the
 * engine by `outlet` and `logger`.
 */
import type { EventObject } from "xstate";
import type { ActionEffect } from "./effects.ts";
import { familyOf } from "./family.ts";
import type { ExecutableAction, MachineSnapshot, XActor } from "./internals.ts";

/** Takes what user code sends an actor outside of a step. */
export type Outlet = (owner: string, session: string | undefined, event: EventObject) => void;

/** Takes what XState's `log` action says, after the commit. */
export type Logger = (owner: string, label: string | undefined, value: unknown) => void;

export class Outside {
  /** Where events go that custom actions send. Set by the engine. */
  outlet: Outlet | undefined;
  logger: Logger | undefined;
  /** The session of a child, undefined for the machine itself. */
  readonly #sessionOf: (actor: XActor) => string | undefined;
  /** Whose custom action runs now. */
  #acting: { readonly owner: string; readonly snapshot: MachineSnapshot | undefined } | undefined;
  /** Whose children they are, as far as custom actions have seen them. */
  readonly #owners = new WeakMap<XActor, string>();

  constructor(sessionOf: (actor: XActor) => string | undefined) {
    this.#sessionOf = sessionOf;
  }

  /**
   * Runs a custom action of a committed turn: what it reads of its actors is of that turn, whatever it sends, now or
   * later, is sent to them.
   */
  run(owner: string, snapshot: MachineSnapshot | undefined, action: ActionEffect): unknown {
    this.#acting = { owner, snapshot };
    for (const { actor } of familyOf(snapshot)?.members.values() ?? []) this.#owners.set(actor, owner);
    try {
      return action.run();
    } finally {
      this.#acting = undefined;
    }
  }

  /** The arguments of an action that runs now, bound to the actor that it is of. */
  bound(info: ExecutableAction["info"], actor: XActor): object {
    const acting = this.#acting;
    if (acting === undefined) return info;
    const family = familyOf(acting.snapshot);
    const bind = (one: XActor): XActor => {
      const session = this.#sessionOf(one);
      const snapshot = session === undefined ? acting.snapshot : family?.bySession(session)?.snapshot;
      const send = (event: EventObject): void => this.outlet?.(acting.owner, session, event);
      const bound = Object.create(one) as XActor;
      Object.defineProperties(bound, {
        send: { value: send },
        _send: { value: send },
        getSnapshot: { value: () => snapshot ?? one._snapshot },
      });
      return bound;
    };
    const named = (id: string): XActor | undefined => {
      const found = family?.keyed.get(id);
      return found === undefined ? undefined : bind(found);
    };
    const all = (): object =>
      Object.fromEntries([...(family?.keyed ?? [])].map(([id, one]) => [id, bind(one)]));
    const system = Object.create(info.system as object) as object;
    Object.defineProperties(system, { get: { value: named }, getAll: { value: all } });
    return { ...info, self: bind(actor), system };
  }

  /** An event that user code sent one of its actors outside of a step. */
  sentOutside(target: XActor, event: EventObject): void {
    const owner = this.#owners.get(target) ?? this.#acting?.owner;
    if (owner !== undefined) this.outlet?.(owner, this.#sessionOf(target), event);
  }

  /** XState's `log` action, with what it has resolved. */
  log(params: unknown): void {
    const { label, value } = params as { label?: string; value: unknown };
    this.logger?.(this.#acting?.owner ?? "", label, value);
  }
}
