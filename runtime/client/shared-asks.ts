/**
 * Questions that a shard holds until something changes, asked once for all who ask alike.
 *
 * Watches that have heard the same are where the same change finds them: however many follow a type, its owner holds one
 * question a shard and answers it once. Who is behind asks for itself until it has caught up. Owns the questions that are
 * open. Talks to the client's request channels.
 */
import { encode } from "../words/codec.ts";
import type { ShardAnswer } from "../words/queries.ts";
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

  /** Who shares an answer must not change it. */
  readonly ask: AskShard = (shard, type, query, timeout_ms) => {
    const name = Buffer.from(encode([shard, type, query])).toString("latin1");
    const open = this.#open.get(name);
    if (open !== undefined) return open;
    const asked = this.#ask(shard, type, query, timeout_ms).finally(() => this.#open.delete(name));
    this.#open.set(name, asked);
    return asked;
  };
}
