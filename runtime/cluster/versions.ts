/**
 * Versions of actor types: what a node has, what a shard needs, and whether the one is enough for the other.
 *
 * Owns nothing; pure functions. A type that is not named has version 1, so that an app without versions stores none
 * and pays nothing.
 */
import type { Registry } from "../engine/definition.ts";
import type { Member, Versions } from "../ports/index.ts";
import { KeyturnError } from "../words/errors.ts";

/** Shards that an error's text names before it only counts them. */
const NAMED_SHARDS = 8;

/** The versions above 1 of what a node hosts. */
export function versionsOf(registry: Registry): Versions | undefined {
  const above: [string, number][] = [];
  for (const [type, { definition }] of registry)
    if (definition.version > 1) above.push([type, definition.version]);
  return above.length === 0 ? undefined : Object.fromEntries(above);
}

export function versionIn(versions: Versions | undefined, type: string): number {
  return versions !== undefined && Object.hasOwn(versions, type) ? (versions[type] as number) : 1;
}

/** Whether every version in `has` is at least the one in `needed`. */
export function covers(has: Versions | undefined, needed: Versions | undefined): boolean {
  if (needed === undefined || needed === has) return true;
  return Object.entries(needed).every(([type, version]) => versionIn(has, type) >= version);
}

/** The higher one of each. The very `own` if the other adds nothing. */
export function highest(own: Versions | undefined, other: Versions | undefined): Versions | undefined {
  if (other === undefined || covers(own, other)) return own;
  const all = new Map(Object.entries(own ?? {}));
  for (const [type, version] of Object.entries(other)) all.set(type, Math.max(version, versionIn(own, type)));
  return Object.fromEntries(all);
}

/** The same text for the same versions. */
export function nameOf(versions: Versions): string {
  return JSON.stringify(Object.entries(versions).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The error that names the shards which nobody can read, and what each of them needs. */
export function tooOld(
  { types, versions: own }: Pick<Member, "types" | "versions">,
  shards: ReadonlyMap<number, Versions>,
  isHosted: (type: string) => boolean,
): KeyturnError {
  // By what is missing: type, needed version.
  const missing = new Map<string, Map<number, number[]>>();
  for (const [shard, needed] of shards) {
    for (const [type, version] of Object.entries(needed)) {
      if (versionIn(own, type) >= version || !isHosted(type)) continue;
      const versions = missing.get(type) ?? new Map<number, number[]>();
      versions.set(version, [...(versions.get(version) ?? []), shard]);
      missing.set(type, versions);
    }
  }
  const sentences: string[] = [];
  for (const [type, versions] of [...missing].sort(([a], [b]) => (a < b ? -1 : 1)))
    for (const [version, numbers] of [...versions].sort(([a], [b]) => a - b))
      sentences.push(
        `${listOf(numbers)} may hold "${type}" of version ${version}, and this node ${types.includes(type) ? `has version ${versionIn(own, type)}` : "does not host it"}.`,
      );
  return new KeyturnError(
    "newer_version",
    `${shards.size} ${shards.size === 1 ? "shard is" : "shards are"} served by nobody, because every node is too old: ${sentences.join(" ")} Nothing is lost or changed: start a node with the later version to have ${shards.size === 1 ? "it" : "them"} served again.`,
  );
}

function listOf(shards: readonly number[]): string {
  if (shards.length === 1) return `Shard ${shards[0]}`;
  const sorted = [...shards].sort((a, b) => a - b);
  const named = sorted.slice(0, NAMED_SHARDS);
  if (sorted.length > NAMED_SHARDS)
    return `Shards ${named.join(", ")} and ${sorted.length - NAMED_SHARDS} more`;
  return `Shards ${named.slice(0, -1).join(", ")} and ${named.at(-1)}`;
}
