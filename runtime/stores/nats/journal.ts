/**
 * The journal on JetStream: a subject for each lane, in one stream or one of several (see layout.ts).
 *
 * Owns the fence: each append expects the last sequence of the lane's subject. Talks to the connection.
 *
 * Invariants:
 * 1. An append is answered `committed` by the stream's own acknowledgement only; without one it is `unknown`.
 * 2. What decides is asked of the stream's leader (`last`). Bulk reads may be answered by any replica and are checked
 *    against the leader when they end early.
 */
import type { AppendResult, Journal, JournalEnds, JournalEntry, Retention } from "../../ports/index.ts";
import {
  directGet,
  directOne,
  type DirectPage,
  expecting,
  isConflict,
  isError,
  isFull,
  leaderGet,
  publishTo,
  purge,
  refusalOf,
  subjectsOf,
} from "./api.ts";
import { KeyturnError } from "../../words/errors.ts";
import type { Connection } from "./connection.ts";
import { journalAt, positionOf, rangeIn, seqAt } from "../../words/position.ts";
import { journalOf, type Layout } from "./layout.ts";
import type { Names } from "./names.ts";

/** Messages and bytes asked for at once when a lane is read. */
const PAGE_MESSAGES = 512;
const PAGE_BYTES = 8 * 1024 * 1024;
/** A replica that is behind is asked again after this long, so often. */
const BEHIND_MS = 20;
const BEHIND_TRIES = 250;

export class NatsJournal implements Journal, Retention {
  readonly #connection: Connection;
  readonly #names: Names;
  readonly #layout: Layout;

  constructor(connection: Connection, names: Names, layout: Layout) {
    this.#connection = connection;
    this.#names = names;
    this.#layout = layout;
  }

