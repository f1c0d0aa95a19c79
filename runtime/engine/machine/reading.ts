/**
 * Reading a family off: who lives after a step, and under which path.
 *
 * XState knows of an actor's children only what stands in its snapshot. A child whose id is given to another, or that
 * was spawned without an id before another, is forgotten there and goes on: it is *displaced*. So whoever was there
 * before the step, or was made in it, is looked at. Owns nothing; the tree calls it after each step.
 *
 * Invariants:
 * 1. Members are in the order in which they were made.
 * 2. A displaced actor ends with its parent. (XState would let it run for ever, with nobody left to stop it.)
 */
import { type Family, inOrder, Member, pathBeside, pathOf, setPlace } from "./family.ts";
import {
  type ChildSnapshot,
  isMachineSnapshot,
  type Machine,
  type MachineSnapshot,
  Running,
  Stopped,
  type XActor,
} from "./internals.ts";
import type { LogicKind } from "../../words/mailbox.ts";

export interface ReadingHost {
  readonly root: XActor;
  readonly machine: Machine;
  /** What a child has become, to be checked and frozen; `before` if it was there. */
  check(snapshot: ChildSnapshot, before: ChildSnapshot | undefined, id: string): void;
  /** What finds an actor's logic again. */
  nameOf(actor: XActor, parent: Machine): string;
  kindOf(actor: XActor): LogicKind;
  /** An actor that has ended, though XState would let it run. */
  ended(actor: XActor): void;
  /** Throws if there are too many. */
  checkCount(members: number): void;
}

/**
 * The members after a step; undefined if they are the family's own.
 * @param made actors that the step has made
 */
export function readMembers(
  next: MachineSnapshot,
  family: Family | undefined,
  made: readonly XActor[],
  host: ReadingHost,
): ReadonlyMap<string, Member> | undefined {
  const reading = new Reading(family, host);
  reading.walk(next.children, "", host.machine);
  const before = family?.members.size ?? 0;
  if (made.length > 0 || reading.kept < before) reading.findDisplaced(next, made);
  if (!reading.changed && reading.members.size === before) return undefined;
  return ordered(reading.members, family);
}

class Reading {
  readonly members = new Map<string, Member>();
  /** Whether a member is new or has changed. */
  changed = false;
  /** Members of before that are there. */
  kept = 0;
  readonly #family: Family | undefined;
  readonly #host: ReadingHost;
  readonly #places = new Map<XActor, string>();

  constructor(family: Family | undefined, host: ReadingHost) {
    this.#family = family;
    this.#host = host;
  }

  /** A parent's children, as XState has them. */
  walk(children: Readonly<Record<string, unknown>>, parent: string, machine: Machine): void {
    for (const [id, child] of Object.entries(children))
      if (child !== undefined) this.#add(child as XActor, parent, id, machine, false);
  }

  /** Those that live without standing in their parent's snapshot. Parents come before their children. */
  findDisplaced(next: MachineSnapshot, made: readonly XActor[]): void {
    const { root, machine } = this.#host;
    const known = [...(this.#family?.members.values() ?? [])].map(({ actor }) => actor);
    for (const actor of [...known, ...made]) {
      if (this.#places.has(actor) || !isAlive(actor)) continue;
      const parent = actor._parent as XActor;
      const own = parent === root;
      const place = own ? "" : this.#places.get(parent);
      if (place === undefined || !(own ? next.status === "active" : isAlive(parent))) {
        this.#host.ended(actor);
        continue;
      }
      const id = actor.id === actor.sessionId ? "undefined" : actor.id;
      const parentMachine = own ? machine : (parent._snapshot as MachineSnapshot).machine;
      this.#add(actor, place, id, parentMachine, true);
    }
  }

  #add(actor: XActor, parent: string, id: string, machine: Machine, displaced: boolean): void {
    const known = this.#known(actor, pathOf(parent, id));
    const path = known?.path ?? this.#newPath(actor, pathOf(parent, id));
    const snapshot = actor._snapshot;
    this.#places.set(actor, path);
    if (known !== undefined) this.kept++;
    if (known !== undefined && known.snapshot === snapshot && known.displaced === displaced)
      this.members.set(path, known);
    else {
      this.#host.check(snapshot, known?.snapshot, id);
      const src = known?.src ?? this.#host.nameOf(actor, machine);
      this.members.set(path, new Member(path, src, this.#host.kindOf(actor), actor, snapshot, displaced));
      this.changed = true;
    }
    this.#host.checkCount(this.members.size);
    if (isMachineSnapshot(snapshot)) this.walk(snapshot.children, path, snapshot.machine);
  }

  #known(actor: XActor, natural: string): Member | undefined {
    const there = this.#family?.members.get(natural);
    const known = there?.actor === actor ? there : this.#family?.bySession(actor.sessionId);
    return known?.actor === actor ? known : undefined;
  }

  #newPath(actor: XActor, natural: string): string {
    const before = this.#family?.members.get(natural)?.actor;
    if (!this.members.has(natural) && (before === undefined || !isAlive(before))) return natural;
    const path = pathBeside(natural, actor.sessionId);
    setPlace(actor, path);
    return path;
  }
}

function ordered(
  members: ReadonlyMap<string, Member>,
  before: Family | undefined,
): ReadonlyMap<string, Member> {
  const found = new Map<string, Member>();
  for (const [path, { session }] of before?.members ?? []) {
    const member = members.get(path);
    if (member?.session === session) found.set(path, member);
  }
  const added = [...members.values()].filter(({ path }) => !found.has(path));
  for (const member of inOrder(added, ({ session }) => session)) found.set(member.path, member);
  return found;
}

function isAlive(actor: XActor): boolean {
  return actor._processingStatus === Running && actor._snapshot.status === "active";
}

/** Makes an actor deaf, as XState does when it stops one. */
export function silence(actor: XActor): void {
  actor._processingStatus = Stopped;
}
