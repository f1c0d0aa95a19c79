/**
 * Dead letters on JetStream: a stream with one subject, and so one message, for each letter.
 *
 * Talks to the connection. A letter's subject is its position, and an expected sequence of 0 makes putting idempotent.
 * One that was removed leaves an empty message in its place, so that it is not put again; the stream forbids deleting.
 * Lists may be answered by a replica, but not by one that has not seen what this process knows to be stored.
 */
import type { DeadLetter, DeadLetterId, DeadLetters } from "../../ports/index.ts";
import { decode, encode } from "../../words/codec.ts";
import { KeyturnError } from "../../words/errors.ts";
import { NO_JOURNAL } from "../../words/position.ts";
import {
  directGet,
  expecting,
  isConflict,
  isError,
  publishTo,
  refusalOf,
  type StoredMessage,
} from "./api.ts";
import type { Connection } from "./connection.ts";
import type { Names } from "./names.ts";

/** Before a replica that is behind is asked again. */
const BEHIND_MS = 5;
const PAGE = { batch: 256, max_bytes: 8 * 1024 * 1024 };

/** A letter as it is stored. */
type StoredLetter = Omit<DeadLetter, "position"> & {
  readonly position: { readonly journal: typeof NO_JOURNAL; readonly seq: number };
};

export class NatsDeadLetters implements DeadLetters {
  readonly #connection: Connection;
  readonly #names: Names;
  /** The newest message that this process was told is stored. */
  #known = 0;

  constructor(connection: Connection, names: Names) {
    this.#connection = connection;
    this.#names = names;
  }

  async put(letters: readonly DeadLetter[]): Promise<void> {
    const headers = expecting(0);
    await Promise.all(
      letters.map(async (letter) => {
        const subject = this.#names.deadLetter(letter);
        const task = "store a dead letter";
        const answer = await publishTo(
          this.#connection,
          this.#names.dead,
          subject,
          encode({ ...letter, position: { journal: NO_JOURNAL, seq: letter.position } }),
          headers,
          task,
        );
        if (!isError(answer)) this.#saw(answer.seq);
        else if (!isConflict(answer)) throw refusalOf(task, answer);
      }),
    );
  }

  async remove(letters: readonly DeadLetterId[]): Promise<void> {
    await Promise.all(
      letters.map(async (letter) => {
        const subject = this.#names.deadLetter(letter);
        const task = "remove a dead letter";
        const answer = await publishTo(
          this.#connection,
          this.#names.dead,
          subject,
          undefined,
          undefined,
          task,
        );
        if (isError(answer)) throw refusalOf(task, answer);
        this.#saw(answer.seq);
      }),
    );
  }

  #saw(seq: number): void {
    if (seq > this.#known) this.#known = seq;
  }

  /** One that cannot be read must not hide the others. */
  #letterOf({ data, seq }: StoredMessage): DeadLetter | undefined {
    try {
      const stored = decode(data) as Partial<StoredLetter> | null;
      if (typeof stored?.position?.seq === "number" && typeof stored.index === "number")
        return { ...(stored as StoredLetter), position: stored.position.seq };
    } catch {
      // Told below.
    }
    const text = `Message ${seq} of ${this.#names.dead} is no dead letter of this runtime.`;
    this.#connection.onTrouble("dead letters", new KeyturnError("corrupt_record", text));
    return undefined;
  }

  /** Letters come into the stream nearly, not quite, in the order of their positions; so all are looked through. */
  async list(limit: number, after?: DeadLetterId): Promise<readonly DeadLetter[]> {
    const known = this.#known;
    const until_ms = performance.now() + this.#connection.timeout_ms;
    /** By subject, those that may be in the page. */
    let kept = new Map<string, DeadLetter>();
    let isCut = false;
    for (let seq = 1; ; ) {
      const query = { seq, next_by_subj: `${this.#names.app}.dead.*`, ...PAGE };
      const { messages, pending } = await directGet(this.#connection, this.#names.dead, query);
      let isUndone = false;
      for (const message of messages) {
        const { subject } = message;
        const letter = message.data.length === 0 ? undefined : this.#letterOf(message);
        if (letter === undefined) isUndone = kept.delete(subject) || isUndone;
        else if (after === undefined || compare(letter, after) > 0) kept.set(subject, letter);
      }
      const last = messages.at(-1);
      if (isUndone && isCut) {
        // Removed meanwhile, or whoever answered before was behind. What would have had its place was let go.
        kept = new Map();
        isCut = false;
        seq = 1;
        continue;
      }
      if (kept.size > limit) {
        kept = new Map(firstOf(kept, limit));
        isCut = true;
      }
      if (last !== undefined) seq = last.seq + 1;
      if (pending > 0 && last !== undefined) continue;
      if (seq > known) return firstOf(kept, limit).map(([, letter]) => letter);
      if (performance.now() > until_ms) {
        throw new KeyturnError(
          "store_failed",
          `Nobody on the server has ${this.#names.dead} up to sequence ${known}, which was acknowledged: it is far behind, or it has lost what it had. Look at the server's log.`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, BEHIND_MS));
    }
  }
}

function firstOf(letters: ReadonlyMap<string, DeadLetter>, limit: number): [string, DeadLetter][] {
  return [...letters].sort(([, a], [, b]) => compare(a, b)).slice(0, limit);
}

function compare(a: DeadLetterId, b: DeadLetterId): number {
  return a.position - b.position || a.index - b.index;
}