  async last(lane: string): Promise<number> {
    const journal = journalOf(lane, this.#layout);
    const seq = await this.#last(journal, this.#names.lane(lane, this.#layout));
    return seq === 0 ? 0 : positionOf(journal, seq);
  }

  /** Sequence of the last entry of a subject in its stream. */
  async #last(journal: number, subject: string): Promise<number> {
    const query = { last_by_subj: subject };
    return (await leaderGet(this.#connection, this.#names.journalStream(journal), query))?.seq ?? 0;
  }

  async append(lane: string, expectedLast: number, bytes: Uint8Array): Promise<AppendResult> {
    try {
      const journal = journalOf(lane, this.#layout);
      // A position in another journal is none of this lane's.
      if (expectedLast !== 0 && journalAt(expectedLast) !== journal) return { kind: "conflict" };
      const subject = this.#names.lane(lane, this.#layout);
      const set = expecting(seqAt(expectedLast));
      const stream = this.#names.journalStream(journal);
      const answer = await publishTo(this.#connection, stream, subject, bytes, set, "append");
      if (!isError(answer)) return { kind: "committed", seq: positionOf(journal, answer.seq) };
      if (isConflict(answer)) return { kind: "conflict" };
      const cause = refusalOf("append to the journal", answer);
      return isFull(answer) ? { kind: "full", cause } : { kind: "unknown", cause };
    } catch (cause) {
      return { kind: "unknown", cause };
    }
  }

  async ends(): Promise<readonly JournalEnds[]> {
    const journals = Array.from({ length: this.#layout.journals }, (_, journal) => journal);
    return await Promise.all(journals.map((journal) => this.#ends(journal)));
  }

  async #ends(journal: number): Promise<JournalEnds> {
    const filter = this.#names.journalSubjects(journal, this.#layout);
    const stream = this.#names.journalStream(journal);
    const last = await this.#last(journal, filter);
    if (last === 0) return { first: positionOf(journal, 1), last: 0 };
    // A replica that is behind begins no later than the others.
    const query = { seq: 1, next_by_subj: filter, batch: 1 };
    const [oldest] = (await directGet(this.#connection, stream, query)).messages;
    return { first: positionOf(journal, oldest?.seq ?? last), last: positionOf(journal, last) };
  }

  read(lane: string, from: number, to: number): AsyncGenerator<readonly JournalEntry[]> {
    return this.#walk(journalOf(lane, this.#layout), this.#names.lane(lane, this.#layout), from, to);
  }

  scan(from: number, to: number): AsyncGenerator<readonly JournalEntry[]> {
    const journal = journalAt(from);
    return this.#walk(journal, this.#names.journalSubjects(journal, this.#layout), from, to);
  }

  /** Entries of a journal whose subjects fit, in order. */
  async *#walk(
    journal: number,
    subject: string,
    start: number,
    stop: number,
  ): AsyncGenerator<readonly JournalEntry[]> {
    const { from, to } = rangeIn(journal, start, stop);
    let next = from;
    if (next > to) return;
    /** Where the lane ended when a replica first had no more: what is appended later is not waited for. */
    let end: number | undefined;
    let behind = 0;
    let page = this.#page(journal, subject, next);
    while (true) {
      const { messages, pending } = await page;
      const last = messages.at(-1)?.seq;
      if (last !== undefined) {
        next = last + 1;
        behind = 0;
      }
      const more = pending > 0 && last !== undefined && next <= (end ?? to);
      // Asked for before this page is used up: the server reads while the caller works.
      if (more) page = this.#page(journal, subject, next);
      const chunk: JournalEntry[] = [];
      for (const { seq, data } of messages)
        if (seq <= to) chunk.push({ seq: positionOf(journal, seq), bytes: data });
      if (chunk.length > 0) yield chunk;
      if (more) continue;
      if (next > (end ?? to)) return;
      end ??= Math.min(to, await this.#last(journal, subject));
      if (next > end) return;
      if (++behind > BEHIND_TRIES) {
        throw new KeyturnError("store_failed", `${subject} has an entry ${end} that no replica shows.`);
      }
      await new Promise((resolve) => setTimeout(resolve, BEHIND_MS));
      page = this.#page(journal, subject, next);
    }
  }

  async get(position: number): Promise<Uint8Array | undefined> {
    const seq = seqAt(position);
    const journal = journalAt(position);
    if (position < 1 || seq < 1 || journal >= this.#layout.journals) return undefined;
    const stream = this.#names.journalStream(journal);
    const found = await directOne(this.#connection, stream, { seq });
    // A replica may not have it yet.
    return found ?? (await leaderGet(this.#connection, stream, { seq }))?.data;
  }

  async lanes(): Promise<readonly string[]> {
    const lanes: string[] = [];
    for (let journal = 0; journal < this.#layout.journals; journal++) {
      const subjects = this.#names.journalSubjects(journal, this.#layout);
      const found = await subjectsOf(this.#connection, this.#names.journalStream(journal), subjects);
      // A lane's name is the last token of its subject.
      for (const subject of found) lanes.push(subject.slice(subject.lastIndexOf(".") + 1));
    }
    return lanes;
  }

  /** Takes the permission to purge, which nodes do not have. */
  async trim(lane: string, upTo: number): Promise<void> {
    const journal = journalOf(lane, this.#layout);
    const filter = this.#names.lane(lane, this.#layout);
    const end = Math.min(rangeIn(journal, 0, upTo).to, (await this.#last(journal, filter)) - 1);
    if (end < 1) return;
    await purge(this.#connection, this.#names.journalStream(journal), { filter, seq: end + 1 });
  }

  #page(journal: number, subject: string, seq: number): Promise<DirectPage> {
    const page = directGet(this.#connection, this.#names.journalStream(journal), {
      seq,
      next_by_subj: subject,
      batch: PAGE_MESSAGES,
      max_bytes: PAGE_BYTES,
    });
    // It may fail while the caller is busy with the page before.
    page.catch(() => undefined);
    return page;
  }
}
