/**
 * A copy of the list of members, kept up to date.
 *
 * Owns the copy and what it has seen of the bucket. Talks to the connection. Whoever changes the list says so on
 * `<app>.changed`; then, and now and then without being told, what is newer than the copy is read. That is one small
 * request, which any replica answers, and there is nothing on the server that could be lost: no consumer, no position.
 *
 * Invariants:
 * 1. The copy is what the bucket held at some sequence, or newer. It is read on from there, so what a replica that is
 *    behind did not show comes with the next reading.
 * 2. A member goes by its marker. One that is not there any more without one (the server keeps markers for a day) goes
 *    only if the bucket's leader says so too.
 */
import type { Member } from "../../ports/index.ts";
import { directGet, fromJson, leaderGet, type StoredMessage } from "./api.ts";
import type { Connection } from "./connection.ts";
import type { Names } from "./names.ts";

const PAGE = { batch: 1_000, max_bytes: 8 * 1024 * 1024 };
/** How old the copy may be when it is asked for, before it is read on. */
const FRESH_MS = 1_500;
/** How often all of it is read. */
const WHOLE_MS = 10 * 60_000;
/** How long to look for what a hint has told. */
const BEHIND_MS = 20;
const BEHIND_TRIES = 50;

interface Listed {
  readonly member: Member;
  readonly revision: number;
}

export class Members {
  readonly #connection: Connection;
  readonly #stream: string;
  readonly #prefix: string;
  readonly #onChanged: () => void;
  readonly #onGone: (incarnation: string) => void;
  readonly #listed = new Map<string, Listed>();
  #list: readonly Member[] | undefined;
  /** Sequence up to which the bucket was read; 0 to read all of it. */
  #seen = 0;
  #read_ms = Number.NEGATIVE_INFINITY;
  #whole_ms = Number.NEGATIVE_INFINITY;
  #loaded = false;
  #reading: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  /**
   * @param onChanged hears that the list has changed
   * @param onGone hears who is off the list for good
   */
  constructor(
    connection: Connection,
    names: Names,
    onChanged: () => void,
    onGone: (incarnation: string) => void,
  ) {
    this.#connection = connection;
    this.#stream = names.nodes;
    this.#prefix = names.key(names.nodes, "member.");
    this.#onChanged = onChanged;
    this.#onGone = onGone;
  }

  /** The list; the same array until it changes. */
  async list(): Promise<readonly Member[]> {
    if (!this.#loaded) await this.#refresh();
    // Whoever asks is not kept waiting for what is only newer. What fails is tried again by the next one.
    else if (performance.now() - this.#read_ms > FRESH_MS) this.#refresh().catch(() => undefined);
    this.#list ??= [...this.#listed.values()].map(({ member }) => member);
    return this.#list;
  }

  has(incarnation: string): boolean {
    return this.#listed.has(incarnation);
  }

  /** Something may have been missed: all of it is read. */
  missed(): void {
    this.#whole_ms = Number.NEGATIVE_INFINITY;
    this.#refresh().catch(() => undefined);
  }

  /** Somebody has changed the list, by the message with this sequence. */
  async told(seq: number): Promise<void> {
    for (let tries = 0; this.#seen < seq && tries < BEHIND_TRIES; tries++) {
      if (tries > 0) await new Promise((resolve) => setTimeout(resolve, BEHIND_MS));
      await this.#refresh();
    }
  }

  /** What this process has just written. */
  put(member: Member, revision: number): void {
    if (this.#apply(member.incarnation, { member, revision })) this.#onChanged();
  }

  remove(incarnation: string): void {
    if (this.#apply(incarnation, undefined)) this.#onChanged();
  }

  /** One reading at a time; who comes while one is under way gets the next, which sees what was written before. */
  #refresh(): Promise<void> {
    if (this.#reading === undefined) return this.#begin();
    this.#next ??= this.#reading
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.#begin();
      });
    return this.#next;
  }

  #begin(): Promise<void> {
    const reading = this.#read().finally(() => {
      this.#reading = undefined;
    });
    this.#reading = reading;
    return reading;
  }

  async #read(): Promise<void> {
    const whole = performance.now() - this.#whole_ms > WHOLE_MS;
    const before = new Map(this.#listed);
    if (whole) this.#seen = 0;
    this.#read_ms = performance.now();
    let changed = false;
    try {
      for (let pending = 1; pending > 0; ) {
        const query = { seq: this.#seen + 1, next_by_subj: `${this.#prefix}*`, ...PAGE };
        const page = await directGet(this.#connection, this.#stream, query);
        for (const message of page.messages) {
          changed = this.#take(message) || changed;
          before.delete(message.subject.slice(this.#prefix.length));
        }
        pending = page.messages.length === 0 ? 0 : page.pending;
      }
      this.#loaded = true;
      if (whole) {
        changed = (await this.#drop(before)) || changed;
        this.#whole_ms = performance.now();
      }
    } catch (error) {
      // The bucket may be another one when it answers again.
      this.#whole_ms = Number.NEGATIVE_INFINITY;
      throw error;
    } finally {
      if (changed) this.#onChanged();
    }
  }

  #take({ subject, seq, data }: StoredMessage): boolean {
    this.#seen = seq;
    const incarnation = subject.slice(this.#prefix.length);
    if (data.length === 0) return this.#apply(incarnation, undefined);
    return this.#apply(incarnation, { member: fromJson(data) as Member, revision: seq });
  }

  /** Members that all of the bucket did not show. */
  async #drop(missing: ReadonlyMap<string, Listed>): Promise<boolean> {
    let changed = false;
    for (const [incarnation, listed] of missing) {
      if (this.#listed.get(incarnation) !== listed) continue;
      const subject = this.#prefix + incarnation;
      const found = await leaderGet(this.#connection, this.#stream, { last_by_subj: subject });
      if (found !== undefined && found.data.length > 0) continue;
      changed = this.#apply(incarnation, undefined) || changed;
    }
    return changed;
  }

  #apply(incarnation: string, listed: Listed | undefined): boolean {
    const known = this.#listed.get(incarnation);
    if (listed === undefined) {
      this.#onGone(incarnation);
      if (!this.#listed.delete(incarnation)) return false;
    } else {
      if (known !== undefined && known.revision >= listed.revision) return false;
      this.#listed.set(incarnation, listed);
    }
    this.#list = undefined;
    return true;
  }
}
