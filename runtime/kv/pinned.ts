/**
 * A pinned snapshot of a range: it shows the entries as they were when it was taken, whatever is written later.
 *
 * Owns where the journal stood for each shard at that moment, and nothing on any node, so it costs nothing while it is
 * not read and survives every crash and move. An entry that was written since is looked up in its history, as of that
 * place; one that was deleted since still has its actor for a day. Where the journal is trimmed, the first record behind
 * that place tells what was there before it. Talks to the client.
 */
import type { CallOptions, Client } from "../client/client.ts";
import type { FoundActor } from "../client/find.ts";
import type { HistoryTurn } from "../engine/history.ts";
import { isKeyturnError, KeyturnError } from "../words/errors.ts";
import { journalAt } from "../words/position.ts";
import { type EntryContext, type EntryWas, entry, KV } from "./entry.ts";

/** How long a snapshot may be read; far less than what is gone is remembered. */
export const PINNED_MS = 3_600_000;

interface Bounds {
  readonly from: string;
  readonly to: string;
}

/** The entries of a store as they were at one moment: `for await (const [key, value] of pinned)`. Made by `store.snapshot()`. */
export class Pinned<K, V> {
  /** When it was taken, milliseconds since the epoch. */
  readonly time: number;
  readonly #client: Client;
  readonly #bounds: Bounds;
  readonly #positions: readonly number[];
  readonly #now: () => number;
  readonly #keyOf: (actor: string) => K;
  readonly #call: CallOptions;
  #closed = false;

  private constructor(
    client: Client,
    bounds: Bounds,
    positions: readonly number[],
    now: () => number,
    keyOf: (actor: string) => K,
    call: CallOptions,
  ) {
    this.time = now();
    this.#client = client;
    this.#bounds = bounds;
    this.#positions = positions;
    this.#now = now;
    this.#keyOf = keyOf;
    this.#call = call;
  }

  /** @internal */
  static async take<K, V>(
    client: Client,
    bounds: Bounds,
    now: () => number,
    keyOf: (actor: string) => K,
    call: CallOptions,
  ): Promise<Pinned<K, V>> {
    return new Pinned<K, V>(client, bounds, await client.positions(KV, call), now, keyOf, call);
  }

  /**
   * The entries, in order; as often as wanted.
   * @throws KeyturnError `snapshot_expired`
   */
  async *iterator(): AsyncGenerator<[key: K, value: V]> {
    this.#checkOpen();
    for await (const actor of this.#client.find(KV, { ...this.#bounds, ...this.#call })) {
      this.#checkOpen();
      const context = await this.#contextOf(actor);
      if (context?.present === true) yield [this.#keyOf(actor.key), context.value as V];
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<[key: K, value: V]> {
    return this.iterator();
  }

  close(): void {
    this.#closed = true;
  }

  #checkOpen(): void {
    if (this.#closed)
      throw new KeyturnError("snapshot_expired", "This snapshot was closed. Take another one.");
    if (this.#now() - this.time > PINNED_MS)
      throw new KeyturnError(
        "snapshot_expired",
        `This snapshot is older than ${PINNED_MS / 60_000} minutes. Take another one.`,
      );
  }

  /** What the entry was; undefined if it was not there. */
  async #contextOf({ key, fields, position, time = 0 }: FoundActor): Promise<EntryContext | undefined> {
    const ref = this.#client.actor(entry, key);
    const pin = this.#positions[ref.shard] as number;
    const call = { timeout_ms: this.#call.timeout_ms };
    if (this.#isBefore(position, time, pin)) {
      if ("value" in fields) return fields as unknown as EntryContext;
      // Too large for a row. Its record may be trimmed, so the history is no place to look.
      const state = await ref.get(call);
      if (state.position === position) return state.context;
    }
    let oldest: HistoryTurn | undefined;
    try {
      for await (const turn of ref.history({ order: "newest", ...call })) {
        if (this.#isBefore(turn.position, turn.time, pin)) return turn.context as EntryContext;
        oldest = turn as HistoryTurn;
      }
    } catch (error) {
      // Between two pages, or before the first: what was read tells what was before it.
      if (!isKeyturnError(error, "history_trimmed")) throw error;
      if (oldest === undefined) throw trimmed(key);
    }
    if (oldest === undefined || oldest.turn === 1) return undefined;
    // Else there may be turns behind the pin that cannot be told, before this one.
    const { before } = oldest;
    if (before === undefined || journalAt(before) !== journalAt(pin) || before > pin) throw trimmed(key);
    return beforeThat(key, oldest);
  }

  /** Where an app has several journals, places in different ones say nothing; then the time decides. */
  #isBefore(position: number, time: number, pin: number): boolean {
    return journalAt(position) === journalAt(pin) ? position <= pin : time <= this.time;
  }
}

/**
 * What an entry was before the oldest of its turns that the journal still tells.
 * @throws KeyturnError `snapshot_expired` if that is not known: the clocks of those who wrote it do not agree
 */
function beforeThat(key: string, oldest: HistoryTurn): EntryContext | undefined {
  const told = oldest.emitted.find((one) => (one as EntryWas).type === "entry.was");
  if (told !== undefined) return (told as EntryWas).was;
  throw trimmed(key);
}

function trimmed(key: string): KeyturnError {
  const text = `What the entry ${JSON.stringify(key)} was when this snapshot was taken has been trimmed from the journal. Take another one.`;
  return new KeyturnError("snapshot_expired", text);
}
