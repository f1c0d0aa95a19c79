/**
 * Replacements: a whole state put in an actor's place, as one turn of it.
 *
 * Owns what such a request holds, its checks, and the turn that it makes. Talks to the step's record helpers and, for
 * states of an older version, to migrations. Two ask for it: a rebuild that switches an actor over to what a new
 * definition makes of its past (`runtime/rebuild`), and a fork, which begins a sandbox with another actor's past state.
 *
 * Invariants:
 * 1. A replacement is taken only by an actor that stands where its maker saw it stand: at that turn, recorded there.
 *    Otherwise it changes nothing and is answered `false`. So nothing that came meanwhile is lost.
 * 2. Its record is a keyframe: recovery and history need nothing of what was before.
 * 3. It answers nobody, runs no action, and tells others only what its maker says. What its state waits for is begun: timers,
 *    work, and questions that the former state had not asked.
 * 4. A state that the hosted machine does not have is refused by name, and the actor stays as it was.
 */
import { KeyturnError } from "../words/errors.ts";
import { type Activation, type Job, linkOf, linkTo, NoPlace, placeAt, Turn } from "./activation.ts";
import { isWake } from "./delays.ts";
import { isLifeTimer, withLife } from "./life.ts";
import type { EventObject } from "./machine/internals.ts";
import { familyOf, type MachineSnapshot, type MachineState, type Timer } from "./machine.ts";
import { adopt } from "./migration.ts";
import { Outgoing } from "./outgoing.ts";
import { KeyframeTurn, type Link, NoLink, type OutMessage, type PackedTimer, unpackTimer } from "./record.ts";
import type { ActorData } from "./state.ts";
import { effectless, sourceOf, type Taken } from "./taken.ts";
import { blank, checkSize, encoded, type Slot, wholeOf } from "./turn-record.ts";

/** Types of the events of such turns, as history shows them. `xstate.` is reserved: nobody can send them. */
export const REBUILT = "xstate.keyturn.rebuilt";
export const FORKED = "xstate.keyturn.forked";

/** What a request of kind `Replace` brings. */
export interface Replacement {
  readonly why: typeof REBUILT | typeof FORKED;
  /** The turn that the actor must stand at, 0 if it must not exist; and where that turn's record lies, null for none. */
  readonly turn: number;
  readonly at: Link | null;
  /** Of the machine whose state it is. A rebuilt one must be of the very version that is hosted. */
  readonly version: number;
  readonly machine: MachineState;
  readonly timers: readonly PackedTimer[];
  /** What others are told with it. */
  readonly tells?: readonly (readonly [to: string, event: EventObject])[];
  /** For people: of what it is a fork. */
  readonly of?: string;
}

/**
 * Checks what came from outside, as far as the machine does not.
 * @throws KeyturnError `invalid_frame`
 */
export function checkReplacement(value: unknown): Replacement {
  const given = (value ?? {}) as Partial<Record<keyof Replacement, unknown>>;
  const { why, turn, at, version, machine, timers, tells = [] } = given;
  const { context, status, value: states } = (machine ?? {}) as Partial<Record<keyof MachineState, unknown>>;
  const fits =
    (why === REBUILT || why === FORKED) &&
    isWhole(turn) &&
    (at === null || (Array.isArray(at) && at.length === 2 && at.every(isWhole))) &&
    isWhole(version) &&
    version > 0 &&
    typeof context === "object" &&
    context !== null &&
    (typeof states === "string" || (typeof states === "object" && states !== null)) &&
    (status === "active" || status === "done" || status === "error") &&
    Array.isArray(timers) &&
    timers.every(isPackedTimer) &&
    Array.isArray(tells) &&
    tells.every((tell) => Array.isArray(tell) && tell.length === 2);
  if (!fits) throw new KeyturnError("invalid_frame", "A replacement is not one that this runtime makes.");
  return given as unknown as Replacement;
}

