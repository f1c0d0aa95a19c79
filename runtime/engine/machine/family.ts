/**
 * The actors that an actor's machine has invoked and spawned, as of one turn.
 *
 * Owns their flat list (`Family`), its stored form and the difference between two, and references to actors within
 * values. A family is immutable; the XState actors that its members refer to are not: they stand where the last step of
 * their lineage left them, and `tree.ts` puts them back before it steps another family of that lineage.
 *
 * Invariants:
 * 1. A member's path is unique in a family. Members are in the order in which they were made, whatever a family was put
 *    together from: so parents come before their children, and siblings are as XState keeps them.
 * 2. A session is given once in an actor's life, so what belongs to a former actor of the same path is told apart.
 * 3. A member keeps its path for life, since references are stored by it. Who was displaced, by another of the same id,
 *    goes on under it; who displaced has its session behind the id (`pathBeside`).
 */
import type { StateValue } from "xstate";
import { OPAQUE, seal } from "../../words/values.ts";
import type { ChildSnapshot, MachineSnapshot, XActor } from "./internals.ts";
import { isMachineSnapshot } from "./internals.ts";
import type { LogicKind } from "../../words/mailbox.ts";

/** A machine's snapshot as plain data: value, context, status, output, history, error. */
export type PackedMachine = readonly [
  value: StateValue,
  context: Readonly<Record<string, unknown>>,
  status: ChildSnapshot["status"],
  output: unknown,
  history: Readonly<Record<string, readonly string[]>> | null,
  error: unknown,
];

/** A member as it is stored. `state` is a PackedMachine for a machine, and else XState's own persisted snapshot. */
export type PackedChild = readonly [
  path: string,
  session: string,
  src: string,
  systemId: string | null,
  /** Bits: 1 if its parent is told of its snapshots, 2 if it is displaced. */
  flags: 0 | 1 | 2 | 3,
  state: unknown,
];

/** Of a stored member's flags. */
export const SYNCED = 1;
export const DISPLACED = 2;

/** What a turn did to the family: members that came or changed, and paths of those that are gone. */
export type FamilyChange = readonly (PackedChild | string)[];

export class Member {
  readonly path: string;
  readonly src: string;
  readonly kind: LogicKind;
  readonly actor: XActor;
  readonly snapshot: ChildSnapshot;
  /** It lives, but its parent's `children` have another under its id, or none: only a reference or a name reaches it. */
  readonly displaced: boolean;
  #packed: PackedChild | undefined;

  constructor(
    path: string,
    src: string,
    kind: LogicKind,
    actor: XActor,
    snapshot: ChildSnapshot,
    displaced: boolean,
  ) {
    this.path = path;
    this.src = src;
    this.kind = kind;
    this.actor = actor;
    this.snapshot = snapshot;
    this.displaced = displaced;
  }

  get session(): string {
    return this.actor.sessionId;
  }

  get packed(): PackedChild {
    this.#packed ??= [
      this.path,
      this.session,
      this.src,
      this.actor.systemId ?? null,
      ((this.actor._syncSnapshot === true ? SYNCED : 0) | (this.displaced ? DISPLACED : 0)) as PackedChild[4],
      packState(this.actor, this.snapshot),
    ];
    return this.#packed;
  }
}

/** Which family the actors of a lineage stand at; undefined if a step was broken off. */
export interface Lineage {
  current: Family | undefined;
}

export class Family {
  readonly members: ReadonlyMap<string, Member>;
  readonly lineage: Lineage;
  /** Actors by system id, as of the end of the turn. */
  readonly keyed: ReadonlyMap<string, XActor>;
  #bySession: Map<string, Member> | undefined;

  constructor(members: ReadonlyMap<string, Member>, keyed: ReadonlyMap<string, XActor>, lineage: Lineage) {
    this.members = members;
    this.keyed = keyed;
    this.lineage = lineage;
  }

  bySession(session: string): Member | undefined {
    this.#bySession ??= new Map([...this.members.values()].map((member) => [member.session, member]));
    return this.#bySession.get(session);
  }

  pack(): PackedChild[] {
    return [...this.members.values()].map((member) => member.packed);
  }
}

const FAMILY = Symbol("keyturn.family");

/** The family of a root's snapshot; undefined if it has none. */
export function familyOf(snapshot: MachineSnapshot | undefined): Family | undefined {
  return (snapshot as { [FAMILY]?: Family } | undefined)?.[FAMILY];
}

