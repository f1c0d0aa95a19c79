/**
 * Questions that a shard holds until something changes, asked once for all who ask alike.
 *
 * Watches that have heard the same are where the same change finds them: however many follow a type, its owner holds one
 * question a shard and answers it once. Who is behind asks for itself until it has caught up, and so does who has just
 * read everything: the answer to a question that was asked before may be older than what was read. Owns the questions
 * that are open. Talks to the client's request channels.
 */
import { encode } from "../words/codec.ts";
import type { ShardAnswer, ShardQuery } from "../words/queries.ts";
import type { AskShard } from "./shards.ts";

export class SharedAsks {
  readonly #ask: AskShard;
  readonly #open = new Map<string, Promise<ShardAnswer>>();

  constructor(ask: AskShard) {
    this.#ask = ask;
  }

  /** Open questions, each counted once. */
  get open(): number {
    return this.#open.size;
  }

  /**
   * Who shares an answer must not change it.
   * @param isFresh whether the answer has to be of now on: then it may be one that is not held
   */
  ask(
    shard: number,
    type: string,
    query: ShardQuery,
    timeout_ms: number | undefined,
    isFresh = false,
  ): Promise<ShardAnswer> {
    const name = Buffer.from(encode([shard, type, query])).toString("latin1");
    const open = this.#open.get(name);
    if (open !== undefined)
      return isFresh ? this.#ask(shard, type, { ...query, hold_ms: 0 }, timeout_ms) : open;
    const asked = this.#ask(shard, type, query, timeout_ms).finally(() => this.#open.delete(name));
    this.#open.set(name, asked);
    return asked;
  }
}
