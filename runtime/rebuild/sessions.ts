/**
 * Which of an actor's invocations is which: the sessions of what two definitions have invoked and spawned.
 *
 * Owns the pairing of what the journal says was begun with what the replayed definition has begun. Talks to the machine's
 * host, by which a family is put together anew under other names.
 *
 * A session is named by the turn that made it and by its place there. What a replay makes has the names of the past as
 * long as both definitions invoke the same in the same turns. They do not where the new one invokes more, or where a node
 * that hosts it has migrated the actor and begun then what the replay has begun turns ago. The result of work, and whether
 * it runs already, are known by the session alone: so what is the same has to be called the same.
 *
 * Invariants:
 * 1. What the journal begins takes over the name and the work of what the replay has active at the same path, of the same
 *    logic; an invocation without an id is known by its state, whichever place in it it has. So its result counts, and it
 *    is neither run nor asked again when the actor is promoted.
 * 2. What has no counterpart never bears a name that the journal gave to something else: it would get that one's result,
 *    and would be taken for running.
 * 3. Sessions are in the order in which what they name was made, parents before their children (`inOrder`).
 */
import {
  familyOf,
  isAskTimeout,
  isWorkTimer,
  type MachineHost,
  persist,
  type Timer,
} from "../engine/machine.ts";
import { type Family, inOrder, type Member, type PackedChild, splitPath } from "../engine/machine/family.ts";
import type { TurnRecord } from "../engine/record.ts";
import { REBUILT } from "../engine/replace.ts";
import type { Life } from "./life.ts";

/** Places in a turn from here on are those of names that only a rebuild gives. */
const OWN_PLACE = 2 ** 19;
const SESSION = /^x(\d+)\.\d+\.(\w+)$/;
/** XState's id of an invocation that was given none: its place in the state node, and the node's id. */
const PLACED = /^\d+\.(.+)$/;

const noTimers: readonly Timer[] = [];

/** Gives what a record says was begun its counterpart's place. After the record's own turn has been replayed. */
export function takeNames(life: Life, record: TurnRecord, host: MachineHost): void {
  const family = familyOf(life.snapshot);
  if (family === undefined) return;
  const begun = begunIn(record);
  if (begun.length === 0) return;
  const pairs = pair(family, begun);
  const names = namesFor(family, begun, pairs, record.turn);
  for (const [member, [path, session]] of pairs)
    if (path !== member.path) life.paths = new Map(life.paths).set(session, path);
  if (names.size > 0) rename(life, names, host, record.change?.timers ?? noTimers);
}

/** What the journal says was made in a record's turn, or is there when a promotion has replaced all of it. */
function begunIn({ change, turn, event }: TurnRecord): readonly PackedChild[] {
  const children = (change?.children ?? []).filter((child) => typeof child !== "string");
  if ((event as { type?: unknown } | null)?.type === REBUILT) return children;
  return children.filter(([, session]) => Number(SESSION.exec(session)?.[1]) === turn);
}

type Pairs = ReadonlyMap<Member, PackedChild>;

function pair(family: Family, begun: readonly PackedChild[]): Pairs {
  const pairs = new Map<Member, PackedChild>();
  const byPath = new Map(begun.map((child) => [child[0], child]));
  const fits = (member: Member | undefined, { 2: src }: PackedChild): member is Member =>
    member?.src === src && member.snapshot.status === "active" && !pairs.has(member);
  // Parents come first: a child of what has no counterpart has none.
  for (const child of begun) {
    if (!isActive(child)) continue;
    const [path, , src] = child;
    const { parent, id } = splitPath(path);
    const above = byPath.get(parent);
    const [own] = [...pairs].find(([, known]) => known === above) ?? [];
    if (above !== undefined && own === undefined) continue;
    const parentPath = own?.path ?? parent;
    const same = family.members.get(own === undefined ? path : path.replace(parent, parentPath));
    if (fits(same, child)) pairs.set(same, child);
    else {
      const state = PLACED.exec(id)?.[1];
      const moved = [...family.members.values()].find((member) => {
        const place = splitPath(member.path);
        const known = byPath.get(member.path);
        return (
          state !== undefined &&
          place.parent === parentPath &&
          PLACED.exec(place.id)?.[1] === state &&
          fits(member, child) &&
          known?.[2] !== src
        );
      });
      if (moved !== undefined) pairs.set(moved, child);
    }
  }
  return pairs;
}

/** New names by the ones that members have. */
function namesFor(
  family: Family,
  begun: readonly PackedChild[],
  pairs: Pairs,
  turn: number,
): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  const given = new Map(begun.map((child) => [child[1], child]));
  const paired = new Set(pairs.values());
  let own = 0;
  for (const member of family.members.values()) {
    const { session, path } = member;
    const counterpart = pairs.get(member);
    const parent = family.members.get(splitPath(path).parent);
    if (counterpart !== undefined) {
      if (counterpart[1] !== session) names.set(session, counterpart[1]);
      continue;
    }
    const other = given.get(session);
    // Where a logic was replaced by another in the same place, what came of the one is what came of the other.
    const isOthers = other !== undefined && (other[0] !== path || paired.has(other));
    if (isOthers || (parent !== undefined && names.has(parent.session)))
      names.set(session, `x${turn}.${OWN_PLACE + own++}.${SESSION.exec(session)?.[2] ?? "0"}`);
  }
  return names;
}

function rename(
  life: Life,
  names: ReadonlyMap<string, string>,
  host: MachineHost,
  recorded: readonly Timer[],
): void {
  const named = (session: string | undefined): string | undefined =>
    session === undefined ? undefined : (names.get(session) ?? session);
  const state = persist(life.snapshot as NonNullable<Life["snapshot"]>);
  const children = (state.children ?? []).map(
    ([path, session, src, systemId, flags, own]): PackedChild => [
      path,
      names.get(session) ?? session,
      src,
      systemId,
      flags,
      own,
    ],
  );
  life.snapshot = host.restore({ ...state, children: inOrder(children, ([, session]) => session) });
  life.timers = life.timers.map((timer) => {
    const source = named(timer.source);
    const target = named(timer.target);
    if (source === timer.source && target === timer.target) return timer;
    // Since when something runs outside, and how often it was tried, is what the journal says.
    const outside = isWorkTimer(timer) || isAskTimeout(timer);
    const known = outside && recorded.find(({ id, source: its }) => id === timer.id && its === source);
    return known || { ...timer, source, target };
  });
}

function isActive([, , , , , state]: PackedChild): boolean {
  const status = Array.isArray(state)
    ? (state as unknown[])[2]
    : (state as { status?: unknown } | null)?.status;
  return status === "active";
}
