/**
 * The tree: XState's actors of one durable actor, while a turn is taken.
 *
 * One tree a host serves all actors of a type: before a step it is given the root's snapshot and with it the family;
 * after the step the family is read off again. The root is a stand-in that is shared by all; children are XState's own
 * actors, which process their events by XState's own code, in its own order. What differs is handed in: their system is
 * this one, their custom actions are collected, and logics that are not pure only say that they began (logic.ts).
 *
 * Owns the stand-in, the system, the root's mailbox and the reading and rebuilding of families. Talks to XState; the
 * host (`TreeHost`) collects what is to be done.
 *
 * Invariants:
 * 1. A step runs to rest: every event that actors of the tree send each other without delay is processed in it.
 * 2. A family that is stepped on is as it was when it was read off, whatever became of steps in between.
 */
import { createActor, type EventObject } from "xstate";
import { KeyturnError } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { OPAQUE } from "../../words/values.ts";
import {
  DISPLACED,
  Family,
  familyOf,
  GONE,
  type Lineage,
  Member,
  type PackedChild,
  type PackedMachine,
  pathOf,
  setFamily,
  setPlace,
  splitPath,
  SYNCED,
  withRefs,
} from "./family.ts";
import {
  type ActorLogic,
  type ChildSnapshot,
  type ExecutableAction,
  isMachineSnapshot,
  type Machine,
  type MachineSnapshot,
  Running,
  type Scope,
  Stopped,
  type XActor,
  type XSystem,
} from "./internals.ts";
import { type LogicHost, Logics } from "./logic.ts";
import { Naming } from "./naming.ts";
import { settle } from "./planned.ts";
import { readMembers, type ReadingHost, silence } from "./reading.ts";

export interface TreeHost extends LogicHost {
  /** An action that an actor of the tree wants executed. */
  collect(action: ExecutableAction, actor: XActor): void;
  setTimer(source: XActor, target: XActor, event: EventObject, delay: number, id: string | undefined): void;
  cancelTimer(source: XActor, id: string): void;
  cancelTimers(source: XActor): void;
  /** What a child has become in this step, to be checked and frozen. */
  checkChild(next: ChildSnapshot, before: ChildSnapshot | undefined, id: string): void;
  /** An event that user code sent outside of a step, from a custom action. */
  sentOutside(target: XActor, event: EventObject): void;
}

const noKeys: ReadonlyMap<string, XActor> = new Map();
const noop = (): void => undefined;

export class Tree {
  readonly root: XActor;
  /** A KeyturnError within a step of a child must not become that child's own error. */
  broken: unknown;
  readonly #host: TreeHost;
  readonly #type: string;
  readonly #machine: Machine;
  readonly #naming: Naming;
  readonly #scope: Scope;
  readonly #logics: Logics;
  readonly #system: XSystem;
  #keyed: Map<string, XActor> | ReadonlyMap<string, XActor> = noKeys;
  #snapshot: MachineSnapshot | undefined;
  readonly #mailbox: EventObject[] = [];
  #deferred: (() => void)[] = [];
  #processing = false;
  #stepping = false;
  #relayed = 0;
  /** Actors that the running step has made. */
  readonly #made: XActor[] = [];
  readonly #reading: ReadingHost;
  #turn = 0;
  #now = 0;
  #booked = 0;
  /** Set while a family is rebuilt: the session of the actor that is being made. */
  #session: string | undefined;

