/**
 * Membership: this node's heartbeat and lease, and which others are alive.
 *
 * Owns the lease. Talks to the Directory and the clock.
 *
 * Invariants:
 * 1. Nobody compares clocks: a member is alive as long as its beat was seen to change within one lease of this node's
 *    own monotonic time; a member that is no longer listed is dead.
 * 2. `holds` is true only within one lease, less a margin, of the moment before the last successful heartbeat was
 *    sent. Others wait a whole lease after they saw it, so while it is true no other node has taken this one's shards.
 *    It makes reads cheap; it never makes a write safe (that is the lane's fence).
 * 3. Once it has run out, a later heartbeat alone does not bring it back: another node may have found this one dead
 *    and be about to take its shards, however late. `proven` does, after every shard's entry was written anew: whoever
 *    looked for this node before the heartbeat has then read an entry that is out of date, and loses the race.
 */
import type { Clock, Directory, Member } from "../ports/index.ts";

/** Share of the lease that is given away for clocks that run at different speeds. */
const MARGIN = 0.1;

export class Membership {
  readonly #directory: Directory;
  readonly #clock: Clock;
  readonly #lease_ms: number;
  readonly #seen = new Map<string, { beat: number; at_ms: number }>();
  #self: Member;
  /** The list of members has this node as it describes itself now. */
  #listed = false;
  #until_ms = Number.NEGATIVE_INFINITY;
  #members: readonly Member[] = [];
  /** How often the lease has run out, and up to which time it was proven that no shard was lost by that. */
  #lapses = 0;
  #provenLapses = 0;

  constructor(directory: Directory, clock: Clock, lease_ms: number, self: Member) {
    this.#directory = directory;
    this.#clock = clock;
    this.#lease_ms = lease_ms;
    this.#self = self;
  }

  get self(): Member {
    return this.#self;
  }

  /** Whether this node is sure that its lease has not run out for anybody. */
  holds(): boolean {
    return this.#lapses === this.#provenLapses && this.#clock.monotonic() < this.#until_ms;
  }

  /** How often the lease has run out. */
  get lapses(): number {
    return this.#lapses;
  }

  /** Whether the lease has run out since it was proven last. */
  get lapsed(): boolean {
    return this.#lapses !== this.#provenLapses;
  }

  /** Every shard's entry was written anew since the lease ran out so many times. */
  proven(lapses: number): void {
    this.#provenLapses = Math.max(this.#provenLapses, lapses);
  }

  /** Sends a heartbeat. Throws what the directory throws; the lease then runs on. */
  async beat(): Promise<void> {
    const sent_ms = this.#clock.monotonic();
    this.#self = { ...this.#self, beat: this.#self.beat + 1 };
    const { incarnation, beat } = this.#self;
    const listed = this.#listed
      ? await this.#directory.beat(incarnation, beat)
      : await this.#directory.join(this.#self);
    if (!listed) throw new Error(`${incarnation} was taken off the list of members.`);
    this.#listed = true;
    if (this.#until_ms > Number.NEGATIVE_INFINITY && this.#clock.monotonic() >= this.#until_ms)
      this.#lapses++;
    this.#until_ms = Math.max(this.#until_ms, sent_ms + this.#lease_ms * (1 - MARGIN));
  }

  /** From now on this node asks for no shards; its next beat says so. */
  leave(): void {
    this.#self = { ...this.#self, leaving: true };
    this.#listed = false;
  }

  /** This incarnation is over: it must not answer anything from memory. */
  end(): void {
    this.#until_ms = Number.NEGATIVE_INFINITY;
  }

  /** Looks who is there. */
  async look(): Promise<void> {
    const members = await this.#directory.members();
    const beats = await this.#directory.beats(
      members.map(({ incarnation }) => incarnation),
      true,
    );
    const now = this.#clock.monotonic();
    const listed = new Set<string>();
    for (const [index, { incarnation }] of members.entries()) {
      const beat = beats[index];
      if (beat === undefined) continue;
      listed.add(incarnation);
      const seen = this.#seen.get(incarnation);
      if (seen === undefined || seen.beat !== beat) this.#seen.set(incarnation, { beat, at_ms: now });
    }
    for (const incarnation of this.#seen.keys()) if (!listed.has(incarnation)) this.#seen.delete(incarnation);
    this.#members = members.filter((_, index) => beats[index] !== undefined);
  }

  /** Whether another incarnation may still be serving. */
  alive(incarnation: string): boolean {
    if (incarnation === this.#self.incarnation) return true;
    const seen = this.#seen.get(incarnation);
    return seen !== undefined && this.#clock.monotonic() - seen.at_ms < this.#lease_ms;
  }

  /** Those among whom shards are placed: alive and not leaving, this node by its own word. */
  candidates(): Member[] {
    const others = this.#members.filter(
      (m) => m.incarnation !== this.#self.incarnation && !m.leaving && this.alive(m.incarnation),
    );
    return this.#self.leaving ? others : [...others, this.#self];
  }
}
