/**
 * The journal on JetStream: one stream, a subject for each lane.
 *
 * Owns the fence: each append expects the last sequence of the lane's subject. Talks to the connection.
 *
 * Invariants:
 * 1. An append is answered `committed` by the stream's own acknowledgement only; without one it is `unknown`.
 * 2. What decides is asked of the stream's leader (`last`). Bulk reads may be answered by any replica and are checked
 *    against the leader when they end early.
 */
import type { AppendResult, Journal, JournalEntry } from "../../ports/index.ts";
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
  refusalOf,
} from "./api.ts";
import { KeyturnError } from "../../words/errors.ts";
import type { Connection } from "./connection.ts";
import type { Names } from "./names.ts";

/** Messages and bytes asked for at once when a lane is read. */
const PAGE_MESSAGES = 512;
const PAGE_BYTES = 8 * 1024 * 1024;
/** A replica that is behind is asked again after this long, so often. */
const BEHIND_MS = 20;
const BEHIND_TRIES = 250;

export class NatsJournal implements Journal {
  readonly number = 0;
  readonly #connection: Connection;
  readonly #names: Names;

  constructor(connection: Connection, names: Names) {
    this.#connection = connection;
    this.#names = names;
  }

  async last(lane: string): Promise<number> {
    const found = await leaderGet(this.#connection, this.#names.journal, {
      last_by_subj: this.#names.lane(lane),
    });
    return found?.seq ?? 0;
  }

  async append(lane: string, expectedLast: number, bytes: Uint8Array): Promise<AppendResult> {
    try {
      const subject = this.#names.lane(lane);
      const set = expecting(expectedLast);
      const answer = await publishTo(this.#connection, this.#names.journal, subject, bytes, set, "append");
      if (!isError(answer)) return { kind: "committed", seq: answer.seq };
      if (isConflict(answer)) return { kind: "conflict" };
      const cause = refusalOf("append to the journal", answer);
      return isFull(answer) ? { kind: "full", cause } : { kind: "unknown", cause };
    } catch (cause) {
      return { kind: "unknown", cause };
    }
  }

  async *read(lane: string, from: number, to: number): AsyncGenerator<readonly JournalEntry[]> {
    let next = Math.max(1, from);
    if (next > to) return;
    /** Where the lane ended when a replica first had no more: what is appended later is not waited for. */
    let end: number | undefined;
    let behind = 0;
    let page = this.#page(lane, next);
    while (true) {
      const { messages, pending } = await page;
      const last = messages.at(-1)?.seq;
      if (last !== undefined) {
        next = last + 1;
        behind = 0;
      }
      const more = pending > 0 && last !== undefined && next <= (end ?? to);
      // Asked for before this page is used up: the server reads while the caller works.
      if (more) page = this.#page(lane, next);
      const chunk: JournalEntry[] = [];
      for (const { seq, data } of messages) if (seq <= to) chunk.push({ seq, bytes: data });
      if (chunk.length > 0) yield chunk;
      if (more) continue;
      if (next > (end ?? to)) return;
      end ??= Math.min(to, await this.last(lane));
      if (next > end) return;
      if (++behind > BEHIND_TRIES) {
        throw new KeyturnError("store_failed", `Lane ${lane} has an entry ${end} that no replica shows.`);
      }
      await new Promise((resolve) => setTimeout(resolve, BEHIND_MS));
      page = this.#page(lane, next);
    }
  }

  async get(seq: number): Promise<Uint8Array | undefined> {
    if (seq < 1) return undefined;
    const found = await directOne(this.#connection, this.#names.journal, { seq });
    // A replica may not have it yet.
    return found ?? (await leaderGet(this.#connection, this.#names.journal, { seq }))?.data;
  }

  #page(lane: string, seq: number): Promise<DirectPage> {
    const page = directGet(this.#connection, this.#names.journal, {
      seq,
      next_by_subj: this.#names.lane(lane),
      batch: PAGE_MESSAGES,
      max_bytes: PAGE_BYTES,
    });
    // It may fail while the caller is busy with the page before.
    page.catch(() => undefined);
    return page;
  }
}
