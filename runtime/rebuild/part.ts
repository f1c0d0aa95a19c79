/**
 * Parts: which actors of a type one pass over the journal replays.
 *
 * Memory holds the states of one part. One that turns out to be too large is split and its other half left for a later
 * pass: by shards first, whose records a pass skips without looking at them, then by a hash of the actors' ids.
 */
export class Part {
  /** Whether it has a shard, by number. */
  readonly shards: Uint8Array;
  /** Actors whose hash has this rest when it is divided so. */
  readonly divisor: number;
  readonly rest: number;

  constructor(shards: Uint8Array, divisor: number, rest: number) {
    this.shards = shards;
    this.divisor = divisor;
    this.rest = rest;
  }

  static all(shards: number): Part {
    return new Part(new Uint8Array(shards).fill(1), 1, 0);
  }

  hasHash(hash: number): boolean {
    return this.divisor === 1 || hash % this.divisor === this.rest;
  }

  hasId(id: string): boolean {
    if (this.divisor === 1) return true;
    let hash = 0x811c9dc5;
    for (let at = id.length - 1; at >= 0; at--) hash = Math.imul(hash ^ id.charCodeAt(at), 0x01000193);
    return this.hasHash(hash >>> 0);
  }

  /** Two halves that have together what it has. */
  split(): [Part, Part] {
    const own = [...this.shards.keys()].filter((shard) => this.shards[shard] === 1);
    if (own.length === 1) {
      const divisor = this.divisor * 2;
      return [
        new Part(this.shards, divisor, this.rest),
        new Part(this.shards, divisor, this.rest + this.divisor),
      ];
    }
    const half = Math.ceil(own.length / 2);
    const of = (some: readonly number[]): Part => {
      const shards = new Uint8Array(this.shards.length);
      for (const shard of some) shards[shard] = 1;
      return new Part(shards, this.divisor, this.rest);
    };
    return [of(own.slice(0, half)), of(own.slice(half))];
  }
}
