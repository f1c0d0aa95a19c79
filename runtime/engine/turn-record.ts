/**
 * The record of a turn: what it changes, or the whole state.
 *
 * Owns what of a state counts as changed, when a record holds the whole of it, and that it fits. Talks to the record
 * format (record.ts).
 *
 * Invariants:
 * 1. A turn that cannot be recorded (too large, not plain data) fails here, before anybody sees it.
 * 2. Every `limits.keyframeTurns` turns the record holds the whole state, and so does the first of a new version.
 */
import { encode } from "../words/codec.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import type { BatchRef, RequestPlace, Turn } from "./activation.ts";
import type { AnyActorDefinition } from "./definition.ts";
import {
  familyOf,
  historyOf,
  type MachineSnapshot,
  mayHoldRefs,
  persist,
  plainContext,
  sameStates,
  type Timer,
  withoutRefs,
} from "./machine.ts";
import { familyChange } from "./machine/family.ts";
import {
  type Change,
  DeltaTurn,
  encodeRecord,
  NoLink,
  packTimers,
  type SourceKind,
  type TurnRecord,
} from "./record.ts";

/** Where the record will lie. */
export interface Slot {
  readonly batch: BatchRef;
  readonly index: number;
  /** Now, milliseconds since the epoch, and how long after the batch's time that is. */
  readonly time: number;
  readonly delay: number;
}

/** What a turn comes of, as its record says it. */
export type Source = readonly [kind: SourceKind, name: string | number, number: number];

const nothing: readonly never[] = [];

export function blank(id: string, slot: Slot, [source, sourceName, sourceNumber]: Source): TurnRecord {
  return {
    kind: DeltaTurn,
    id,
    turn: 0,
    previous: NoLink,
    keyframe: NoLink,
    source,
    sourceName,
    sourceNumber,
    delay: slot.delay,
    version: 0,
    event: null,
    change: null,
    out: nothing,
    emitted: nothing,
    replied: false,
    reply: undefined,
    requestId: undefined,
    trace: undefined,
    refusal: undefined,
  };
}

/** Whether a turn's record holds the whole state. A change cannot be added to a state of another version. */
export function isWhole(number: number, before: Turn, { version, keyframes }: AnyActorDefinition): boolean {
  return (number - 1) % limits.keyframeTurns === 0 || before.version !== version || keyframes === "always";
}

/** What a step has changed. */
export function changeOf(before: Turn, next: MachineSnapshot, timers: readonly Timer[]): Change | null {
  const last = before.snapshot as MachineSnapshot;
  const family = familyOf(next);
  const children = familyChange(familyOf(last), family);
  let context: Record<string, unknown> | null = null;
  let removed: string[] | null = null;
  if (next.context !== last.context) {
    for (const name in next.context) {
      const value: unknown = next.context[name];
      if (value !== last.context[name] || !(name in last.context)) {
        context ??= {};
        context[name] = mayHoldRefs(next) ? withoutRefs(value) : value;
      }
    }
    for (const name in last.context) {
      if (!(name in next.context)) {
        removed ??= [];
        removed.push(name);
      }
    }
  }
  const rest: Change["rest"] =
    next.status !== last.status || next.output !== last.output || next.historyValue !== last.historyValue
      ? restOf(next)
      : null;
  return {
    context,
    removed,
    value: sameStates(next, last) ? null : next.value,
    rest,
    timers: timers === before.timers ? null : timers,
    children,
  };
}

function restOf(next: MachineSnapshot): Change["rest"] {
  const history = historyOf(next) ?? null;
  return next.error === undefined
    ? [next.status, withoutRefs(next.output), history]
    : [next.status, withoutRefs(next.output), history, next.error];
}

export function wholeOf(next: MachineSnapshot, timers: readonly Timer[]): Change {
  const family = familyOf(next);
  return {
    context: plainContext(next),
    removed: null,
    value: next.value,
    rest: next.status === "active" && Object.keys(next.historyValue).length === 0 ? null : restOf(next),
    timers: timers.length === 0 ? null : timers,
    children: family === undefined ? null : family.pack(),
  };
}

export function encoded(record: TurnRecord): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = encodeRecord(record);
  } catch (cause) {
    throw new KeyturnError("context_invalid", `The turn of ${record.id} cannot be stored: ${textOf(cause)}`, {
      cause,
    });
  }
  if (bytes.length > limits.recordBytes) {
    throw new KeyturnError(
      "state_too_large",
      `The turn of ${record.id} takes ${bytes.length} bytes, at most ${limits.recordBytes} fit into one record. Keep less in one actor.`,
    );
  }
  return bytes;
}

/** The new estimate of an actor's size. Only an estimate over the limit costs an exact count. */
export function checkSize(
  snapshot: MachineSnapshot,
  timers: readonly Timer[],
  requests: readonly RequestPlace[],
  estimate: number,
  id: string,
): number {
  if (estimate <= limits.stateBytes) return estimate;
  // Everything that a snapshot holds; see encodeSnapshot.
  const exact = encode([
    persist(snapshot),
    packTimers(timers),
    requests.map((r) => [r.requestId, 0, 0]),
  ]).length;
  if (exact <= limits.stateBytes) return exact;
  throw new KeyturnError(
    "state_too_large",
    `The state of ${id} would take ${exact} bytes, at most ${limits.stateBytes} are allowed. Spread it over several actors.`,
  );
}
