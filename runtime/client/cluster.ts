/**
 * The cluster as people look at it: its nodes, and who serves which shard.
 *
 * Owns the form. Reads the store's directory and changes nothing; what it answers may be a moment behind.
 */
import type { Directory, Versions } from "../ports/index.ts";
import { isKeyturnError } from "../words/errors.ts";
import { sourceOfPlan, type SourceShare } from "../words/sources.ts";

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

/** What one runner reads of a source. */
export interface ClusterSource extends SourceShare {
  readonly source: string;
  /** Name of the runner, drawn. */
  readonly runner: string;
}

export interface Cluster {
  /** By name. */
  readonly nodes: readonly ClusterNode[];
  readonly shards: readonly ClusterShard[];
  /** Who reads which source, with what they have not read yet, as they said it last: seconds ago. By source. */
  readonly sources: readonly ClusterSource[];
}

/** Entries read at once. */
const SHARDS_AT_ONCE = 1_024;

/**
 * @param count shards of the app
 * @param planOf the context of a source's plan, by its type
 */
export async function readCluster(
  directory: Directory,
  count: number,
  planOf: (type: string) => Promise<unknown>,
): Promise<Cluster> {
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
  return { nodes, shards, sources: await sourcesOf(nodes, planOf) };
}

/** What the plans of the sources say that some node hosts. */
async function sourcesOf(
  nodes: readonly ClusterNode[],
  planOf: (type: string) => Promise<unknown>,
): Promise<readonly ClusterSource[]> {
  const plans = [...new Set(nodes.flatMap(({ types }) => types))].filter(
    (type) => sourceOfPlan(type) !== undefined,
  );
  const found = await Promise.all(
    plans.sort().map(async (type) => {
      const source = sourceOfPlan(type) as string;
      const { shares = {} } = (await planOf(type).catch((error: unknown) => {
        // Where nobody answers now, there is still a cluster to be seen.
        if (isKeyturnError(error)) return {};
        throw error;
      })) as { readonly shares?: Readonly<Record<string, SourceShare>> };
      return Object.entries(shares).map(([runner, share]): ClusterSource => ({ ...share, source, runner }));
    }),
  );
  return found.flat();
}
