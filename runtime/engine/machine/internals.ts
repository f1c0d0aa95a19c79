/**
 * What this runtime knows of XState's inside: the parts of its `Actor`, system and scope that are relied on.
 *
 * Types and names only. None of it is a documented interface; test/machine*.test.ts pin it, so that an upgrade of XState
 * that changes something of it is noticed.
 */
import type { AnyMachineSnapshot, AnyStateMachine, EventObject, StateValue } from "xstate";

export type Machine = AnyStateMachine;
export type MachineSnapshot = AnyMachineSnapshot;

export const STOP = "xstate.stop";
export const PROMISE_RESOLVE = "xstate.promise.resolve";
export const PROMISE_REJECT = "xstate.promise.reject";
/** Ours: what an actor does outside has failed for good. */
export const FAILED = "xstate.keyturn.failed";
export const OBSERVABLE_NEXT = "xstate.observable.next";
export const OBSERVABLE_ERROR = "xstate.observable.error";
export const OBSERVABLE_COMPLETE = "xstate.observable.complete";

/** Of XState's `ProcessingStatus`: what follows on "not started". */
export const Running = 1;
export const Stopped = 2;

/** What every actor's snapshot has; a machine's has more. */
export interface ChildSnapshot {
  readonly status: "active" | "done" | "error" | "stopped";
  readonly output?: unknown;
  readonly error?: unknown;
  readonly context?: unknown;
  readonly input?: unknown;
}

export interface ActorLogic {
  readonly config?: unknown;
  readonly __xstatenode?: boolean;
  transition(snapshot: ChildSnapshot, event: EventObject, scope: Scope): ChildSnapshot;
  getInitialSnapshot(scope: Scope, input: unknown): ChildSnapshot;
  getPersistedSnapshot?(snapshot: ChildSnapshot): ChildSnapshot;
  restoreSnapshot?(snapshot: ChildSnapshot, scope: Scope): ChildSnapshot;
  start?(snapshot: ChildSnapshot, scope: Scope): void;
}

/** An action that XState has resolved and wants executed. */
export interface ExecutableAction {
  type: string;
  info: { context: unknown; event: unknown; self: unknown; system: unknown };
  params: unknown;
  exec: ((info: unknown, params: unknown) => unknown) | undefined;
}

export interface Scope {
  self: XActor;
  system: XSystem;
  id: string;
  sessionId: string;
  logger: (...args: unknown[]) => void;
  defer(task: () => void): void;
  stopChild(child: XActor): void;
  emit(event: EventObject): void;
  actionExecutor(action: ExecutableAction): void;
}

/** An actor of XState's, as `createActor` makes it: a child of a machine, or a stand-in for the root. */
export interface XActor {
  readonly id: string;
  readonly sessionId: string;
  readonly src: unknown;
  readonly systemId: string | undefined;
  logic: ActorLogic;
  system: XSystem;
  _snapshot: ChildSnapshot;
  _processingStatus: number;
  readonly _deferred: (() => void)[];
  readonly _parent: XActor | undefined;
  readonly _syncSnapshot: boolean | undefined;
  readonly _actorScope: Scope;
  readonly observers: Set<unknown>;
  readonly mailbox: { _active: boolean; _current: unknown; _last: unknown };
  readonly options: { readonly input?: unknown };
  send(event: EventObject): void;
  _send(event: EventObject): void;
  getSnapshot(): ChildSnapshot;
  subscribe(observer: { next: (snapshot: ChildSnapshot) => void; error: () => void }): unknown;
}

export interface XSystem {
  _bookId(): string;
  _register(session: string, actor: XActor): string;
  _unregister(actor: XActor): void;
  _set(systemId: string, actor: XActor): void;
  get(systemId: string): XActor | undefined;
  getAll(): Record<string, XActor>;
  inspect(): { unsubscribe(): void };
  _sendInspectionEvent(event: { readonly type: string; readonly actorRef?: XActor }): void;
  _relay(source: XActor | undefined, target: XActor, event: EventObject): void;
  readonly scheduler: {
    schedule(source: XActor, target: XActor, event: EventObject, delay: number, id?: string): void;
    cancel(source: XActor, id: string): void;
    cancelAll(source: XActor): void;
  };
  getSnapshot(): unknown;
  start(): void;
  readonly _clock: unknown;
  readonly _logger: (...args: unknown[]) => void;
}

/** Whether a snapshot is a machine's. */
export function isMachineSnapshot(snapshot: ChildSnapshot): snapshot is MachineSnapshot {
  return "machine" in snapshot && "_nodes" in snapshot;
}

export type { EventObject, StateValue };
