/**
 * Reads of a bucket that may be answered by any replica, and are never older than what this process knows.
 *
 * Owns the newest sequence of the bucket that this process has seen acknowledged. Talks to the connection. Every
 * question names an entry that is always there too, since only an answer that holds something says how new it is; a
 * replica that is behind is asked again. A message that the server cannot read any more is given with no bytes that
 * anybody could take for an entry, so that whoever decodes it finds damage, and the others do not suffer.
 */
import { KeyturnError } from "../../words/errors.ts";
import { lastMessages, type StoredMessage, subjectsOf } from "./api.ts";
import type { Connection } from "./connection.ts";

const BEHIND_MS = 5;

export class FreshReader {
  readonly #connection: Connection;
  readonly #stream: string;
  readonly #prefix: string;
  readonly #sentinel: string;
  readonly #unreadable: Uint8Array;
  #known = 0;

  /**
   * @param sentinel key of the entry that is always there
   * @param unreadable what is given for a message that the server cannot read
   */
  constructor(
    connection: Connection,
    stream: string,
    prefix: string,
    sentinel: string,
    unreadable: Uint8Array,
  ) {
    this.#connection = connection;
    this.#stream = stream;
    this.#prefix = prefix;
    this.#sentinel = prefix + sentinel;
    this.#unreadable = unreadable;
  }

  get known(): number {
    return this.#known;
  }

  /** Something was acknowledged under this sequence: from now on no read is older. */
  saw(seq: number): void {
    if (seq > this.#known) this.#known = seq;
  }

  keyOf({ subject }: StoredMessage): string {
    return subject.slice(this.#prefix.length);
  }

  /**
   * The newest messages of some keys or patterns; undefined if there are more than one answer may hold.
   * @throws KeyturnError `not_provisioned`, `store_failed`
   */
  async last(keys: readonly string[]): Promise<readonly StoredMessage[] | undefined> {
    const known = this.#known;
    const subjects = [...keys.map((key) => this.#prefix + key), this.#sentinel];
    const until_ms = performance.now() + this.#connection.timeout_ms;
    while (true) {
      const found = await lastMessages(this.#connection, this.#stream, subjects);
      if (found.tooMany) return undefined;
      if (found.unreadable) return this.#apart(keys);
      // Without the entry that is always there it may be a replica that has seen nothing of the bucket yet.
      if (found.upTo > 0 && found.upTo >= known) {
        // What was read is known from now on: what is read next cannot be older.
        for (const { seq } of found.messages) this.saw(seq);
        return found.messages.filter(({ subject }) => subject !== this.#sentinel);
      }
      if (performance.now() > until_ms) {
        if (found.upTo === 0) throw this.#empty();
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, BEHIND_MS));
    }
    throw new KeyturnError(
      "store_failed",
      `Nobody on the server has ${this.#stream} up to sequence ${known}, which was acknowledged: it is far behind, or it has lost what it had. Look at the server's log; if its disk is damaged, restore a copy.`,
    );
  }

  /** Every key that fits a pattern, as the bucket's leader has it. */
  async keys(pattern: string): Promise<string[]> {
    const subjects = await subjectsOf(this.#connection, this.#stream, this.#prefix + pattern);
    return subjects.map((subject) => subject.slice(this.#prefix.length));
  }

  /** One of them cannot be read: it is searched for by halves. */
  async #apart(keys: readonly string[]): Promise<readonly StoredMessage[] | undefined> {
    const [first] = keys;
    if (first === undefined) throw this.#empty();
    if (keys.length === 1) return [{ subject: this.#prefix + first, seq: 0, data: this.#unreadable }];
    const middle = keys.length >> 1;
    const one = await this.last(keys.slice(0, middle));
    const other = await this.last(keys.slice(middle));
    return one === undefined || other === undefined ? undefined : [...one, ...other];
  }

  #empty(): KeyturnError {
    return new KeyturnError(
      "not_provisioned",
      `The bucket ${this.#stream} lacks the entry that every provisioned bucket has. Run "keyturn provision".`,
    );
  }
}
