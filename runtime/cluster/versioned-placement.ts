/**
 * Placement among nodes with different versions: a shard belongs to the best-ranked node of those that can read it.
 *
 * Owns the placements for the few different needs that shards have. Pure: the same on every node that sees the same
 * members and the same entry. Talks to the placement.
 *
 * What a shard needs stands in its entry of the shard table, which is not here; so it is decided in two steps.
 * `contended` are the shards for which this node is the best of those whose versions are all at least its own. Whatever
 * a shard needs, its owner is one of these: it has what is needed, so they all have, and it is the best of more than
 * them. So only contended shards have to be looked up. Where all members have the same versions, contended is what
 * should be here, and nothing else is computed.
 *
 * Invariants:
 * 1. Every shard that some candidate can read has exactly one owner, and that one contends for it.
 * 2. Every shard has somebody who contends for it, also one that nobody can read: it is seen.
 */
import type { Member, Versions } from "../ports/index.ts";
import { type Candidate, Placement } from "./placement.ts";
import { covers, nameOf } from "./versions.ts";

/** What placement asks of a member. */
export type VersionedCandidate = Candidate & Pick<Member, "types" | "versions">;

/** Different needs whose placements are kept: those of the versions that were rolled out since the oldest shard moved. */
const NEEDS_KEPT = 8;

interface Kept<C extends Candidate> {
  readonly placement: Placement<C>;
  /** Of the candidates that it was computed for. */
  version: number;
}

export class VersionedPlacement<C extends VersionedCandidate> {
  readonly shards: number;
  readonly #self: C;
  readonly #rivals: Placement<C>;
  readonly #kept = new Map<string, Kept<C>>();
  #candidates: readonly C[] = [];
  #version = 0;
  #contended: ReadonlySet<number> = new Set();
  #mixed = false;
  readonly #hosted = new Map<string, boolean>();

  /** @param self this node; whether it is among the candidates changes, its versions do not */
  constructor(shards: number, self: C) {
    this.shards = shards;
    this.#self = self;
    this.#rivals = new Placement(shards);
  }

  update(candidates: readonly C[]): void {
    const { versions } = this.#self;
    this.#candidates = candidates;
    this.#version++;
    this.#hosted.clear();
    this.#mixed = candidates.some((c) => !covers(c.versions, versions) || !covers(versions, c.versions));
    if (this.#mixed) this.#rivals.update(candidates, (c) => covers(c.versions, versions));
    else {
      this.#rivals.update(candidates);
      this.#kept.clear();
    }
    this.#contended = new Set(this.#rivals.ofNode(this.#self));
  }

  /** Whether some candidate has other versions than this node. */
  get mixed(): boolean {
    return this.#mixed;
  }

  /** The shards that are this node's if they need no more, and no less than others have. */
  get contended(): ReadonlySet<number> {
    return this.#contended;
  }

  /** Who should own a shard with these needs; undefined if nobody can read it. */
  of(shard: number, needed: Versions | undefined): C | undefined {
    const own = this.#self.versions;
    if (!this.#mixed) return this.reads(needed) ? this.#rivals.of(shard) : undefined;
    const inForce = this.#inForce(needed);
    // Who has what is needed has all that this node has, and the other way round.
    if (covers(own, inForce) && covers(inForce, own)) return this.#rivals.of(shard);
    return this.#placementFor(inForce).of(shard);
  }

  /** Whether a shard with these needs should be here. */
  isMine(shard: number, needed: Versions | undefined): boolean {
    if (!this.#contended.has(shard) || !this.reads(needed)) return false;
    return !this.#mixed || this.of(shard, needed)?.incarnation === this.#self.incarnation;
  }

  /** Whether this node can read a shard with these needs. */
  reads(needed: Versions | undefined): boolean {
    const own = this.#self.versions;
    return covers(own, needed) || covers(own, this.#inForce(needed));
  }

  /** Whether any candidate hosts a type, in whatever version. */
  isHosted(type: string): boolean {
    let hosted = this.#hosted.get(type);
    if (hosted === undefined) {
      hosted = this.#candidates.some(({ types }) => types.includes(type));
      this.#hosted.set(type, hosted);
    }
    return hosted;
  }

  /**
   * A type that nobody hosts any more asks for nothing, or an app could never part with one. Nobody can read its actors
   * wrongly either: what is sent to them is refused, and they stay as they are.
   */
  #inForce(needed: Versions | undefined): Versions | undefined {
    if (needed === undefined) return undefined;
    const entries = Object.entries(needed).filter(([type]) => this.isHosted(type));
    return Object.fromEntries(entries);
  }

  #placementFor(needed: Versions | undefined): Placement<C> {
    const name = needed === undefined ? "[]" : nameOf(needed);
    let kept = this.#kept.get(name);
    if (kept === undefined) {
      const [oldest] = this.#kept.keys();
      if (oldest !== undefined && this.#kept.size >= NEEDS_KEPT) this.#kept.delete(oldest);
      kept = { placement: new Placement<C>(this.shards), version: 0 };
      this.#kept.set(name, kept);
    }
    if (kept.version !== this.#version) {
      kept.placement.update(this.#candidates, (c) => covers(c.versions, needed));
      kept.version = this.#version;
    }
    return kept.placement;
  }
}