  constructor(type: string, machine: Machine, named: ReadonlyMap<string, ActorLogic>, host: TreeHost) {
    this.#type = type;
    this.#machine = machine;
    this.#naming = new Naming(type, named);
    this.#host = host;
    this.#logics = new Logics(host);
    this.#system = this.#makeSystem();
    this.root = this.#makeRoot();
    this.#reading = this.#makeReading();
    this.#scope = {
      self: this.root,
      system: this.#system,
      id: type,
      sessionId: type,
      logger: noop,
      defer: (task) => {
        this.#deferred.push(task);
      },
      stopChild: (child) => stopActor(child),
      emit: noop,
      actionExecutor: (action) => host.collect(action, this.root),
    };
  }

  /** An actor's logic as the machine names it. */
  logicOf(actor: XActor): ActorLogic {
    return this.#logics.originalOf(actor.logic);
  }

  /** Begins a turn. */
  begin(turn: number, now: number): void {
    this.#turn = turn;
    this.#now = now;
    this.#booked = 0;
    this.#relayed = 0;
    this.broken = undefined;
  }

  /** The snapshot of a new root. */
  start(input: unknown): MachineSnapshot {
    this.#keyed = noKeys;
    let next: MachineSnapshot | undefined;
    this.#open(undefined);
    try {
      const snapshot = this.#machine.getInitialSnapshot(
        this.#scope as never,
        input as never,
      ) as MachineSnapshot;
      if (snapshot.status === "error") throw snapshot.error;
      this.#snapshot = snapshot;
      this.#flush();
      next = this.#rest(undefined, undefined);
      return next;
    } finally {
      this.#close(undefined, next !== undefined);
    }
  }

  /** The snapshot after an event of the root's or, with its session, of a child's. */
  step(snapshot: MachineSnapshot, event: EventObject, session: string | undefined): MachineSnapshot {
    const family = familyOf(snapshot);
    if (family !== undefined) this.#putBack(family);
    else this.#keyed = noKeys;
    let next: MachineSnapshot | undefined;
    this.#open(snapshot);
    try {
      const target = session === undefined ? this.root : family?.bySession(session)?.actor;
      if (target !== undefined) this.#relay(target, event);
      next = this.#rest(snapshot, family);
      return next;
    } finally {
      this.#close(family, next !== undefined);
    }
  }

  /** What a root's states invoke and is not there: it was stored by a machine that did not. With its inputs. */
  lacking(snapshot: MachineSnapshot, event: EventObject): Lacking[] {
    if (snapshot.status !== "active") return [];
    const lacking: Lacking[] = [];
    for (const node of snapshot._nodes)
      for (const {
        id,
        src,
        systemId,
        input,
        onSnapshot,
      } of node.invoke as unknown as readonly Invocation[]) {
        if (snapshot.children[id] !== undefined) continue;
        const logic = this.#naming.logicOf(src, this.#machine);
        if (logic === undefined) throw new Error(`There is no actor logic "${src}".`);
        const args = { context: snapshot.context, event, self: this.root };
        const given = typeof input === "function" ? (input as (args: object) => unknown)(args) : input;
        lacking.push({
          logic,
          options: { id, src, systemId, syncSnapshot: onSnapshot !== undefined, input: given },
        });
      }
    return lacking;
  }

  /** The snapshot after those have begun, as if their states had just been entered. */
  invoke(snapshot: MachineSnapshot, event: EventObject): MachineSnapshot {
    const family = familyOf(snapshot);
    if (family !== undefined) this.#putBack(family);
    else this.#keyed = noKeys;
    let next: MachineSnapshot | undefined;
    this.#open(snapshot);
    try {
      const children: Record<string, unknown> = { ...snapshot.children };
      for (const { logic, options } of this.lacking(snapshot, event)) {
        const actor = createActor(
          logic as never,
          { ...options, parent: this.root } as never,
        ) as unknown as XActor;
        children[options.id] = actor;
        this.#deferred.push(() => (actor as unknown as { start(): void }).start());
      }
      this.#snapshot = { ...snapshot, children } as MachineSnapshot;
      this.#flush();
      next = this.#rest(snapshot, family);
      return next;
    } finally {
      this.#close(family, next !== undefined);
    }
  }

  /** Begins to step. Who does must `#rest` and, whatever happens, `#close`. */
  #open(before: MachineSnapshot | undefined): void {
    this.#snapshot = before;
    this.#stepping = true;
  }

  /** The snapshot once all that was sent has been processed. */
  #rest(before: MachineSnapshot | undefined, family: Family | undefined): MachineSnapshot {
    if (this.#mailbox.length > 0) this.#drain();
    if (this.broken !== undefined) throw this.broken;
    return this.#readOff(this.#snapshot as MachineSnapshot, before, family);
  }

  #close(family: Family | undefined, isDone: boolean): void {
    this.#stepping = false;
    if (this.#made.length > 0) this.#made.length = 0;
    if (isDone) return;
    if (family !== undefined) family.lineage.current = undefined;
    this.#mailbox.length = 0;
    this.#deferred = [];
    this.#processing = false;
  }

  // ---- The root's mailbox, as XState's own ------------------------------------------------------------------------

  #relay(target: XActor, event: EventObject): void {
    if (target === this.root) {
      this.#mailbox.push(event);
      if (!this.#processing && this.#snapshot !== undefined) this.#drain();
    } else target._send(event);
  }

  #drain(): void {
    while (this.#mailbox.length > 0) {
      const event = this.#mailbox.shift() as EventObject;
      const before = this.#snapshot as MachineSnapshot;
      // An XState actor that is done takes no event; `transition` by itself would.
      if (before.status !== "active") continue;
      this.#processing = true;
      this.#snapshot = this.#machine.transition(
        before,
        event as never,
        this.#scope as never,
      ) as MachineSnapshot;
      this.#flush();
      this.#processing = false;
    }
  }

  #flush(): void {
    this.#processing = true;
    for (let at = 0; at < this.#deferred.length; at++) (this.#deferred[at] as () => void)();
    if (this.#deferred.length > 0) this.#deferred = [];
    this.#processing = false;
  }

  // ---- The system that its actors see -----------------------------------------------------------------------------

  #makeSystem(): XSystem {
    const keys = (): Map<string, XActor> => {
      // Families are immutable: who changes the keys changes a copy.
      if (!(this.#keyed instanceof OwnKeys)) this.#keyed = new OwnKeys(this.#keyed);
      return this.#keyed as Map<string, XActor>;
    };
    return {
      // With the time: an actor that was deleted begins at turn 1 again, and answers to its former life may still come.
      _bookId: () => this.#session ?? `x${this.#turn}.${this.#booked++}.${this.#now.toString(36)}`,
      _register: (session) => session,
      _unregister: (actor) => {
        if (actor.systemId !== undefined && this.#keyed.get(actor.systemId) === actor)
          keys().delete(actor.systemId);
      },
      _set: (systemId, actor) => {
        const known = this.#keyed.get(systemId);
        if (known === actor) return;
        if (known !== undefined) throw new Error(`Actor with system ID '${systemId}' already exists.`);
        keys().set(systemId, actor);
      },
      get: (systemId) => this.#keyed.get(systemId),
      getAll: () => Object.fromEntries(this.#keyed),
      inspect: () => ({ unsubscribe: noop }),
      _sendInspectionEvent: ({ type, actorRef }) => {
        if (type === "@xstate.actor" && actorRef !== undefined) this.#adopt(actorRef);
      },
      _relay: (_source, target, event) => {
        if (!this.#stepping) {
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
        this.#relay(target, event);
      },
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

  /** What a reference to an actor that is gone is restored as. XState would make it undefined, and send to itself. */
  readonly #gone = (id: string, path: string): XActor => {
    const snapshot = { status: "stopped" };
    const logic = { transition: () => snapshot, getInitialSnapshot: () => snapshot };
    const actor = createActor(logic as never, { id } as never) as unknown as XActor;
    actor.system = this.#system;
    actor._processingStatus = Stopped;
    Object.defineProperty(actor, GONE, { value: path });
    opaque(actor);
    return actor;
  };

  #makeRoot(): XActor {
    const snapshot = { status: "active" };
    const logic = { transition: () => snapshot, getInitialSnapshot: () => snapshot };
    const root = createActor(logic as never, { id: this.#type } as never) as unknown as XActor;
    root.system = this.#system;
    root.getSnapshot = () => this.#snapshot as ChildSnapshot;
    root._send = (event) => this.#relay(root, event);
    opaque(root);
    return root;
  }

  /** XState has just made an actor, and given it no state yet. */
  #adopt(actor: XActor): void {
    opaque(actor);
    this.#made.push(actor);
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

  // ---- Families ---------------------------------------------------------------------------------------------------

  /** A context that refers to actors is stored otherwise: it has a family, if only an empty one. */
  ensureFamily(snapshot: MachineSnapshot): void {
    if (familyOf(snapshot) !== undefined) return;
    const lineage: Lineage = { current: undefined };
    const family = new Family(new Map(), noKeys, lineage);
    lineage.current = family;
    setFamily(snapshot, family);
  }

  /** The root's snapshot with the family that it has now. */
  #readOff(
    next: MachineSnapshot,
    before: MachineSnapshot | undefined,
    family: Family | undefined,
  ): MachineSnapshot {
    if (family === undefined && isEmpty(next.children) && this.#made.length === 0) return next;
    const members = readMembers(next, family, this.#made, this.#reading);
    if (members === undefined) {
      // Whoever the step made has ended in it.
      if (family === undefined) return next;
      family.lineage.current = family;
      if (next !== before) setFamily(next, family);
      return next;
    }
    const lineage: Lineage = family?.lineage ?? { current: undefined };
    const keyed = this.#keyed.size === 0 ? noKeys : new Map(this.#keyed);
    const read = new Family(members, keyed, lineage);
    lineage.current = read;
    // A snapshot belongs to one turn: where only children changed, the turn needs one of its own.
    const own = next === before ? ({ ...next } as MachineSnapshot) : next;
    setFamily(own, read);
    return own;
  }

  #makeReading(): ReadingHost {
    return {
      root: this.root,
      machine: this.#machine,
      check: (snapshot, before, id) => {
        if (isMachineSnapshot(snapshot)) settle(snapshot);
        this.#host.checkChild(snapshot, before, id);
      },
      nameOf: (actor, parent) => this.#naming.nameOf(actor, parent),
      kindOf: (actor) => this.#logics.kindOf(actor.logic),
      ended: (actor) => {
        silence(actor);
        this.#system._unregister(actor);
      },
      checkCount: (count) => {
        if (count > limits.childrenPerActor) throw this.#tooMany();
      },
    };
  }

  #tooMany(): KeyturnError {
    return new KeyturnError(
      "machine_failed",
      `"${this.#type}" has more than ${limits.childrenPerActor} invoked and spawned actors. Stop some with stopChild, or give each a key of its own and tell it.`,
    );
  }

  /** Puts the actors back to where a family has them. */
  #putBack(family: Family): void {
    this.#keyed = family.keyed;
    if (family.lineage.current === family) return;
    for (const member of family.members.values()) this.#stand(member.actor, member.snapshot);
    family.lineage.current = family;
  }

  #stand(actor: XActor, snapshot: ChildSnapshot): void {
    actor._snapshot = snapshot;
    actor._processingStatus = snapshot.status === "active" ? Running : Stopped;
    actor._deferred.length = 0;
    const { mailbox } = actor;
    mailbox._active = true;
    mailbox._current = null;
    mailbox._last = null;
    if (actor._syncSnapshot !== true || snapshot.status !== "active" || actor.observers.size > 0) return;
    // As XState's `start` does; which would also tell the parent once more.
    actor.observers.add({
      next: (next: ChildSnapshot) => {
        if (next.status !== "active") return;
        const event = { type: `xstate.snapshot.${actor.id}`, snapshot: next };
        this.#system._relay(actor, actor._parent as XActor, event as EventObject);
      },
      error: noop,
    });
  }

  /**
   * Rebuilds a family, as children of a root's snapshot that has none yet.
   * @param resolve makes a machine's snapshot of what is stored, without children
   * @throws Error if a logic is not there any more
   */
  rebuild(
    snapshot: MachineSnapshot,
    packed: readonly PackedChild[],
    resolve: (machine: Machine, state: PackedMachine) => MachineSnapshot,
  ): void {
    const actors = new Map<string, XActor>([["", this.root]]);
    const members = new Map<string, Member>();
    this.#keyed = noKeys;
    try {
      for (const [path, session, src, systemId, flags, state] of packed) {
        const { parent: parentPath, id } = splitPath(path);
        const parent = actors.get(parentPath);
        const parentState = parentPath === "" ? snapshot : (parent?._snapshot as MachineSnapshot | undefined);
        if (parent === undefined || parentState === undefined)
          throw new Error(`There is no parent of "${path}".`);
        const logic = this.#naming.logicOf(src, parentState.machine);
        if (logic === undefined) throw new Error(`There is no actor logic "${src}", which "${path}" runs.`);
        const wrapped = this.#logics.wrap(logic);
        const kind = this.#logics.kindOf(wrapped);
        // A copy: what a migration gave is frozen, and references are put into it below.
        const own =
          kind === "machine"
            ? resolve(wrapped as unknown as Machine, state as PackedMachine)
            : { ...(state as ChildSnapshot) };
        this.#session = session;
        const actor = createActor(
          wrapped as never,
          {
            // `spawnChild` without an id files the actor under the name "undefined"; its own id is its session.
            ...(id === "undefined" ? {} : { id }),
            src,
            parent: parent as never,
            ...((flags & SYNCED) === 0 ? {} : { syncSnapshot: true }),
            ...(systemId === null ? {} : { systemId }),
            snapshot: own as never,
          } as never,
        ) as unknown as XActor;
        const child = actor._snapshot;
        this.#stand(actor, child);
        actors.set(path, actor);
        if (id === "undefined") actors.set(pathOf(parentPath, actor.id), actor);
        if (path !== pathOf(parentPath, id)) setPlace(actor, path);
        const displaced = (flags & DISPLACED) !== 0;
        if (!displaced) (parentState.children as Record<string, unknown>)[id] = actor;
        members.set(path, new Member(path, src, kind, actor, child, displaced));
      }
    } finally {
      this.#session = undefined;
      this.#made.length = 0;
    }
    for (const member of members.values()) {
      const { actor } = member;
      const child = actor._snapshot as { context?: unknown };
      if (child.context !== undefined) child.context = withRefs(child.context, actors, this.#gone);
      this.#host.checkChild(actor._snapshot, undefined, actor.id);
    }
    (snapshot as { context: unknown }).context = withRefs(snapshot.context, actors, this.#gone);
    const lineage: Lineage = { current: undefined };
    const family = new Family(members, this.#keyed, lineage);
    lineage.current = family;
    setFamily(snapshot, family);
  }
}

/** When the turn was that made an actor of this session, milliseconds since the epoch. */
export function timeOfSession(session: string): number {
  return Number.parseInt(session.slice(session.lastIndexOf(".") + 1), 36);
}

/** What a state node invokes, as XState keeps it. */
interface Invocation {
  readonly id: string;
  readonly src: string;
  readonly systemId?: string;
  readonly input?: unknown;
  readonly onSnapshot?: unknown;
}

/** An actor that is to be made, as `createActor` takes it. */
interface Lacking {
  readonly logic: ActorLogic;
  readonly options: Omit<Invocation, "onSnapshot" | "systemId"> & {
    readonly systemId: string | undefined;
    readonly syncSnapshot: boolean;
  };
}

/** Keys that the running step may change. */
class OwnKeys extends Map<string, XActor> {}

function opaque(actor: XActor): void {
  Object.defineProperty(actor, OPAQUE, { value: true });
}

function stopActor(child: XActor): void {
  (child as unknown as { _stop(): void })._stop();
}

function isEmpty(children: object): boolean {
  for (const _ in children) return false;
  return true;
}
