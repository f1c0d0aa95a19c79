/**
 * Promotes: puts rebuilt states in the actors' places, one turn each.
 *
 * Owns the rounds. Talks to the actors' owners by requests, and to the journal for what actors took meanwhile.
 *
 * Invariants:
 * 1. An actor is replaced only where it stands at the very record that was replayed last; else what came since is
 *    replayed, and it is tried again. So no event is lost, and none is applied twice.
 * 2. What others are told they are told in the turn that replaces the actor, as of the very record that it stands at. So it
 *    is told once, and whoever replays the journal again finds it told.
 * 3. A round that ends in the middle leaves each actor either as it was or replaced. Another one, of this or of another
 *    process, goes on: what was replaced is found equal.
 */
import type { Client } from "../client/client.ts";
import { replaceActor } from "../client/fork.ts";
import { forEach } from "../engine/concurrently.ts";
import type { AnyActorDefinition } from "../engine/definition.ts";
import { persist } from "../engine/machine.ts";
import type { EventObject } from "../engine/machine/internals.ts";
import { packTimers } from "../engine/record.ts";
import { REBUILT, type Replacement } from "../engine/replace.ts";
import { asError } from "../engine/faults.ts";
import type { Store } from "../ports/index.ts";
import type { ErrorCode } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { sizeOf } from "../words/values.ts";
import type { Life } from "./life.ts";
import type { Pass } from "./rebuild.ts";
import type { Sent } from "./tells.ts";

/** Requests in flight. */
const AT_ONCE = 512;
/** Rounds after each other in which no actor was replaced, before those that are left are given up. */
const ROUNDS_WITHOUT = 200;
const FAILURES = 100;
/** Messages that others are told in one turn: there may be questions in it too. */
const TELLS_MAX = limits.tellsPerTurn / 2;
const TELLS_BYTES = limits.eventBytes / 4;
/** Actors between two reports of progress. */
const PROGRESS = 256;

export interface PromoteReport {
  /** Actors that have the rebuilt state now. */
  promoted: number;
  /** Messages that others were told with it: those that only the new definition would have told them. */
  told: number;
  /** Actors that were deleted meanwhile. */
  gone: number;
  failed: number;
  /** Some of those that failed. */
  failures: { readonly key: string; readonly code: ErrorCode; readonly reason: string }[];
}

export interface PromoteParts {
  readonly store: Store;
  readonly client: Client;
  readonly definition: AnyActorDefinition;
  readonly signal: AbortSignal | undefined;
  /** Whether others are told what they would have been told. */
  readonly tell: boolean;
  /** Those of some actors whose running states are not what they were rebuilt as. */
  compare(lives: readonly Life[]): Promise<readonly Life[]>;
  progress(done: number, total: number): void;
}

/** Promotes the actors of one pass. */
export async function promotePart(pass: Pass, parts: PromoteParts): Promise<PromoteReport> {
  const { store, signal } = parts;
  const { replay } = pass;
  const report: PromoteReport = { promoted: 0, told: 0, failed: 0, gone: 0, failures: [] };
  const pending = new Map(pass.changed);
  const stood = new Map([...pending.values()].map((life) => [life.id, life.turn]));
  // Where actors stood when they were compared; those that were equal may have gone on under the former definition.
  replay.touched = new Set();
  await replay.follow(store.journal, await store.journal.ends());
  const moved = [...replay.touched].flatMap((id) => {
    const life = replay.lives.get(id);
    if (life === undefined || life.snapshot === undefined) return [];
    const turn = stood.get(id);
    // Another process has replaced it meanwhile, perhaps one that has died.
    if (turn !== undefined && life.rebuilt > turn) pending.delete(id);
    return pending.has(id) ? [] : [life];
  });
  replay.touched = undefined;
  if (moved.length > 0) for (const life of await parts.compare(moved)) pending.set(life.id, life);
  const untold = (life: Life): readonly Sent[] => (parts.tell ? replay.untold(life) : []);
  for (const life of moved) if (untold(life).length > 0) pending.set(life.id, life);
  const total = pending.size;
  const since = new Map([...pending.values()].map((life) => [life.id, life.turn]));
  /** Messages in a try of which the answer was lost, by actor, with the turn at which it was replaced last before. */
  const tried = new Map<string, readonly [rebuilt: number, count: number]>();
  for (let idle = 0; pending.size > 0 && idle < ROUNDS_WITHOUT; idle++) {
    const before = pending.size;
    await forEach([...pending.values()], AT_ONCE, async (life) => {
      if (signal?.aborted || !pending.has(life.id)) return;
      if (replay.lives.get(life.id) !== life) {
        // A later life began with the new definition, or is to be compared by another rebuild.
        pending.delete(life.id);
        report.gone++;
        return;
      }
      const [before, count] = tried.get(life.id) ?? [life.rebuilt, 0];
      if (life.rebuilt > before) report.told += count;
      tried.delete(life.id);
      const left = untold(life);
      const some = fitting(left);
      // An answer was lost: it was replaced.
      const known = life.rebuilt > (since.get(life.id) as number) && left.length === 0;
      tried.set(life.id, [life.rebuilt, some.length]);
      if (known || (await replaced(life, some, parts, report, pending))) {
        tried.delete(life.id);
        report.told += some.length;
        // The rest with the next round, when this is in the journal.
        if (some.length < left.length) return;
        pending.delete(life.id);
        report.promoted++;
        if (report.promoted % PROGRESS === 0) parts.progress(report.promoted, total);
      }
    });
    if (signal?.aborted) break;
    if (pending.size < before) idle = 0;
    if (pending.size > 0) await replay.follow(store.journal, await store.journal.ends());
  }
  for (const life of pending.values())
    fail(
      report,
      life,
      "timeout",
      "It took turns faster than it could be replaced, or the promotion was ended.",
    );
  parts.progress(report.promoted, total);
  return report;
}

/** The first of them, as many as go with one turn. */
function fitting(tells: readonly Sent[]): readonly Sent[] {
  let bytes = 0;
  const end = tells.findIndex(({ event }) => (bytes += sizeOf(event)) > TELLS_BYTES);
  // One that is larger than all may go alone.
  return tells.slice(0, Math.min(TELLS_MAX, end < 0 ? tells.length : Math.max(1, end)));
}

/** One try. */
async function replaced(
  life: Life,
  tells: readonly Sent[],
  { client, definition }: PromoteParts,
  report: PromoteReport,
  pending: Map<string, Life>,
): Promise<boolean> {
  if (life.snapshot === undefined) return false;
  const replacement: Replacement = {
    why: REBUILT,
    turn: life.turn,
    at: life.at,
    version: definition.version,
    machine: persist(life.snapshot),
    timers: packTimers(life.timers),
    ...(tells.length === 0
      ? {}
      : { tells: tells.map(({ to, event }) => [to, event as EventObject] as const) }),
  };
  try {
    return await replaceActor(client, client.actor(`${definition.type}/${life.key}`), replacement, {});
  } catch (cause) {
    const error = asError(cause);
    if (error.code === "newer_version") throw error;
    if (!error.retryable) {
      pending.delete(life.id);
      fail(report, life, error.code, error.message);
    }
    return false;
  }
}

function fail(report: PromoteReport, life: Life, code: ErrorCode, reason: string): void {
  report.failed++;
  if (report.failures.length < FAILURES) report.failures.push({ key: life.key, code, reason });
}
