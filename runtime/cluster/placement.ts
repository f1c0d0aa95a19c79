/**
 * Placement: which node should own a shard.
 *
 * A pure function of the shard and the members, the same on every node that sees the same members. Weighted
 * rendezvous hashing: when a node joins or leaves, only the shards that it gains or loses move.
 * Source: Thaler and Ravishankar 1998; weights as in Schindelhauer and Schomaker 2005.
 */

export interface Candidate {
  /** Name of the node, the same over restarts, so that a restarted node gets its shards back. */
  readonly node: string;
  readonly incarnation: string;
  readonly weight: number;
}

/** The candidate that should own a shard; undefined without candidates. */
export function place<C extends Candidate>(shard: number, candidates: readonly C[]): C | undefined {
  let best: C | undefined;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const candidate of candidates) {
    const score = -candidate.weight / Math.log(unit(candidate.node, shard));
    if (
      score > bestScore ||
      (score === bestScore && best !== undefined && candidate.incarnation > best.incarnation)
    ) {
      best = candidate;
      bestScore = score;
    }
  }
  return best;
}

/** A number in (0, 1) that depends on every bit of the node's name and the shard. */
function unit(node: string, shard: number): number {
  let hash = 0x811c9dc5 ^ Math.imul(shard + 1, 0x9e3779b1);
  for (let at = 0; at < node.length; at++) hash = Math.imul(hash ^ node.charCodeAt(at), 0x01000193);
  // FNV mixes the last characters badly; the finalizer of MurmurHash3 spreads them.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  hash ^= hash >>> 16;
  return ((hash >>> 0) + 0.5) / 0x1_0000_0000;
}
