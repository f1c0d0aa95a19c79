/**
 * The tree: XState's actors of one durable actor, while a turn is taken.
 *
 * One tree a host serves all actors of a type: before a step it is given the root's snapshot and with it the family;
 * after the step the family is read off again. The root is a stand-in that is shared by all; children are XState's own
 * actors, which process their events by XState's own code, in its own order. What differs is handed in: their system is
 * ours (system.ts), their custom actions are collected, and logics that are not pure only say that they began (logic.ts).
 *
 * Owns the order of a step, the stand-in with its snapshot and its mailbox, and giving a snapshot its family. Families are
 * read off by reading.ts, put back and rebuilt by restoring.ts. Talks to XState; the host (`TreeHost`) collects what is
 * to be done.
 *
 * Invariants:
 * 1. A step runs to rest: every event that actors of the tree send each other without delay is processed in it.
 * 2. A step that throws leaves nothing in the mailbox, and the family that it began with is put back before the next.
 */
import type { EventObject } from "xstate";
import { KeyturnError } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { Family, familyOf, type Lineage, type PackedChild, type PackedMachine, setFamily } from "./family.ts";
import {
  type ActorLogic,
  type ChildSnapshot,
  isMachineSnapshot,
  type Machine,
  type MachineSnapshot,
  type Scope,
  type XActor,
} from "./internals.ts";
import { findLacking, type Lacking, makeLacking } from "./lacking.ts";
import { type LogicHost, Logics } from "./logic.ts";
import { Naming } from "./naming.ts";
import { settle } from "./planned.ts";
import { readMembers, type ReadingHost, silence } from "./reading.ts";
import { putBack, rebuild } from "./restoring.ts";
import { noKeys, noop, standIn, System, type SystemHost } from "./system.ts";

export interface TreeHost extends LogicHost, SystemHost {
  /** What a child has become in this step, to be checked and frozen. */
  checkChild(next: ChildSnapshot, before: ChildSnapshot | undefined, id: string): void;
}

export class Tree {
  readonly root: XActor;
  readonly #host: TreeHost;
  readonly #type: string;
  readonly #machine: Machine;
  readonly #naming: Naming;
  readonly #scope: Scope;
  readonly #logics: Logics;
  readonly #system: System;
  readonly #reading: ReadingHost;
  #snapshot: MachineSnapshot | undefined;
  readonly #mailbox: EventObject[] = [];
  #deferred: (() => void)[] = [];
  #processing = false;

  constructor(type: string, machine: Machine, named: ReadonlyMap<string, ActorLogic>, host: TreeHost) {
    this.#type = type;
    this.#machine = machine;
    this.#naming = new Naming(type, named);
    this.#host = host;
    this.#logics = new Logics(host);
    this.#system = new System(type, this.#logics, host);
    this.root = this.#makeRoot();
    this.#reading = this.#makeReading();
    this.#scope = {
      self: this.root,
      system: this.#system.seen,
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
    this.#system.begin(turn, now);
  }

  /** The snapshot of a new root. */
  start(input: unknown): MachineSnapshot {
    this.#system.keyed = noKeys;
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
    if (family !== undefined) putBack(family, this.#system);
    else this.#system.keyed = noKeys;
    let next: MachineSnapshot | undefined;
    this.#open(snapshot);
    try {
      const target = session === undefined ? this.root : family?.bySession(session)?.actor;
      if (target === this.root) this.#receive(event);
      else target?._send(event);
      next = this.#rest(snapshot, family);
      return next;
    } finally {
      this.#close(family, next !== undefined);
    }
  }

  /** What a root's states invoke and is not there: it was stored by a machine that did not. With its inputs. */
  lacking(snapshot: MachineSnapshot, event: EventObject): Lacking[] {
    return findLacking(snapshot, event, this.root, this.#machine, this.#naming);
  }

  /** The snapshot after those have begun, as if their states had just been entered. */
  invoke(snapshot: MachineSnapshot, event: EventObject): MachineSnapshot {
    const family = familyOf(snapshot);
    if (family !== undefined) putBack(family, this.#system);
    else this.#system.keyed = noKeys;
    let next: MachineSnapshot | undefined;
    this.#open(snapshot);
    try {
      const children: Record<string, unknown> = { ...snapshot.children };
      for (const one of this.lacking(snapshot, event)) {
        const actor = makeLacking(one, this.root);
        children[one.options.id] = actor;
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
    this.#system.stepping = true;
  }

  /** The snapshot once all that was sent has been processed. */
  #rest(before: MachineSnapshot | undefined, family: Family | undefined): MachineSnapshot {
    if (this.#mailbox.length > 0) this.#drain();
    const { broken } = this.#system;
    if (broken !== undefined) throw broken;
    return this.#readOff(this.#snapshot as MachineSnapshot, before, family);
  }

  #close(family: Family | undefined, isDone: boolean): void {
    const { made } = this.#system;
    this.#system.stepping = false;
    if (made.length > 0) made.length = 0;
    if (isDone) return;
    if (family !== undefined) family.lineage.current = undefined;
    this.#mailbox.length = 0;
    this.#deferred = [];
    this.#processing = false;
  }

  // ---- The root's mailbox, as XState's own ------------------------------------------------------------------------

  #makeRoot(): XActor {
    const root = standIn(this.#type, "active", this.#system.seen);
    root.getSnapshot = () => this.#snapshot as ChildSnapshot;
    root._send = (event) => this.#receive(event);
    return root;
  }

  #receive(event: EventObject): void {
    this.#mailbox.push(event);
    if (!this.#processing && this.#snapshot !== undefined) this.#drain();
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
    if (family === undefined && isEmpty(next.children) && this.#system.made.length === 0) return next;
    const members = readMembers(next, family, this.#system.made, this.#reading);
    if (members === undefined) {
      // Whoever the step made has ended in it.
      if (family === undefined) return next;
      family.lineage.current = family;
      if (next !== before) setFamily(next, family);
      return next;
    }
    const lineage: Lineage = family?.lineage ?? { current: undefined };
    const { keyed } = this.#system;
    const read = new Family(members, keyed.size === 0 ? noKeys : new Map(keyed), lineage);
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
        this.#system.seen._unregister(actor);
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
    rebuild(snapshot, packed, {
      root: this.root,
      system: this.#system,
      naming: this.#naming,
      logics: this.#logics,
      checkChild: (next, before, id) => this.#host.checkChild(next, before, id),
      resolve,
    });
  }
}

function stopActor(child: XActor): void {
  (child as unknown as { _stop(): void })._stop();
}

function isEmpty(children: object): boolean {
  for (const _ in children) return false;
  return true;
}
