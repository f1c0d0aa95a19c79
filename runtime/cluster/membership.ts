/**
 * Membership: this node's heartbeat and lease, who else is there, and the end of those who are dead.
 *
 * Owns the lease, this node's copy of the list of members, and what it has seen of the few members that it follows.
 * Talks to the Directory and the clock.
 *
 * Every member's heartbeat is followed by few others: those that come next on a ring of the listed incarnations. What
 * a node reads for that does not grow with the number of nodes. To everybody else a member is alive as long as it is
 * listed.
 *
 * Invariants:
 * 1. Nobody compares clocks. A member is taken off the list by itself, or by a follower that saw its heartbeat
 *    unchanged for a whole lease of its own monotonic time, and then only if it is unchanged still: the directory
 *    decides between this and a heartbeat that comes at the same moment.
 * 2. `holds` is true only within one lease, less a margin, of the moment before the last heartbeat that was answered
 *    with "listed" was sent. A follower saw that heartbeat no earlier and waits a whole lease, so while `holds` is true
 *    this node is listed. It makes reads cheap; it never makes a write safe (that is the lane's fence).
 * 3. A lease that ran out holds again after the next heartbeat that is answered with "listed": whoever meant to take
 *    this node off the list has then come too late, however long the attempt is still under way.
 * 4. An incarnation that is off the list stays off. So nobody takes shards of one that was not found off the list by a
 *    read that cannot be behind; and one that finds itself off the list is over.
 * 5. A node whose own heartbeats do not get through judges nobody, and begins to count anew when they do: after an
 *    outage of the store nobody is dead.
 */
import type { Clock, Directory, Member } from "../ports/index.ts";

/** Share of the lease that is given away for clocks that run at different speeds. */
const MARGIN = 0.1;
/** How many others a node follows. */
const FOLLOWED = 5;
/**
 * Who has not been heard of for this share of a lease seems dead. For each of them two more are followed, so that one
 * whose followers died with it has been watched for half a lease when they are found dead.
 */
const SUSPECT = 0.5;
/** … but never more than so many: reading must stay cheap when most seem dead. */
const FOLLOWED_MAX = 64;
/** A node judges others if a heartbeat of its own got through within this share of a lease. */
const JUDGES = 0.5;
/** Incarnations remembered as over. */
const OVER_MAX = 4_096;

interface Sight {
  /** Undefined until it was read once. */
  beat: number | undefined;
  at_ms: number;
}

export class Membership {
  readonly #directory: Directory;
  readonly #clock: Clock;
  readonly #lease_ms: number;
  #self: Member;
  #until_ms = Number.NEGATIVE_INFINITY;
  /** The same by the wall clock of the moment when that heartbeat was sent. */
  #wallUntil_ms = Number.NEGATIVE_INFINITY;
  #ended = false;
  #askedToLeave = false;
  /** When the last heartbeat that was answered had been sent. */
  #beaten_ms = Number.NEGATIVE_INFINITY;
  #members: readonly Member[] = [];
  #listed = new Set<string>();
  #version = 0;
  /** The others, nearest first, going back on the ring from this node. */
  #ring: readonly string[] = [];
  readonly #seen = new Map<string, Sight>();
  readonly #over = new Set<string>();

  constructor(directory: Directory, clock: Clock, lease_ms: number, self: Member) {
    this.#directory = directory;
    this.#clock = clock;
    this.#lease_ms = lease_ms;
    this.#self = self;
  }

  get self(): Member {
    return this.#self;
  }

  /** Whether this node is sure that it is on the list. */
  holds(): boolean {
    // Where a machine slept its monotonic clock may have slept too; the wall clock shows it.
    return !this.#ended && this.#clock.monotonic() < this.#until_ms && this.#clock.now() < this.#wallUntil_ms;
  }

  /** Grows when those change among whom shards are placed. */
  get version(): number {
    return this.#version;
  }

  // ---- This node --------------------------------------------------------------------------------------------------

