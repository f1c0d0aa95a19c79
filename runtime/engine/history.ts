/**
 * The past of one actor, read along the links between its records.
 *
 * Owns the walk and the rebuilding of past states; no machine is involved. Talks to the Journal.
 *
 * Records link to the one before, keyframes also to the keyframe before. So the newest turns are found by walking
 * back, the oldest by hopping over keyframes, and any past state from at most `limits.keyframeTurns` records.
 */
import type { Journal } from "../ports/index.ts";
import { KeyturnError } from "../words/errors.ts";
import type { ActorState } from "./definition.ts";
import type { ContextOf, EventOf, Machine, ValueOf } from "./machine.ts";
import { limits } from "../words/limits.ts";
import {
  type Batch,
  decodeBatch,
  decodeRecord,
  DeleteTurn,
  KeyframeTurn,
  type Link,
  resolveLink,
  type TurnRecord,
} from "./record.ts";
import { type ActorData, Patch } from "./state.ts";

/** A page of history. */
export interface HistoryQuery {
  readonly order: "newest" | "oldest";
  readonly limit: number;
  /** Where the page before ended: its `next`. */
  readonly cursor: HistoryCursor | undefined;
}

/** The next record to read, and for `oldest` the links of the blocks behind it. Opaque to clients. */
export type HistoryCursor = readonly Link[];

/** One turn of the past. */
export interface HistoryTurn<M extends Machine = Machine> {
  readonly turn: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** What was sent; for an `after` of the machine, XState's own event. */
  readonly event: EventOf<M> | { readonly type: `xstate.${string}` };
  /** The state after the turn. */
  readonly value: ValueOf<M>;
  readonly context: Readonly<ContextOf<M>>;
  readonly status: ActorState["status"];
  readonly replied: boolean;
  readonly reply: unknown;
  /** Addresses and events that the turn told. */
  readonly told: readonly { readonly to: string; readonly event: unknown }[];
  readonly emitted: readonly unknown[];
  readonly refusal: readonly [code: string, text: string] | undefined;
  readonly position: number;
}

export interface HistoryPage {
  readonly turns: readonly HistoryTurn[];
  readonly next: HistoryCursor | undefined;
}

interface Found {
  readonly record: TurnRecord;
  readonly link: Link;
  readonly previous: Link;
  readonly keyframe: Link;
  readonly time: number;
}

const CACHED_BATCHES = 64;

export class HistoryReader {
  readonly #journal: Journal;
  readonly #batches = new Map<number, Batch>();

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** The reply that a past turn gave: the machine's own, or the state it made. */
  async replyOf(id: string, at: Link): Promise<unknown> {
    const found = await this.#find(id, at);
    if (found.record.replied) return found.record.reply;
    if (found.record.kind === DeleteTurn) return undefined;
    return this.#stateAt(id, found);
  }

  async #stateAt(id: string, found: Found): Promise<unknown> {
    const state = stateAfter(id, await this.#blockBack(id, found));
    if (state === undefined) return undefined;
    const { value, context, status, output } = state.machine;
    return Object.freeze({ value, context, status, output, turn: state.turn, position: found.link[0] });
  }

  /** The reply that a past turn gave, null for none, and the state that it made. */
  async answerOf(id: string, at: Link): Promise<{ readonly value: unknown; readonly state: unknown }> {
    const found = await this.#find(id, at);
    const value = found.record.replied ? found.record.reply : null;
    return { value, state: found.record.kind === DeleteTurn ? undefined : await this.#stateAt(id, found) };
  }

  /** A page of the turns of an actor whose last record is at `last`. */
  async page(id: string, last: Link, lastKeyframe: Link, query: HistoryQuery): Promise<HistoryPage> {
    const limit = Math.max(1, Math.min(query.limit, limits.historyPage));
    return query.order === "newest"
      ? this.#newest(id, last, limit, query)
      : this.#oldest(id, last, lastKeyframe, query);
  }

  async #newest(id: string, last: Link, limit: number, query: HistoryQuery): Promise<HistoryPage> {
    const turns: HistoryTurn[] = [];
    let at: Link | undefined = query.cursor === undefined ? last : query.cursor[0];
    while (at !== undefined && at[0] > 0 && turns.length < limit) {
      const block = await this.#blockBack(id, await this.#find(id, at));
      const described = describe(id, block).reverse();
      const room = limit - turns.length;
      turns.push(...described.slice(0, room));
      const cut = block[block.length - 1 - room];
      at = cut !== undefined && described.length > room ? cut.link : (block[0] as Found).previous;
    }
    return { turns, next: at !== undefined && at[0] > 0 ? [at] : undefined };
  }