export function setFamily(snapshot: MachineSnapshot, family: Family): void {
  (snapshot as { [FAMILY]?: Family })[FAMILY] = family;
}

/** On a snapshot whose context may hold references to actors. */
const REFS = Symbol("keyturn.refs");

export function noteRefs(snapshot: MachineSnapshot): void {
  (snapshot as { [REFS]?: true })[REFS] = true;
}

/** Whether there may be references in a root's context: most have none, and need not be searched for them. */
export function mayHoldRefs(snapshot: MachineSnapshot | undefined): boolean {
  return (snapshot as { [REFS]?: true } | undefined)?.[REFS] === true;
}

/** A root's context as it is stored and shown. */
export function plainContext(snapshot: MachineSnapshot): Readonly<Record<string, unknown>> {
  return mayHoldRefs(snapshot) ? withoutRefs(snapshot.context) : snapshot.context;
}

/** What turns one family into another; null if nothing does. */
export function familyChange(before: Family | undefined, after: Family | undefined): FamilyChange | null {
  if (before === after) return null;
  const change: (PackedChild | string)[] = [];
  for (const [path, member] of before?.members ?? []) {
    const next = after?.members.get(path);
    // One that took another's place comes behind its siblings.
    if (next === undefined || next.session !== member.session) change.push(path);
  }
  for (const [path, member] of after?.members ?? []) {
    if (before?.members.get(path) !== member) change.push(member.packed);
  }
  // A family that is empty says that there are references in the context.
  if (change.length === 0) return before === undefined && after !== undefined ? [] : null;
  return change;
}

/** What XState shows of a family: not who is displaced, nor their children. By the path that ids alone make. */
export function shownMembers<T>(
  members: Iterable<T>,
  of: (member: T) => { readonly path: string; readonly displaced: boolean },
): [path: string, member: T][] {
  const shown: [string, T][] = [];
  const hidden = new Set<string>();
  for (const member of members) {
    const { path, displaced } = of(member);
    if (displaced || (hidden.size > 0 && hidden.has(splitPath(path).parent))) hidden.add(path);
    else shown.push([shownPath(path), member]);
  }
  return shown;
}

const SESSION = /^x(\d+)\.(\d+)\./;
/** More than can be made in one turn. */
const MADE_PER_TURN = 2 ** 20;

/** Members in the order in which they were made. Sessions tell; if some are not ours, the order stays. */
export function inOrder<T>(members: readonly T[], sessionOf: (member: T) => string): readonly T[] {
  if (members.length < 2) return members;
  const made = new Map<T, number>();
  for (const member of members) {
    const [, turn, place] = SESSION.exec(sessionOf(member)) ?? [];
    if (turn === undefined) return members;
    made.set(member, Number(turn) * MADE_PER_TURN + Number(place));
  }
  return [...members].sort((a, b) => (made.get(a) as number) - (made.get(b) as number));
}

/** Adds a change to a stored family, in place. Its order is to be made anew then (`inOrder`). */
export function addChange(children: Map<string, PackedChild>, change: FamilyChange): void {
  for (const item of change) {
    if (typeof item === "string") children.delete(item);
    else children.set(item[0], item);
  }
}

/** The path of a child: ids joined by `/`, as in a JSON pointer. */
export function pathOf(parent: string, id: string): string {
  const token = /[~/]/.test(id) ? id.replaceAll("~", "~0").replaceAll("/", "~1") : id;
  return parent === "" ? token : `${parent}/${token}`;
}

/** In an id `~` is always followed by 0 or 1. */
const BESIDE = "~s";

/** The path of a child whose own is another's, who is displaced and lives. */
export function pathBeside(path: string, session: string): string {
  return `${path}${BESIDE}${session}`;
}

/** A path without sessions: what its ids alone make of it. */
export function shownPath(path: string): string {
  return path.includes(BESIDE) ? path.replace(/~s[^/]*/g, "") : path;
}

/** A path's parent, `""` for the root, and the child's own id. */
export function splitPath(path: string): { parent: string; id: string } {
  const slash = path.lastIndexOf("/");
  const last = path.slice(slash + 1);
  const beside = last.indexOf(BESIDE);
  const token = beside < 0 ? last : last.slice(0, beside);
  return {
    parent: slash < 0 ? "" : path.slice(0, slash),
    id: token.replaceAll("~1", "/").replaceAll("~0", "~"),
  };
}