  /** Gets on the list, or tells anew what this node says of itself. False if this incarnation is over. */
  join(): Promise<boolean> {
    return this.#send(() => this.#directory.join(this.#self));
  }

  /** Sends a heartbeat. False if this incarnation is over. Throws what the directory throws; the lease then runs on. */
  beat(): Promise<boolean> {
    const { incarnation } = this.#self;
    return this.#send(() => this.#directory.beat(incarnation, this.#self.beat));
  }

  /** How long ago the last heartbeat that got through was sent. */
  get silence_ms(): number {
    return this.#clock.monotonic() - this.#beaten_ms;
  }

  /** Whether somebody else has marked this node as leaving, on the list: an operator who wants it to go. */
  get isAskedToLeave(): boolean {
    return this.#askedToLeave && !this.#self.leaving;
  }

  /** From now on this node asks for no shards. Tells so; false if this incarnation is over. */
  leave(): Promise<boolean> {
    this.#self = { ...this.#self, leaving: true };
    this.#version++;
    return this.join();
  }

  /** This incarnation is over: it must not answer anything from memory. */
  end(): void {
    this.#ended = true;
  }

  async #send(call: () => Promise<boolean>): Promise<boolean> {
    const sent_ms = this.#clock.monotonic();
    const wall_ms = this.#clock.now();
    this.#self = { ...this.#self, beat: this.#self.beat + 1 };
    if (!(await call())) {
      this.end();
      return false;
    }
    if (this.#clock.monotonic() - this.#beaten_ms > this.#lease_ms * JUDGES) this.#countAnew();
    this.#beaten_ms = Math.max(this.#beaten_ms, sent_ms);
    const lease_ms = this.#lease_ms * (1 - MARGIN);
    if (sent_ms + lease_ms >= this.#until_ms) {
      this.#until_ms = sent_ms + lease_ms;
      this.#wallUntil_ms = wall_ms + lease_ms;
    }
    return true;
  }

  // ---- The others -------------------------------------------------------------------------------------------------

  /** Looks who is listed. */
  async look(): Promise<void> {
    const members = await this.#directory.members();
    if (members === this.#members) return;
    const before = this.#members;
    this.#members = members;
    this.#askedToLeave ||= members.some(
      ({ incarnation, leaving }) => leaving && incarnation === this.#self.incarnation,
    );
    if (alike(before, members)) return;
    this.#listed = new Set(members.map(({ incarnation }) => incarnation));
    this.#ring = ringOf(this.#self.incarnation, this.#listed);
    this.#version++;
  }

  /** Whether this node has no reason to believe that an incarnation is over. */
  isListed(incarnation: string): boolean {
    return incarnation === this.#self.incarnation || this.#listed.has(incarnation);
  }

