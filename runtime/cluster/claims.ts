/**
 * Claims: which shards this node may take, as far as it can tell from the members and from what it has read.
 *
 * Owns the placement and what was read of the entries of shards that are waited for. Decides; takes and gives away
 * nothing. Talks to the Directory and the membership.
 *
 * Invariants:
 * 1. What a shard needs only grows. So what was read of it, however old, is needed at least; and a shard that was found
 *    too new for this node is not read again.
 * 2. Of the shard table only those entries are read that should be this node's, as far as is known, and are not; and in
 *    turn, some with each heartbeat, those that only might be its own, for what they need is not known without reading.
 */
import type { Directory, StoredShard, Versions } from "../ports/index.ts";
import type { KeyturnError } from "../words/errors.ts";
import type { Held } from "./held.ts";
import type { Membership } from "./membership.ts";
import { VersionedPlacement } from "./versioned-placement.ts";
import { tooOld } from "./versions.ts";

/** Entries of shards that should be elsewhere, as far as is known, that are read again with one heartbeat. */
const OTHERS_AT_ONCE = 512;

/** A shard that is waited for, as its entry was read. */
interface Awaited {
  readonly owner: string | undefined;
  readonly versions: Versions | undefined;
  /** It is to be read again. */
  old: boolean;
}

export class Claims {
  readonly #directory: Directory;
  readonly #membership: Membership;
  readonly #placement: VersionedPlacement<Membership["self"]>;
  /** Of the members among whom the shards were placed. */
  #version = -1;
  /** In the order in which they were read. */
  readonly #awaited = new Map<number, Awaited>();
  /** What those need that this node was too old for when they were read. */
  readonly #tooNew = new Map<number, Versions>();

  constructor(directory: Directory, membership: Membership, shards: number) {
    this.#directory = directory;
    this.#membership = membership;
    this.#placement = new VersionedPlacement(shards, membership.self);
  }

  /** Follows the members. */
  place(): void {
    const { version } = this.#membership;
    if (version === this.#version) return;
    this.#version = version;
    this.#placement.update(this.#membership.candidates());
  }

  /** The shards that should be here for all that is known; what they need may not be known yet. */
  possible(): number[] {
    return [...this.#placement.contended].filter((shard) => !this.#isTooNew(shard));
  }

  isPossible(shard: number): boolean {
    return this.#placement.contended.has(shard) && !this.#isTooNew(shard);
  }

  /** Whether a shard should be here, by what was last read of it. */
  isMine(shard: number): boolean {
    return this.isPossible(shard) && this.#placement.isMine(shard, this.#awaited.get(shard)?.versions);
  }

  /** Whether a shard that is served here should be elsewhere. It is kept while nobody else could have it. */
  isElsewhere({ number, versions }: Held): boolean {
    const { self } = this.#membership;
    if (self.leaving) return true;
    if (!this.#placement.mixed && this.#placement.contended.has(number)) return false;
    const owner = this.#placement.of(number, versions);
    return owner !== undefined && owner.incarnation !== self.incarnation;
  }

  /** What is waited for is to be read again. */
  forget(): void {
    let others = OTHERS_AT_ONCE;
    for (const [shard, awaited] of this.#awaited) {
      if (!this.#placement.contended.has(shard)) this.#awaited.delete(shard);
      else if (this.isMine(shard) || others-- > 0) awaited.old = true;
    }
  }

  /**
   * Those that should be here and that nobody owns, or this node, or somebody who is not listed: as far as a read can
   * tell that may be behind.
   */
  async freeOf(shards: readonly number[]): Promise<Set<number>> {
    const unknown = shards.filter((shard) => this.#awaited.get(shard)?.old !== false);
    if (unknown.length > 0) {
      const table = await this.#directory.readShards(unknown);
      for (const shard of unknown) this.#note(shard, table.get(shard));
    }
    const { incarnation } = this.#membership.self;
    return new Set(
      shards.filter((shard) => {
        const owner = this.#awaited.get(shard)?.owner;
        const free = owner === undefined || owner === incarnation || !this.#membership.isListed(owner);
        return free && this.isMine(shard);
      }),
    );
  }

  /** Whether a shard with this entry, which was read just now and is not behind, is to be taken here. */
  takes(shard: number, stored: StoredShard | undefined): boolean {
    if (this.#placement.isMine(shard, stored?.entry.versions)) return true;
    this.#note(shard, stored);
    return false;
  }

  /** It is being taken: it is not waited for any more. */
  taken(shard: number): void {
    this.#awaited.delete(shard);
  }

  /** Says which shards nobody serves because all nodes, and so this one, are too old for them. */
  get unserved(): KeyturnError | undefined {
    const shards = this.#unserved();
    if (shards.size === 0) return undefined;
    return tooOld(this.#membership.self, shards, (type) => this.#placement.isHosted(type));
  }

  /** The same, if this node is alone and can serve nothing at all. */
  get refusal(): KeyturnError | undefined {
    const { shards } = this.#placement;
    const alone = this.#membership.candidates().length === 1;
    return alone && this.#unserved().size === shards ? this.unserved : undefined;
  }

  #unserved(): Map<number, Versions> {
    const unserved = new Map<number, Versions>();
    for (const [shard, needed] of this.#tooNew)
      if (this.#placement.contended.has(shard) && this.#placement.of(shard, needed) === undefined)
        unserved.set(shard, needed);
    return unserved;
  }

  #isTooNew(shard: number): boolean {
    const needed = this.#tooNew.get(shard);
    return needed !== undefined && !this.#placement.reads(needed);
  }

  #note(shard: number, stored: StoredShard | undefined): void {
    const { owner, versions } = stored?.entry ?? { owner: undefined, versions: undefined };
    if (versions !== undefined && !this.#placement.reads(versions)) this.#tooNew.set(shard, versions);
    // Behind those that were read before.
    this.#awaited.delete(shard);
    this.#awaited.set(shard, { owner, versions, old: false });
  }
}
