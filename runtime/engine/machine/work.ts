/**
 * Work: what a promise, callback or observable does outside of turns.
 *
 * Runs the user's own code, after the commit that began it, with a stand-in for the actor and its system: whatever it
 * reads is of the moment when it began, whatever it sends goes out through `WorkPorts` and comes back as a message.
 * Owns nothing that has to survive. Talks to XState's logics by their own `start` and `transition`.
 */
import type { EventObject } from "xstate";
import { traceparentIn, tracestateIn } from "../../words/trace.ts";
import type { PromiseArgs } from "./actions.ts";
import {
  type ActorLogic,
  type ChildSnapshot,
  FAILED,
  PROMISE_REJECT,
  PROMISE_RESOLVE,
  type Scope,
  STOP,
  type XActor,
} from "./internals.ts";
import { kindOf } from "./logic.ts";

/** What there is to run. */
export interface WorkOrder {
  readonly id: string;
  readonly session: string;
  readonly src: string;
  /** As the machine names it, not wrapped. */
  readonly logic: ActorLogic;
  readonly snapshot: ChildSnapshot;
  readonly idempotencyKey: string;
  readonly attempt: number;
  /** The trace (words/trace.ts) of the turn that began it, if it has one. */
  readonly trace: string | undefined;
  /** Runs the user's code in that context; undefined if there is none. */
  readonly within: (<T>(run: () => T) => T) | undefined;
  /** The durable actor's own context, as it is committed. */
  readonly owner: () => unknown;
}

export interface WorkPorts {
  /** An event for the actor itself, or for its parent. */
  deliver(to: "self" | "parent", event: EventObject): void;
  /** User code threw where nobody can be told. */
  failed(error: unknown): void;
}

export interface RunningWork {
  /** An event that the machine sent a callback. */
  receive(event: EventObject): void;
  /** The actor has ended, or is not this node's any more. */
  stop(): void;
}

export function runWork(order: WorkOrder, ports: WorkPorts): RunningWork {
  return kindOf(order.logic) === "promise" ? runPromise(order, ports) : runLogic(order, ports);
}

function traceArgs(carried: string): Pick<PromiseArgs, "trace" | "traceState"> {
  const state = tracestateIn(carried);
  return { trace: traceparentIn(carried), ...(state === undefined ? {} : { traceState: state }) };
}

function runPromise(order: WorkOrder, ports: WorkPorts): RunningWork {
  const { logic, snapshot, idempotencyKey, attempt, owner, trace, within } = order;
  const controller = new AbortController();
  const { self, system, emit } = standIn(order, ports, () => snapshot);
  const create = logic.config as (args: object) => unknown;
  const { signal } = controller;
  let settled = false;
  const end = (type: string, data: unknown): void => {
    settled = true;
    if (!signal.aborted) ports.deliver("self", { type, data } as EventObject);
  };
  const context = owner();
  const work = { input: snapshot.input, self, system, emit, signal, idempotencyKey, attempt, context };
  const args = trace === undefined ? work : { ...work, ...traceArgs(trace) };
  const begin = (): unknown => create(args);
  // In a task of its own, so that what it throws at once is a rejection too.
  Promise.resolve()
    // Ended before it began: then nobody is to see anything of it.
    .then(() => (signal.aborted ? undefined : within === undefined ? begin() : within(begin)))
    .then(
      (data) => end(PROMISE_RESOLVE, data),
      (error: unknown) => end(PROMISE_REJECT, error),
    );
  return {
    receive: () => undefined,
    stop: () => {
      // As in XState: what has come to its end is not called off.
      if (!settled) controller.abort();
    },
  };
}

function runLogic(order: WorkOrder, ports: WorkPorts): RunningWork {
  const { logic } = order;
  // The logic writes into it.
  let snapshot: ChildSnapshot = { ...order.snapshot };
  let stopped = false;
  const deliver: WorkPorts["deliver"] = (to, event) => {
    if (!stopped) ports.deliver(to, event);
  };
  const scope = standIn(order, { deliver, failed: ports.failed }, () => snapshot);
  const guarded = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      ports.failed(error);
    }
  };
  try {
    logic.start?.(snapshot, scope);
  } catch (error) {
    deliver("self", { type: FAILED, data: error } as EventObject);
  }
  return {
    receive: (event) =>
      guarded(() => {
        snapshot = logic.transition(snapshot, event, scope);
      }),
    stop: () => {
      stopped = true;
      guarded(() => logic.transition(snapshot, { type: STOP }, scope));
    },
  };
}

const nobody = { unsubscribe: (): void => undefined };
const nothing = (): void => undefined;

/** What user code sees of its actor, parent and system. */
function standIn(order: WorkOrder, ports: WorkPorts, getSnapshot: () => ChildSnapshot): Scope {
  const { id, session, src } = order;
  const refOf = (name: string, to: "self" | "parent"): Record<string, unknown> => {
    const send = (event: EventObject): void => ports.deliver(to, event);
    const listening = { on: () => nobody, subscribe: () => nobody };
    const ref: Record<string, unknown> = {
      id: name,
      sessionId: session,
      src,
      send,
      ...listening,
      getSnapshot,
    };
    ref.ref = ref;
    return ref;
  };
  const parent = refOf("parent", "parent");
  const self = refOf(id, "self");
  const system = {
    get: nothing,
    getAll: () => ({}),
    inspect: () => nobody,
    _relay: (_source: unknown, target: unknown, event: EventObject) => {
      if (target === self || target === parent) ports.deliver(target === self ? "self" : "parent", event);
      else
        ports.failed(new Error(`What "${id}" runs sent "${event.type}" to an actor that it cannot reach.`));
    },
  };
  self._parent = parent;
  self.system = system;
  const actor = self as unknown as XActor;
  const inert = {
    logger: nothing,
    defer: nothing,
    stopChild: nothing,
    emit: nothing,
    actionExecutor: nothing,
  };
  return { self: actor, system: system as unknown as Scope["system"], id, sessionId: session, ...inert };
}