function isWhole(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isPackedTimer(value: unknown): boolean {
  if (!Array.isArray(value) || value.length < 4) return false;
  const [id, due, generation, event, source, target] = value as readonly unknown[];
  const isName = (name: unknown): boolean => name === undefined || name === null || typeof name === "string";
  return (
    typeof id === "string" &&
    Number.isFinite(due) &&
    Number.isFinite(generation) &&
    typeof (event as { type?: unknown } | null)?.type === "string" &&
    isName(source) &&
    isName(target)
  );
}

/** The turn that an actor stands at, also one that the hosted version cannot load. */
export function standing(a: Activation): Turn {
  const { stored } = a;
  if (a.failed === undefined || stored === undefined || a.inFlight) return a.latest;
  const { turn, timers, requests, version, last, keyframe } = stored;
  const known = requests.map(({ requestId, at }) => ({ requestId, place: placeAt(at) }));
  const place = placeAt(last);
  return new Turn(
    a.id,
    turn,
    undefined,
    timers,
    known,
    version,
    place.batch,
    place.index,
    placeAt(keyframe),
    0,
  );
}

/** Whether an actor stands where a replacement expects it. */
export function standsAt(before: Turn, { turn, at }: Replacement): boolean {
  if (before.turn !== turn) return false;
  if (turn === 0) return true;
  const [seq, index] = linkOf(before);
  return at !== null && seq > 0 && at[0] === seq && at[1] === index;
}

/**
 * The turn that puts a state in an actor's place.
 * @throws KeyturnError `newer_version`, `incompatible_snapshot`, `migration_failed`, `state_too_large`
 */
export function takeReplace(
  a: Activation,
  before: Turn,
  given: Replacement,
  job: Job,
  slot: Slot,
  now: number,
  shards: number,
): Taken {
  const { type, version } = a.hosted.definition;
  if (given.why === REBUILT && given.version !== version) {
    throw new KeyturnError(
      "newer_version",
      `The state of ${a.id} was rebuilt with version ${given.version} of "${type}", and this node hosts version ${version}. Deploy version ${given.version} on every node, then promote.`,
    );
  }
  const timers = given.timers.map(unpackTimer);
  const data: ActorData = {
    machine: given.machine,
    timers,
    requests: [],
    turn: before.turn,
    version: given.version,
    last: NoLink,
    keyframe: NoLink,
  };
  const adopted = adopt(a.hosted, data, now);
  const number = before.turn + 1;
  const own = adopted.timers.filter((timer: Timer) => !isLifeTimer(timer) && !isWake(timer));
  const known = before.timers.find(isLifeTimer);
  // How long it lives was the actor's own before, and goes on.
  const living = known === undefined ? own : [...own, known];
  const left = withLife({ hosted: a.hosted, latest: before }, adopted.snapshot, living, number, now);
  const out = given.why === REBUILT ? toldWith(a, given, adopted.snapshot, shards) : [];
  const event = given.of === undefined ? { type: given.why } : { type: given.why, of: given.of };
  const record = encoded({
    ...blank(a.id, slot, sourceOf(job)),
    kind: KeyframeTurn,
    turn: number,
    previous: linkTo(number === 1 ? NoPlace : before, slot.batch),
    keyframe: linkTo(before.keyframe, slot.batch),
    version,
    event,
    change: wholeOf(adopted.snapshot, left),
    out,
    trace: job.trace,
  });
  const bytes = checkSize(adopted.snapshot, left, before.requests, record.length, a.id);
  const turn = new Turn(
    a.id,
    number,
    adopted.snapshot,
    left,
    before.requests,
    version,
    slot.batch,
    slot.index,
    { batch: slot.batch, index: slot.index },
    bytes,
  );
  return { ...effectless, a, job, turn, index: slot.index, record, out, refusal: undefined };
}

/** What others are told with a state, and questions that it waits for and that nobody was asked by the one before. */
function toldWith(
  a: Activation,
  { tells = [] }: Replacement,
  next: MachineSnapshot,
  shards: number,
): readonly OutMessage[] {
  const asked = new Set<string>();
  for (const { session } of familyOf(a.latest.snapshot)?.members.values() ?? []) asked.add(session);
  if (a.failed !== undefined) for (const [, session] of a.stored?.machine.children ?? []) asked.add(session);
  const outgoing = new Outgoing(a.shard, undefined, shards);
  for (const [to, event] of tells) outgoing.tell({ to, event, asker: undefined }, a.id);
  for (const { kind, session, snapshot } of familyOf(next)?.members.values() ?? []) {
    if (kind !== "ask" || snapshot.status !== "active" || asked.has(session)) continue;
    const { to, event } = (snapshot.input ?? {}) as Record<string, unknown>;
    outgoing.tell({ to, event, asker: session }, a.id);
  }
  return outgoing.messages;
}
