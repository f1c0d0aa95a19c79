/**
 * Rows: what a catalog knows of an actor, made of its turn in memory or of what is stored of it.
 *
 * Owns which values of a context a row keeps, and how large they may be. Talks to nobody.
 */
import { sizeOf } from "../../words/values.ts";
import { type Activation, linkOf, type Turn } from "../activation.ts";
import type { ActorState, AnyActorDefinition, HostedType } from "../definition.ts";
import { familyOf, persist, withoutRefs } from "../machine.ts";
import type { StateValue } from "../machine/internals.ts";
import { adopt } from "../migration.ts";
import { type PendingTimer, pendingTimers } from "../pending.ts";
import { pathOf } from "../population.ts";
import type { ActorData } from "../state.ts";

/** What a catalog knows of an actor. */
export interface Row {
  readonly key: string;
  readonly turn: number;
  /** Of its last record's batch. */
  readonly position: number;
  /** When that was, milliseconds since the epoch; 0 if the type has no index. */
  readonly time: number;
  readonly value: StateValue;
  /** The same as a text, as people see it. */
  readonly state: string;
  readonly status: ActorState["status"];
  /** Values at the paths of the type's index, in its order; OMITTED for one that is too large. */
  readonly fields: readonly unknown[];
  readonly timers: readonly PendingTimer[];
}

/** Stands for a value that is too large for a row. */
export const OMITTED: unique symbol = Symbol("keyturn.omitted");

/** The largest value that a row keeps, bytes as they are estimated. */
const FIELD_BYTES = 1_024;
const nothing: readonly never[] = [];

/** @param turn one with a state */
export function rowOfTurn(a: Activation, turn: Turn): Row {
  const { definition } = a.hosted;
  const snapshot = turn.snapshot as NonNullable<Turn["snapshot"]>;
  const { timers } = turn;
  const family = familyOf(snapshot);
  return {
    key: a.key,
    turn: turn.turn,
    position: linkOf(turn)[0],
    time: turn.time,
    value: snapshot.value,
    state: pathOf(snapshot.value),
    status: snapshot.status,
    // References to children are shown as they are stored.
    fields: fieldsOf(definition, snapshot.context, family === undefined ? same : withoutRefs),
    timers:
      timers.length === 0
        ? nothing
        : briefly(pendingTimers(timers, (session) => family?.bySession(session)?.path)),
  };
}

/** What is stored, or what the tail made of it. */
export function rowOfData(hosted: HostedType, key: string, stored: ActorData, now: number): Row {
  const { definition } = hosted;
  if (stored.version < definition.version) return rowOfOlder(hosted, key, stored, now);
  return rowOfStored(definition, key, stored);
}

/** One that an older version wrote is found as it is when it is used. */
function rowOfOlder(hosted: HostedType, key: string, stored: ActorData, now: number): Row {
  const { definition } = hosted;
  try {
    const { snapshot, timers } = adopt(hosted, stored, now);
    return rowOfStored(definition, key, { ...stored, machine: persist(snapshot), timers });
  } catch {
    // It cannot be used either, until somebody mends its migration.
    return rowOfStored(definition, key, stored);
  }
}

function rowOfStored(definition: AnyActorDefinition, key: string, data: ActorData): Row {
  const { machine, timers, turn, last, time = 0 } = data;
  const childOf = (session: string): string | undefined =>
    machine.children?.find(([, own]) => own === session)?.[0];
  return {
    key,
    turn,
    position: last[0],
    time,
    value: machine.value,
    state: pathOf(machine.value),
    status: machine.status,
    fields: fieldsOf(definition, machine.context),
    timers: timers.length === 0 ? nothing : briefly(pendingTimers(timers, childOf)),
  };
}

/** Without what their events carry: rows are many. */
function briefly(timers: readonly PendingTimer[]): PendingTimer[] {
  return timers.map((timer) => ({ ...timer, event: { type: timer.event.type } }));
}

function same(value: unknown): unknown {
  return value;
}

function fieldsOf(
  { index }: AnyActorDefinition,
  context: unknown,
  shown: (value: unknown) => unknown = same,
): readonly unknown[] {
  if (index === undefined || index.length === 0) return nothing;
  return index.map((path) => {
    let value: unknown = context;
    for (const name of path.split(".")) {
      if (typeof value !== "object" || value === null) return undefined;
      value = (value as Record<string, unknown>)[name];
    }
    value = shown(value);
    return isSmall(value) ? value : OMITTED;
  });
}

function isSmall(value: unknown): boolean {
  if (typeof value === "string") return value.length <= FIELD_BYTES;
  return typeof value !== "object" || value === null || sizeOf(value) <= FIELD_BYTES;
}
