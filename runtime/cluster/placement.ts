/**
 * Placement: which node should own a shard.
 *
 * `place` is a pure function of the shard and the members, the same on every node that sees the same members. Weighted
 * rendezvous hashing: when a node joins or leaves, only the shards that it gains or loses move.
 * Source: Thaler and Ravishankar 1998; weights as in Schindelhauer and Schomaker 2005.
 *
 * `Placement` keeps the best node of every shard, so that a change of the members costs one look per shard for each
 * node that came, and a look at all nodes for the shards of those that left; not a look at all nodes for all shards.
 *
 * Lives of one name share what the name gets: shards go by the name, so that a restarted node has its own again, and
 * among several of that name by their incarnations.
 *
 * Only some of the candidates may be asked (those that can read a shard: see versioned-placement.ts). How two lives
 * rank does not depend on who else is asked: a name weighs what its heaviest life weighs, asked or not.
 */

export interface Candidate {
  /** Name of the node, the same over restarts, so that a restarted node gets its shards back. */
  readonly node: string;
  readonly incarnation: string;
  readonly weight: number;
}

/** The candidate that should own a shard, of those that `asks` accepts, by default all; undefined without any. */
export function place<C extends Candidate>(
  shard: number,
  candidates: readonly C[],
  asks: (candidate: C) => boolean = anyone,
): C | undefined {
  let best: Named<C> | undefined;
  let bestUnit = 0;
  for (const named of byName(candidates, asks).values()) {
    const unit = unitOf(named.codes, shard);
    if (best === undefined || isBetter(unit, named, bestUnit, best)) {
      best = named;
      bestUnit = unit;
    }
  }
  return best && lifeOf(best, shard);
}

/** Where all shards belong among candidates that change. */
export class Placement<C extends Candidate> {
  readonly #shards: number;
  #named: ReadonlyMap<string, Named<C>> = new Map();
  readonly #best: (Named<C> | undefined)[];
  readonly #units: Float64Array;

  constructor(shards: number) {
    this.#shards = shards;
    this.#best = new Array<Named<C> | undefined>(shards).fill(undefined);
    this.#units = new Float64Array(shards);
  }

  /** @param asks whether a candidate is to be asked, by default all */
  update(candidates: readonly C[], asks: (candidate: C) => boolean = anyone): void {
    const next = byName(candidates, asks);
    const gone = new Set<Named<C>>();
    const come: Named<C>[] = [];
    for (const [name, named] of this.#named) if (next.get(name)?.weight !== named.weight) gone.add(named);
    for (const [name, named] of next) {
      const before = this.#named.get(name);
      if (before === undefined || before.weight !== named.weight) {
        come.push(named);
        continue;
      }
      before.lives = named.lives;
      next.set(name, before);
    }
    this.#named = next;
    if (gone.size === 0 && come.length === 0) return;
    for (let shard = 0; shard < this.#shards; shard++) {
      const best = this.#best[shard];
      if (best === undefined || gone.has(best)) {
        this.#best[shard] = undefined;
        this.#compete(shard, next.values());
      } else this.#compete(shard, come);
    }
  }

  /** The candidate that should own a shard. */
  of(shard: number): C | undefined {
    const best = this.#best[shard];
    return best && lifeOf(best, shard);
  }

  /** The shards that one candidate should own, in order. */
  ofNode({ node, incarnation }: Candidate): number[] {
    const named = this.#named.get(node);
    const shards: number[] = [];
    if (named === undefined) return shards;
    for (let shard = 0; shard < this.#shards; shard++)
      if (this.#best[shard] === named && lifeOf(named, shard).incarnation === incarnation) shards.push(shard);
    return shards;
  }

  #compete(shard: number, challengers: Iterable<Named<C>>): void {
    let best = this.#best[shard];
    let bestUnit = this.#units[shard] as number;
    for (const named of challengers) {
      const unit = unitOf(named.codes, shard);
      if (best !== undefined && !isBetter(unit, named, bestUnit, best)) continue;
      best = named;
      bestUnit = unit;
    }
    this.#best[shard] = best;
    this.#units[shard] = bestUnit;
  }
}

/** The candidates of one name. */
interface Named<C> {
  readonly name: string;
  /** Of the name, for hashing. */
  readonly codes: Uint16Array;
  /** The greatest of its lives: a restart, which is seen as two lives for a while, moves nothing between names. */
  readonly weight: number;
  lives: readonly C[];
}

const anyone = (): boolean => true;

function byName<C extends Candidate>(
  candidates: readonly C[],
  asks: (candidate: C) => boolean,
): Map<string, Named<C>> {
  const lives = new Map<string, C[]>();
  for (const candidate of candidates) {
    const list = lives.get(candidate.node);
    if (list === undefined) lives.set(candidate.node, [candidate]);
    else list.push(candidate);
  }
  const named = new Map<string, Named<C>>();
  for (const [name, list] of lives) {
    const weight = Math.max(...list.map((candidate) => candidate.weight));
    const asked = asks === anyone ? list : list.filter(asks);
    if (asked.length > 0) named.set(name, { name, codes: codesOf(name), weight, lives: asked });
  }
  return named;
}

/** Which of a name's lives gets a shard. */
function lifeOf<C extends Candidate>({ lives }: Named<C>, shard: number): C {
  let best = lives[0] as C;
  if (lives.length === 1) return best;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const life of lives) {
    const score = scoreOf(unitOf(codesOf(life.incarnation), shard), life.weight);
    if (score < bestScore || (score === bestScore && life.incarnation < best.incarnation)) continue;
    best = life;
    bestScore = score;
  }
  return best;
}

function isBetter<C>(unit: number, named: Named<C>, bestUnit: number, best: Named<C>): boolean {
  // The logarithm is most of the work, and keeps the order.
  if (named.weight === best.weight) return unit > bestUnit || (unit === bestUnit && named.name > best.name);
  const score = scoreOf(unit, named.weight);
  const bestScore = scoreOf(bestUnit, best.weight);
  return score > bestScore || (score === bestScore && named.name > best.name);
}

function scoreOf(unit: number, weight: number): number {
  return -weight / Math.log(unit);
}

function codesOf(name: string): Uint16Array {
  const codes = new Uint16Array(name.length);
  for (let at = 0; at < name.length; at++) codes[at] = name.charCodeAt(at);
  return codes;
}

/** A number in (0, 1) that depends on every bit of a name and the shard. */
function unitOf(codes: Uint16Array, shard: number): number {
  let hash = 0x811c9dc5 ^ Math.imul(shard + 1, 0x9e3779b1);
  for (let at = 0; at < codes.length; at++) hash = Math.imul(hash ^ (codes[at] as number), 0x01000193);
  // FNV mixes the last characters badly; the finalizer of MurmurHash3 spreads them.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  hash ^= hash >>> 16;
  return ((hash >>> 0) + 0.5) / 0x1_0000_0000;
}
