/**
 * The cluster as people look at it: its nodes, and who serves which shard.
 *
 * Owns the form. Reads the store's directory and changes nothing; what it answers may be a moment behind.
 */
import type { Directory, Versions } from "../ports/index.ts";

/** A node in its present life. */
export interface ClusterNode {
  /** Kept over restarts. */
  readonly name: string;
  /** This life of it. */
  readonly incarnation: string;
  readonly weight: number;
  /** It hands its shards over, and ends. */
  readonly leaving: boolean;
  /** Types that it hosts, the runtime's own too. */
  readonly types: readonly string[];
  /** Versions above 1 of its types. */
  readonly versions: Versions;
  /** How many shards it serves. */
  readonly shards: number;
}

export interface ClusterShard {
  readonly shard: number;
  /** Incarnation of the node that serves it; undefined while none does. */
  readonly owner: string | undefined;
  /** Grows by one with each change of owner; 0 if it never had one. */
  readonly epoch: number;
}

export interface Cluster {
  /** By name. */
  readonly nodes: readonly ClusterNode[];
  readonly shards: readonly ClusterShard[];
}

/** Entries read at once. */
const SHARDS_AT_ONCE = 1_024;

export async function readCluster(directory: Directory, count: number): Promise<Cluster> {
  const members = await directory.members();
  const shards: ClusterShard[] = [];
  const served = new Map<string, number>();
  for (let from = 0; from < count; from += SHARDS_AT_ONCE) {
    const numbers = Array.from({ length: Math.min(SHARDS_AT_ONCE, count - from) }, (_, n) => from + n);
    const found = await directory.readShards(numbers);
    for (const shard of numbers) {
      const { owner, epoch = 0 } = found.get(shard)?.entry ?? {};
      if (owner !== undefined) served.set(owner, (served.get(owner) ?? 0) + 1);
      shards.push({ shard, owner, epoch });
    }
  }
  const nodes = members.map(
    ({ node, incarnation, weight, leaving, types, versions = {} }): ClusterNode => ({
      name: node,
      incarnation,
      weight,
      leaving,
      types,
      versions,
      shards: served.get(incarnation) ?? 0,
    }),
  );
  nodes.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.incarnation < b.incarnation ? -1 : 1));
  return { nodes, shards };
}
