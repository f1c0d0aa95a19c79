/**
 * The system of a tree: what its actors see around them, instead of XState's own.
 *
 * Owns the names of sessions, the actors by system id, who was made since the step began, and how many events they have
 * sent each other in the turn. Talks to the host, which takes their actions, timers and what is sent outside of steps.
 *
 * Invariants:
 * 1. A session's name never comes again for the same address: it has the turn, the place in it, and the time.
 * 2. At most `limits.microsteps` events pass in a turn; with one more it is broken.
 * 3. The map of a family is never changed, only a copy of it.
 */
import { createActor, type EventObject } from "xstate";
import { KeyturnError } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { OPAQUE } from "../../words/values.ts";
import { type ExecutableAction, Running, type XActor, type XSystem } from "./internals.ts";
import type { Logics } from "./logic.ts";

export interface SystemHost {
  /** An action that an actor of the tree wants executed. */
  collect(action: ExecutableAction, actor: XActor): void;
  setTimer(source: XActor, target: XActor, event: EventObject, delay: number, id: string | undefined): void;
  cancelTimer(source: XActor, id: string): void;
  cancelTimers(source: XActor): void;
  /** An event that user code sent outside of a step, from a custom action. */
  sentOutside(target: XActor, event: EventObject): void;
}

/** No actor has a system id, as in most trees. */
export const noKeys: ReadonlyMap<string, XActor> = new Map();

export const noop = (): void => undefined;

/** Keys that the running step may change. */
class OwnKeys extends Map<string, XActor> {}

export class System {
  /** As the actors see it. */
  readonly seen: XSystem;
  /** Actors by system id. */
  keyed: ReadonlyMap<string, XActor> = noKeys;
  /** Whether a step runs: what is sent then belongs to it. */
  stepping = false;
  /** Actors that the running step has made. */
  readonly made: XActor[] = [];
  /** Why the turn cannot be: a KeyturnError within a step of a child must not become that child's own error. */
  broken: unknown;
  /** Set while a family is rebuilt: the session of the actor that is being made. */
  session: string | undefined;
  readonly #type: string;
  readonly #logics: Logics;
  readonly #host: SystemHost;
  #turn = 0;
  #now = 0;
  #booked = 0;
  #relayed = 0;

  constructor(type: string, logics: Logics, host: SystemHost) {
    this.#type = type;
    this.#logics = logics;
    this.#host = host;
    this.seen = this.#makeSeen();
  }

  /** Begins a turn. */
  begin(turn: number, now: number): void {
    this.#turn = turn;
    this.#now = now;
    this.#booked = 0;
    this.#relayed = 0;
    this.broken = undefined;
  }

  #makeSeen(): XSystem {
    return {
      // With the time: an actor that was deleted begins at turn 1 again, and answers to its former life may still come.
      _bookId: () => this.session ?? `x${this.#turn}.${this.#booked++}.${this.#now.toString(36)}`,
      _register: (session) => session,
      _unregister: (actor) => {
        if (actor.systemId !== undefined && this.keyed.get(actor.systemId) === actor)
          this.#ownKeys().delete(actor.systemId);
      },
      _set: (systemId, actor) => {
        const known = this.keyed.get(systemId);
        if (known === actor) return;
        if (known !== undefined) throw new Error(`Actor with system ID '${systemId}' already exists.`);
        this.#ownKeys().set(systemId, actor);
      },
      get: (systemId) => this.keyed.get(systemId),
      getAll: () => Object.fromEntries(this.keyed),
      inspect: () => ({ unsubscribe: noop }),
      _sendInspectionEvent: ({ type, actorRef }) => {
        if (type === "@xstate.actor" && actorRef !== undefined) this.#adopt(actorRef);
      },
      _relay: (_source, target, event) => this.#relay(target, event),
      scheduler: {
        schedule: (source, target, event, delay, id) => this.#host.setTimer(source, target, event, delay, id),
        cancel: (source, id) => this.#host.cancelTimer(source, id),
        cancelAll: (source) => this.#host.cancelTimers(source),
      },
      getSnapshot: () => ({ _scheduledEvents: {} }),
      start: noop,
      _clock: undefined,
      _logger: noop,
    };
  }

  #ownKeys(): Map<string, XActor> {
    const own = this.keyed instanceof OwnKeys ? this.keyed : new OwnKeys(this.keyed);
    this.keyed = own;
    return own;
  }

  /** What one actor sends another. */
  #relay(target: XActor, event: EventObject): void {
    if (!this.stepping) {
      this.#host.sentOutside(target, event);
      return;
    }
    if (this.broken !== undefined) return;
    if (!(OPAQUE in target)) {
      this.broken = new KeyturnError(
        "unsupported_machine",
        `"${this.#type}" sends an event to an XState actor that is not its own. Spawn it, or tell a durable actor.`,
      );
      return;
    }
    if (++this.#relayed > limits.microsteps) {
      this.broken = new KeyturnError(
        "machine_looped",
        `The actors of "${this.#type}" sent each other more than ${limits.microsteps} events in one turn. Look for events in a circle.`,
      );
      return;
    }
    target._send(event);
  }

  /** XState has just made an actor, and given it no state yet. */
  #adopt(actor: XActor): void {
    opaque(actor);
    this.made.push(actor);
    actor.logic = this.#logics.wrap(actor.logic);
    const scope = actor._actorScope;
    const run = (action: ExecutableAction): void => {
      try {
        this.#host.collect(action, actor);
      } catch (error) {
        if (error instanceof KeyturnError) this.broken ??= error;
        throw error;
      }
    };
    scope.emit = noop;
    scope.actionExecutor = (action) => {
      // What it does at its beginning is only done once it is started: it may be stopped before.
      if (actor._processingStatus === Running) run(action);
      else actor._deferred.push(() => run(action));
    };
  }
}

/** When the turn was that made an actor of this session, milliseconds since the epoch. */
export function timeOfSession(session: string): number {
  return Number.parseInt(session.slice(session.lastIndexOf(".") + 1), 36);
}

/** An actor that stands for another: what it takes and shows is up to who asks for it. */
export function standIn(id: string, status: "active" | "stopped", system: XSystem): XActor {
  const snapshot = { status };
  const logic = { transition: () => snapshot, getInitialSnapshot: () => snapshot };
  const actor = createActor(logic as never, { id } as never) as unknown as XActor;
  actor.system = system;
  opaque(actor);
  return actor;
}

/** Marks an actor as one of a tree: as a value it is a reference, whose inside nobody looks at. */
function opaque(actor: XActor): void {
  Object.defineProperty(actor, OPAQUE, { value: true });
}