  /** Which of these incarnations are over, for certain. One that is on this node's list is not looked up. */
  async overOf(incarnations: Iterable<string>): Promise<ReadonlySet<string>> {
    const asked = [...new Set(incarnations)].filter((incarnation) => !this.isListed(incarnation));
    const unknown = asked.filter((incarnation) => !this.#over.has(incarnation));
    if (unknown.length > 0) {
      const beats = await this.#directory.beats(unknown, true);
      if (this.#over.size + unknown.length > OVER_MAX) this.#over.clear();
      for (const [index, incarnation] of unknown.entries())
        if (beats[index] === undefined) this.#over.add(incarnation);
    }
    return new Set(asked.filter((incarnation) => this.#over.has(incarnation)));
  }

  /** Those among whom shards are placed: listed and not leaving; this node by its own word. */
  candidates(): Member[] {
    const others = this.#members.filter((m) => m.incarnation !== this.#self.incarnation && !m.leaving);
    return this.#self.leaving ? others : [...others, this.#self];
  }

  /** Reads the heartbeats of those that this node follows, and takes off the list who is dead. True if anybody was. */
  async follow(): Promise<boolean> {
    const followed = this.#followed();
    if (followed.length === 0) return false;
    const sent_ms = this.#clock.monotonic();
    this.#note(followed, await this.#directory.beats(followed, false));
    if (!this.#judges()) return false;
    const silent = followed.filter((incarnation) => this.#isSilent(incarnation, sent_ms));
    if (silent.length === 0) return false;
    const beats = await this.#directory.beats(silent, true);
    this.#note(silent, beats);
    const leaves: Promise<boolean>[] = [];
    for (const [index, incarnation] of silent.entries()) {
      const beat = beats[index];
      // Without a heartbeat it is off the list, and on the list only because whoever took it off was interrupted.
      if (beat === undefined || this.#isSilent(incarnation, sent_ms))
        leaves.push(this.#directory.leave(incarnation, beat));
    }
    return (await Promise.all(leaves)).includes(true);
  }

  /** Whether a member's heartbeat had been unchanged for a lease when it was read. */
  #isSilent(incarnation: string, read_ms: number): boolean {
    const sight = this.#seen.get(incarnation);
    return sight !== undefined && read_ms - sight.at_ms >= this.#lease_ms;
  }

  /** Whether this node reaches the directory itself: who does not must not take its own silence for that of others. */
  #judges(): boolean {
    return this.silence_ms < this.#lease_ms * JUDGES;
  }

  #countAnew(): void {
    const now = this.#clock.monotonic();
    for (const sight of this.#seen.values()) sight.at_ms = now;
  }

  /** Going back on the ring, until enough are found that seem alive. */
  #followed(): string[] {
    const now = this.#clock.monotonic();
    const followed: string[] = [];
    for (let suspects = 0; followed.length < Math.min(FOLLOWED + 2 * suspects, FOLLOWED_MAX); ) {
      const incarnation = this.#ring[followed.length];
      if (incarnation === undefined) break;
      let sight = this.#seen.get(incarnation);
      if (sight === undefined) this.#seen.set(incarnation, (sight = { beat: undefined, at_ms: now }));
      if (now - sight.at_ms >= this.#lease_ms * SUSPECT) suspects++;
      followed.push(incarnation);
    }
    // Who is followed again later is looked at with new eyes.
    if (this.#seen.size > followed.length) {
      const kept = new Set(followed);
      for (const incarnation of this.#seen.keys()) if (!kept.has(incarnation)) this.#seen.delete(incarnation);
    }
    return followed;
  }

  #note(incarnations: readonly string[], beats: readonly (number | undefined)[]): void {
    const now = this.#clock.monotonic();
    for (const [index, incarnation] of incarnations.entries()) {
      const sight = this.#seen.get(incarnation);
      const beat = beats[index];
      // A reader that is behind, or further behind than before, has nothing to tell.
      if (sight === undefined || beat === undefined || beat <= (sight.beat ?? 0)) continue;
      sight.beat = beat;
      sight.at_ms = now;
    }
  }
}

/** Whether two lists have the same members, which say the same of themselves. */
function alike(before: readonly Member[], after: readonly Member[]): boolean {
  return (
    before.length === after.length &&
    before.every((a, index) => {
      const b = after[index] as Member;
      return a === b || (a.incarnation === b.incarnation && a.leaving === b.leaving && a.weight === b.weight);
    })
  );
}

/** The others in the order in which they come before `self` on the ring. */
function ringOf(self: string, listed: Iterable<string>): string[] {
  const here = hashOf(self);
  return [...listed]
    .filter((incarnation) => incarnation !== self)
    .map((incarnation) => ({ incarnation, distance: (here - hashOf(incarnation)) >>> 0 }))
    .sort((a, b) => a.distance - b.distance || (a.incarnation < b.incarnation ? -1 : 1))
    .map(({ incarnation }) => incarnation);
}

/** FNV-1a with the finalizer of MurmurHash3: neighbours by name must not be neighbours on the ring. */
function hashOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
