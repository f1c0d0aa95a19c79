/**
 * Restoring a family: its actors are put back to where it has them, or made anew of what is stored.
 *
 * Owns nothing: the tree calls it before a step, and when an actor is loaded. Talks to XState's `createActor`.
 *
 * Invariants:
 * 1. A family that is put back is as it was when it was read off, whatever became of steps in between.
 * 2. What is rebuilt has run nothing: its actors stand where they stood, and have told nobody that they began.
 */
import { createActor, type EventObject } from "xstate";
import {
  DISPLACED,
  Family,
  GONE,
  type Lineage,
  Member,
  noteRefs,
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
  type ChildSnapshot,
  type Machine,
  type MachineSnapshot,
  Running,
  Stopped,
  type XActor,
  type XSystem,
} from "./internals.ts";
import type { Logics } from "./logic.ts";
import type { Naming } from "./naming.ts";
import { noKeys, noop, standIn, type System } from "./system.ts";

/** Puts the actors back to where a family has them. */
export function putBack(family: Family, system: System): void {
  system.keyed = family.keyed;
  if (family.lineage.current === family) return;
  for (const member of family.members.values()) stand(member.actor, member.snapshot, system.seen);
  family.lineage.current = family;
}

function stand(actor: XActor, snapshot: ChildSnapshot, system: XSystem): void {
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
      system._relay(actor, actor._parent as XActor, event as EventObject);
    },
    error: noop,
  });
}

/** What a family is rebuilt in. */
export interface Ground {
  readonly root: XActor;
  readonly system: System;
  readonly naming: Naming;
  readonly logics: Logics;
  /** What a child has become, to be checked and frozen. */
  checkChild(next: ChildSnapshot, before: undefined, id: string): void;
  /**
   * Makes a machine's snapshot of what is stored, without children.
   * @throws Error if the machine has no such state
   */
  resolve(machine: Machine, state: PackedMachine): MachineSnapshot;
}

/**
 * Rebuilds a family, as children of a root's snapshot that has none yet.
 * @throws Error if a logic is not there any more
 */
export function rebuild(snapshot: MachineSnapshot, packed: readonly PackedChild[], ground: Ground): void {
  const { root, system } = ground;
  const actors = new Map<string, XActor>([["", root]]);
  const members = new Map<string, Member>();
  system.keyed = noKeys;
  try {
    for (const child of packed) {
      const member = remake(child, snapshot, actors, ground);
      members.set(member.path, member);
    }
  } finally {
    system.session = undefined;
    system.made.length = 0;
  }
  const gone = (id: string, path: string): XActor => makeGone(id, path, system.seen);
  for (const { actor } of members.values()) {
    const child = actor._snapshot as { context?: unknown };
    if (child.context !== undefined) child.context = withRefs(child.context, actors, gone);
    ground.checkChild(actor._snapshot, undefined, actor.id);
  }
  const context = withRefs(snapshot.context, actors, gone);
  if (context !== snapshot.context) {
    (snapshot as { context: unknown }).context = context;
    noteRefs(snapshot);
  }
  const lineage: Lineage = { current: undefined };
  const family = new Family(members, system.keyed, lineage);
  lineage.current = family;
  setFamily(snapshot, family);
}

/** Makes a child anew, and files it with its parent and among `actors`. Its parent is there: it was made before. */
function remake(
  [path, session, src, systemId, flags, state]: PackedChild,
  snapshot: MachineSnapshot,
  actors: Map<string, XActor>,
  { system, naming, logics, resolve }: Ground,
): Member {
  const { parent: parentPath, id } = splitPath(path);
  const parent = actors.get(parentPath);
  const parentState = parentPath === "" ? snapshot : (parent?._snapshot as MachineSnapshot | undefined);
  if (parent === undefined || parentState === undefined) throw new Error(`There is no parent of "${path}".`);
  const logic = naming.logicOf(src, parentState.machine);
  if (logic === undefined) throw new Error(`There is no actor logic "${src}", which "${path}" runs.`);
  const wrapped = logics.wrap(logic);
  const kind = logics.kindOf(wrapped);
  // A copy: what a migration gave is frozen, and references are put into it later.
  const own =
    kind === "machine"
      ? resolve(wrapped as unknown as Machine, state as PackedMachine)
      : { ...(state as ChildSnapshot) };
  system.session = session;
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
  stand(actor, child, system.seen);
  actors.set(path, actor);
  if (id === "undefined") actors.set(pathOf(parentPath, actor.id), actor);
  if (path !== pathOf(parentPath, id)) setPlace(actor, path);
  const displaced = (flags & DISPLACED) !== 0;
  if (!displaced) (parentState.children as Record<string, unknown>)[id] = actor;
  return new Member(path, src, kind, actor, child, displaced);
}

/** What a reference to an actor that is gone is restored as. XState would make it undefined, and send to itself. */
function makeGone(id: string, path: string, system: XSystem): XActor {
  const actor = standIn(id, "stopped", system);
  actor._processingStatus = Stopped;
  Object.defineProperty(actor, GONE, { value: path });
  return actor;
}
