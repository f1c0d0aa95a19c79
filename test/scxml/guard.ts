/**
 * Conditions: an SCXML `cond` as an XState guard.
 *
 * Owns that a condition which cannot be evaluated is false (SCXML would raise `error.execution` too; a guard of XState can
 * raise nothing), and how `In()` is asked. Talks to the data model.
 */
import { and, not, or } from "xstate";
import { type Document, type MachineEvent, type ScxmlContext, scxmlEventOf } from "./content.ts";
import type { DataModel } from "./data-model.ts";
import { ConversionError } from "./document.ts";

/** What XState gives expressions and guards. */
export interface Args {
  readonly context: ScxmlContext;
  readonly event: MachineEvent;
}

/** More `In()` in one condition than this are too many to write out. */
const MOST_PREDICATES = 4;

/** Evaluates something with an expression's arguments. */
export function useData<T>(
  document: Document,
  { context, event }: Args,
  work: (model: DataModel) => T,
  isIn = (_id: string): boolean => false,
): T {
  return document.model.use(context.data, { event: scxmlEventOf(event), isIn }, work);
}

/**
 * The guard of a condition. XState gives guards no view of the states; so those that `In()` names are asked by XState's
 * own `stateIn`, for every combination of them that may hold.
 */
export function guardOf(document: Document, condition: string, stateIn: (id: string) => unknown): unknown {
  const named = Array.from(condition.matchAll(/\bIn\(\s*(['"])(.*?)\1\s*\)/g), (match) => match[2] as string);
  const ids = [...new Set(named)];
  if (ids.length > MOST_PREDICATES) throw new ConversionError("has too many In() in one condition");
  const holds =
    (active: readonly string[]) =>
    (args: Args): boolean => {
      try {
        return useData(
          document,
          args,
          (model) => model.isTrue(condition),
          (id) => active.includes(id),
        );
      } catch {
        return false;
      }
    };
  if (ids.length === 0) return holds([]);
  const combinations = Array.from({ length: 2 ** ids.length }, (_, bits) => {
    const active = ids.filter((_id, at) => (bits >> at) & 1);
    const guards = ids.map((id) => (active.includes(id) ? stateIn(id) : not(stateIn(id) as never)));
    return and([...guards, holds(active)] as never);
  });
  return or(combinations as never);
}
