/**
 * How the types of a source's actors are named, and what its plan says of those who run it.
 *
 * Owns the names, for those who show sources without knowing their definitions. Talks to nobody.
 */

/** The one key of a plan. */
export const PLAN_KEY = "plan";

/** Type of the partitions of a source; its other types begin so. */
export function partitionType(source: string): string {
  return `source-${source}`;
}

export function planType(source: string): string {
  return `${partitionType(source)}-plan`;
}

/** Type of the pages on which the letters of a source lie. */
export function lettersType(source: string): string {
  return `${partitionType(source)}-letters`;
}

/** The source whose plan a type is; undefined for other types. */
export function sourceOfPlan(type: string): string | undefined {
  return /^source-(.+)-plan$/.exec(type)?.[1];
}

/** The sources among types that are hosted, by name. */
export function sourcesOf(types: Iterable<string>): readonly string[] {
  const names = new Set([...types].map(sourceOfPlan).filter((name) => name !== undefined));
  return [...names].sort();
}

/** What one runner has of a source, as it said last. */
export interface SourceShare {
  /** The node that runs it; undefined if a program of another kind does. */
  readonly node: string | undefined;
  /** Parts that it reads now. */
  readonly partitions: number;
  /** Of those, what there is and was not read: bytes, rows, messages. Undefined if it is not known. */
  readonly lag: number | undefined;
  readonly unit: "bytes" | "rows" | "messages" | "items";
}
