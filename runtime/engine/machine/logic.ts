/**
 * Actor logics: which kind one is, and how each runs inside a turn.
 *
 * A turn is pure. Machines and transition functions are: they are stepped as they are. Promises, callbacks and
 * observables are not: inside a turn they only say that they have begun, and what they do is *work*, run after the
 * commit (work.ts), whose results come back as messages.
 *
 * Owns the wrapping of logics. Talks to XState's `fromPromise` & co. by the shape of what they return.
 */
import type { EventObject } from "xstate";
import { limits } from "../../words/limits.ts";
import type { LogicKind } from "../../words/mailbox.ts";
import { ask } from "./actions.ts";
import {
  type ActorLogic,
  type ChildSnapshot,
  FAILED,
  type Machine,
  OBSERVABLE_NEXT,
  PROMISE_RESOLVE,
  STOP,
} from "./internals.ts";
import { planSteps } from "./planned.ts";
import type { Scope, XActor } from "./internals.ts";

/** Whether what it does is run after the commit. */
export function isWork(kind: LogicKind): boolean {
  return kind !== "machine" && kind !== "pure" && kind !== "ask";
}

/** What a wrapped logic tells the tree that it runs in. */
export interface LogicHost {
  /** A promise, callback or observable has begun. */
  begin(actor: XActor): void;
  /** A question has begun. */
  question(actor: XActor): void;
  /** A callback was sent an event. */
  receive(actor: XActor, event: EventObject): void;
}

const kinds = new WeakMap<object, LogicKind>();

export function kindOf(logic: ActorLogic): LogicKind {
  let kind = kinds.get(logic);
  if (kind === undefined) kinds.set(logic, (kind = findKind(logic)));
  return kind;
}

function findKind(logic: ActorLogic): LogicKind {
  if ((logic as unknown) === ask) return "ask";
  if (logic.__xstatenode === true) return "machine";
  if (typeof logic.start !== "function") return "pure";
  if (typeof logic.config !== "function") return "custom";
  // XState's own creators leave no name behind; how their transitions answer tells them apart. None of it runs user code.
  const probe = {};
  const scope = { self: probe } as unknown as Scope;
  try {
    const initial = logic.getInitialSnapshot(scope, undefined);
    if ("_subscription" in initial) {
      const next = logic.transition(initial, { type: OBSERVABLE_NEXT, data: probe } as EventObject, scope);
      return next.context === probe ? "observable" : "events";
    }
    const next = logic.transition(initial, { type: PROMISE_RESOLVE, data: probe } as EventObject, scope);
    return next.status === "done" ? "promise" : "custom";
  } catch {
    // A callback looks for its instance.
    return "callback";
  }
}

/** Makes the logics of a tree's actors fit for turns. */
export class Logics {
  readonly #host: LogicHost;
  readonly #wrapped = new WeakMap<object, ActorLogic>();
  readonly #kinds = new WeakMap<object, LogicKind>();
  readonly #originals = new WeakMap<object, ActorLogic>();

  constructor(host: LogicHost) {
    this.#host = host;
  }

  /** Of a logic, wrapped or not. */
  kindOf(logic: ActorLogic): LogicKind {
    return this.#kinds.get(logic) ?? kindOf(logic);
  }

  originalOf(wrapped: ActorLogic): ActorLogic {
    return this.#originals.get(wrapped) ?? wrapped;
  }

  wrap(logic: ActorLogic): ActorLogic {
    if (this.#kinds.has(logic)) return logic;
    let wrapped = this.#wrapped.get(logic);
    if (wrapped === undefined) {
      const kind = kindOf(logic);
      wrapped = kind === "machine" ? bounded(logic as unknown as Machine) : this.#wrap(kind, logic);
      this.#wrapped.set(logic, wrapped);
      this.#kinds.set(wrapped, kind);
      this.#originals.set(wrapped, logic);
    }
    return wrapped;
  }

  #wrap(kind: LogicKind, logic: ActorLogic): ActorLogic {
    if (kind === "pure") return { ...logic, transition: logic.transition.bind(logic) };
    const begin = (_snapshot: ChildSnapshot, { self }: Scope): void =>
      kind === "ask" ? this.#host.question(self) : this.#host.begin(self);
    return {
      ...logic,
      start: begin,
      restoreSnapshot: (snapshot) => snapshot,
      transition: (snapshot, event, scope) => {
        if (event.type === STOP)
          return { ...snapshot, status: "stopped", input: undefined, error: undefined };
        if (event.type === FAILED) {
          const { data } = event as EventObject & { data: unknown };
          return { ...snapshot, status: "error", error: data, input: undefined };
        }
        if (kind === "callback") {
          this.#host.receive(scope.self, event);
          return snapshot;
        }
        return logic.transition(snapshot, event, scope);
      },
    };
  }
}

/** A copy of a machine whose eventless loops are bounded; the user's own is left alone. */
export function bounded(machine: Machine): ActorLogic & Machine {
  const copy = machine.provide({});
  const options = copy.options as { maxIterations: number };
  options.maxIterations = Math.min(options.maxIterations, limits.microsteps);
  // A tree builds snapshots itself and hands them in complete.
  copy.restoreSnapshot = ((snapshot: unknown) => snapshot) as never;
  planSteps(copy);
  return copy as unknown as ActorLogic & Machine;
}