  /** A page is one block: from a keyframe up to the next. */
  async #oldest(id: string, last: Link, lastKeyframe: Link, query: HistoryQuery): Promise<HistoryPage> {
    if (last[0] === 0) return { turns: [], next: undefined };
    // The ends of all blocks, newest first: one link for every `limits.keyframeTurns` turns.
    let ends = query.cursor;
    if (ends === undefined) {
      const found: Link[] = [last];
      let keyframe: Link = lastKeyframe;
      while (keyframe[0] > 0) {
        const at: Found = await this.#find(id, keyframe);
        if (at.previous[0] > 0) found.push(at.previous);
        keyframe = at.keyframe;
      }
      ends = found;
    }
    const end = ends.at(-1);
    if (end === undefined) return { turns: [], next: undefined };
    const turns = describe(id, await this.#blockBack(id, await this.#find(id, end)));
    return { turns, next: ends.length > 1 ? ends.slice(0, -1) : undefined };
  }

  /** The records from the keyframe before (or at) a record up to it, oldest first. */
  async #blockBack(id: string, from: Found): Promise<Found[]> {
    const block = [from];
    let first = from;
    while (first.record.kind !== KeyframeTurn) {
      if (block.length > limits.keyframeTurns || first.previous[0] === 0) {
        throw new KeyturnError("corrupt_record", `The history of ${id} has no keyframe where one must be.`);
      }
      first = await this.#find(id, first.previous);
      block.push(first);
    }
    return block.reverse();
  }

  async #find(id: string, link: Link): Promise<Found> {
    const batch = await this.#batch(link[0], id);
    if (link[1] >= batch.count)
      throw new KeyturnError("corrupt_record", `Journal entry ${link[0]} has no record ${link[1]}.`);
    const record = decodeRecord(batch.recordAt(link[1]));
    if (record.id !== id) {
      throw new KeyturnError(
        "corrupt_record",
        `Record ${link[1]} of journal entry ${link[0]} is not of ${id}.`,
      );
    }
    const previous = resolveLink(record.previous, batch);
    const keyframe = resolveLink(record.keyframe, batch);
    return { record, link, previous, keyframe, time: batch.header.time + record.delay };
  }

  async #batch(seq: number, id: string): Promise<Batch> {
    const cached = this.#batches.get(seq);
    if (cached !== undefined) return cached;
    const bytes = await this.#journal.get(seq);
    if (bytes === undefined) {
      throw new KeyturnError(
        "history_trimmed",
        `The history of ${id} before journal entry ${seq} has been trimmed.`,
      );
    }
    const batch = decodeBatch(bytes, seq);
    if (this.#batches.size >= CACHED_BATCHES)
      this.#batches.delete(this.#batches.keys().next().value as number);
    this.#batches.set(seq, batch);
    return batch;
  }
}

function stateAfter(id: string, block: readonly Found[]): ActorData | undefined {
  const patch = patchFor(block);
  for (const { record, link } of block) patch.add(record, link, 0);
  return patch.applyTo(id, undefined, 0);
}

/** Every turn of a block with the state it made. */
function describe(id: string, block: readonly Found[]): HistoryTurn[] {
  const patch = patchFor(block);
  return block.map(({ record, link, time }): HistoryTurn => {
    patch.add(record, link, 0);
    const state = patch.applyTo(id, undefined, 0);
    return {
      turn: record.turn,
      time,
      event: record.event,
      value: state?.machine.value,
      context: state?.machine.context ?? {},
      status: state?.machine.status ?? "active",
      replied: record.replied,
      reply: record.reply,
      told: record.out.map((m) => ({ to: `${m.type}/${m.key}`, event: m.event })),
      emitted: record.emitted,
      refusal: record.refusal,
      position: link[0],
    };
  });
}

function patchFor(block: readonly Found[]): Patch {
  return new Patch((block[0] as Found).record.turn - 1);
}