/** On what stands for an actor that is gone: the path that it had. */
export const GONE = Symbol("keyturn.gone");
/** On an actor whose path is not made of ids alone: that path. */
const PLACE = Symbol("keyturn.place");

export function setPlace(actor: XActor, path: string): void {
  Object.defineProperty(actor, PLACE, { value: path });
}

/** The full path of an actor, `""` for the root. */
export function pathOfActor(actor: XActor): string {
  const { [GONE]: gone, [PLACE]: place } = actor as { [GONE]?: string; [PLACE]?: string };
  if (gone !== undefined) return gone;
  if (place !== undefined) return place;
  return actor._parent === undefined ? "" : pathOf(pathOfActor(actor._parent), actor.id);
}

/** A reference to an actor, stored. XState's own form, with the path. */
interface PackedRef {
  readonly xstate$$type: 1;
  readonly id: string;
  readonly path: string;
}

function isActor(value: object): value is XActor {
  return OPAQUE in value;
}

/** A value with each actor in it replaced by what stands for it in storage; the value itself if there is none. */
export function withoutRefs<T>(value: T): T {
  return mapDeep(value, (inner) =>
    isActor(inner)
      ? ({ xstate$$type: 1, id: inner.id, path: pathOfActor(inner) } satisfies PackedRef)
      : undefined,
  ) as T;
}

/**
 * The reverse.
 * @param gone makes what stands for an actor that is gone: it takes no event, as a stopped actor
 */
export function withRefs<T>(
  value: T,
  actors: ReadonlyMap<string, XActor>,
  gone: (id: string, path: string) => XActor,
): T {
  return mapDeep(value, (inner) => {
    const { xstate$$type, id, path } = inner as Partial<PackedRef>;
    if (xstate$$type !== 1 || typeof id !== "string" || typeof path !== "string") return undefined;
    return actors.get(path) ?? gone(id, path);
  }) as T;
}

/** Copies what is above a replaced object. `replace` answers undefined to look inside. */
function mapDeep(value: unknown, replace: (inner: object) => object | undefined): unknown {
  if (typeof value !== "object" || value === null) return value;
  const replaced = replace(value);
  if (replaced !== undefined) return replaced;
  if (Array.isArray(value)) {
    let copy: unknown[] | undefined;
    for (let at = 0; at < value.length; at++) {
      const inner = mapDeep(value[at], replace);
      if (inner !== value[at]) (copy ??= value.slice())[at] = inner;
    }
    return copy === undefined ? value : Object.freeze(copy);
  }
  if (value instanceof Map) {
    const entries = [...value].map(([key, inner]) => [key, mapDeep(inner, replace)] as const);
    return entries.some(([key, inner]) => inner !== value.get(key)) ? new Map(entries) : value;
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  let copy: Record<string, unknown> | undefined;
  // No list of entries for each: this is done for all of a context in every turn.
  for (const name in value) {
    const before = (value as Record<string, unknown>)[name];
    if (typeof before !== "object" || before === null) continue;
    const inner = mapDeep(before, replace);
    if (inner !== before) (copy ??= { ...value })[name] = inner;
  }
  return copy === undefined ? value : Object.freeze(copy);
}

function packState(actor: XActor, snapshot: ChildSnapshot): unknown {
  if (isMachineSnapshot(snapshot)) return packMachine(snapshot);
  const persisted = actor.logic.getPersistedSnapshot?.(snapshot) ?? snapshot;
  const plain = withoutRefs(persisted);
  seal(plain, `the state of "${actor.id}"`);
  return plain;
}

export function packMachine(snapshot: MachineSnapshot): PackedMachine {
  return [
    snapshot.value,
    withoutRefs(snapshot.context),
    snapshot.status,
    withoutRefs(snapshot.output),
    historyOf(snapshot) ?? null,
    snapshot.error,
  ];
}

/** A snapshot's history as node ids. */
export function historyOf(
  snapshot: MachineSnapshot,
): Readonly<Record<string, readonly string[]>> | undefined {
  const stored = snapshot.historyValue as unknown as Record<string, { id: string }[]>;
  const nodes = Object.keys(stored);
  if (nodes.length === 0) return undefined;
  return Object.fromEntries(nodes.map((node) => [node, (stored[node] ?? []).map((item) => item.id)]));
}
