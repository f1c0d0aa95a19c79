/**
 * The past of one actor, read along the links between its records.
 *
 * Owns the walk and the rebuilding of past states; no machine is involved. Talks to the Journal.
 *
 * Records link to the one before, keyframes also to the keyframe before. So the newest turns are found by walking
 * back, the oldest by hopping over keyframes, and any past state from at most `limits.keyframeTurns` records.
 *
 * Invariants:
 * 1. A page can be carried in a frame, and holds one turn at least unless there is none.
 * 2. A cursor is bounded, however long the past is: of the blocks still to be read it lists the oldest, and the others
 *    are found again when those are read.
 */
import type { Journal } from "../ports/index.ts";
import { isKeyturnError, KeyturnError } from "../words/errors.ts";
import type { ActorState } from "./definition.ts";
import { rareParts, storedState } from "./outgoing.ts";
import type { ChildEmitted, ContextOf, EventOf, Machine, ValueOf } from "./machine.ts";
import { encode } from "../words/codec.ts";
import { limits } from "../words/limits.ts";
import { sizeOf } from "../words/values.ts";
import {
  type Batch,
  decodeBatch,
  decodeRecord,
  DeleteTurn,
  KeyframeTurn,
  type Link,
  packTimers,
  resolveLink,
  type TurnRecord,
} from "./record.ts";
import {
  CURSOR_LINKS,
  type HistoryCursor,
  type HistoryQuery,
  type PastQuery,
  type PastState,
} from "./history-query.ts";
import { type ActorData, Patch } from "./state.ts";

export { checkQuery, type HistoryQuery, type PastQuery, type PastState } from "./history-query.ts";

/** One turn of the past. */
export interface HistoryTurn<M extends Machine = Machine> {
  readonly turn: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
  /**
   * What was sent; for an `after` of the machine, XState's own event; `xstate.keyturn.migrated` for a turn that only
   * records a migrated state, because delays of the new machine have begun; `xstate.keyturn.restarted` and
   * `xstate.keyturn.dropped`, with the timer's `id` and the time that it was `due`, for one that only decides a delay
   * which fell due while no node ran (`defineActor({ delays })`).
   */
  readonly event: EventOf<M> | { readonly type: `xstate.${string}` };
  /** The state after the turn. */
  readonly value: ValueOf<M>;
  readonly context: Readonly<ContextOf<M>>;
  readonly status: ActorState["status"];
  /** As in the actor's state: left out where there are none. */
  readonly children?: ActorState["children"];
  readonly error?: unknown;
  readonly replied: boolean;
  readonly reply: unknown;
  /** Addresses and events that the turn told. */
  readonly told: readonly { readonly to: string; readonly event: unknown }[];
  readonly emitted: readonly unknown[];
  /** What invoked and spawned actors emitted, by their path; left out where there is nothing. */
  readonly childEmitted?: Readonly<Record<string, readonly unknown[]>>;
  readonly refusal: readonly [code: string, text: string] | undefined;
  readonly position: number;
  /** What was left out because the turn is larger than what can be carried; of the event its type is left. */
  readonly omitted?: readonly ("event" | "reply" | "told" | "emitted" | "childEmitted")[];
  /**
   * Turns before this one have been trimmed from the journal: this is the oldest whose state can be told. Read oldest first,
   * it may also stand in the middle: they were trimmed between two pages.
   */
  readonly trimmed?: true;
  /** With `trimmed`, newest first: the position of the turn before it, whose state cannot be told. */
  readonly before?: number;
}

export interface HistoryPage {
  readonly turns: readonly HistoryTurn[];
  readonly next: HistoryCursor | undefined;
}

/** A cursor to begin with. */
interface Blocks extends HistoryCursor {
  readonly trimmed?: boolean;
}

/** What a reading gives, or undefined where the journal has been trimmed. */
async function untilTrimmed<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (isKeyturnError(error, "history_trimmed")) return undefined;
    throw error;
  }
}

/** One turn of the past by itself, as its record has it. */
export interface PastTurn {
  readonly event: unknown;
  readonly replied: boolean;
  /** The machine's own, if it gave one. */
  readonly reply: unknown;
  /** The state that it made; undefined for a deletion. */
  state(): Promise<unknown>;
}

interface Found {
  readonly record: TurnRecord;
  readonly link: Link;
  readonly previous: Link;
  readonly keyframe: Link;
  readonly time: number;
}

/** A page is full when its turns take so much. */
const PAGE_BYTES = limits.frameBytes / 2;
/** A turn that takes more is cut down to its state, which takes `limits.stateBytes` at most. */
const TURN_BYTES = limits.frameBytes - 64 * 1024;
/** What is left of an omitted event's type. */
const TYPE_LENGTH = 128;
const CACHED_BATCHES = 64;
const CACHED_BYTES = 16 * 1024 * 1024;
/** Batches read at once; each may take `limits.batchBytes`. */
const READS_AT_ONCE = 16;

export class HistoryReader {
  readonly #journal: Journal;
  readonly #tagsOf: (id: string, value: unknown) => readonly string[];
  readonly #batches = new Map<number, { readonly batch: Batch; readonly bytes: number }>();
  #cachedBytes = 0;
  /** Batches that are being read, by sequence, and those who wait until fewer are. */
  readonly #readings = new Map<number, Promise<Batch>>();
  readonly #waiting: (() => void)[] = [];
  #atOnce = 0;

  /** @param tagsOf tags of a state value of an actor's machine; they are not stored */
  constructor(journal: Journal, tagsOf: (id: string, value: unknown) => readonly string[] = () => []) {
    this.#journal = journal;
    this.#tagsOf = tagsOf;
  }

  /**
   * A past turn. Its record is read once, its state only when it is asked for.
   * @throws KeyturnError `history_trimmed`
   */
  async turnAt(id: string, at: Link): Promise<PastTurn> {
    const found = await this.#find(id, at);
    const { kind, event, replied, reply } = found.record;
    const state = async (): Promise<unknown> =>
      kind === DeleteTurn ? undefined : await this.#stateAt(id, found);
    return { event, replied, reply, state };
  }

  async #stateAt(id: string, found: Found): Promise<unknown> {
    const state = stateAfter(id, await this.#blockBack(id, found));
    if (state === undefined) return undefined;
    return storedState(state.machine, state.turn, found.link[0], this.#tagsOf(id, state.machine.value));
  }

  /** The state after the turn whose record lies there; undefined for a deletion. Its request ids are left out. */
  async stateAt(id: string, at: Link): Promise<ActorData | undefined> {
    const found = await this.#find(id, at);
    if (found.record.kind === DeleteTurn) return undefined;
    return stateAfter(id, await this.#blockBack(id, found));
  }

  /** A page of the turns of an actor whose last record is at `last`. */
  async page(id: string, last: Link, lastKeyframe: Link, query: HistoryQuery): Promise<HistoryPage> {
    const page = new Page(Math.max(1, Math.min(query.limit, limits.historyPage)));
    if (last[0] === 0) return { turns: [], next: undefined };
    await this.#checkCursor(id, query);
    const next = await (query.order === "newest"
      ? this.#newest(id, last, lastKeyframe, query, page)
      : this.#oldest(id, last, lastKeyframe, query, page));
    return { turns: page.turns, next };
  }

  async #newest(
    id: string,
    last: Link,
    lastKeyframe: Link,
    { cursor, upTo = Number.POSITIVE_INFINITY }: HistoryQuery,
    page: Page,
  ): Promise<HistoryCursor | undefined> {
    const isBehind = ({ record }: Found): boolean => record.turn > upTo;
    const isPlace = cursor === undefined && Number.isFinite(upTo);
    const begin = isPlace ? await this.#endBefore(id, last, lastKeyframe, isBehind) : last;
    if (begin === undefined) return undefined;
    let at: Link = cursor?.links[0] ?? begin;
    let block = at[0] > 0 ? await this.#blockBack(id, await this.#find(id, at)) : undefined;
    while (block !== undefined) {
      const turns = describe(id, block);
      while (turns.length > 0) {
        const turn = turns.pop() as HistoryTurn;
        if (turn.turn <= upTo && !page.take(turn))
          return { links: [(block[turns.length] as Found).link], skip: 0, behind: undefined };
      }
      at = (block[0] as Found).previous;
      if (at[0] === 0) return undefined;
      // Looked at now, so that the oldest turn of a trimmed past says that it is.
      block = await untilTrimmed(() => this.#find(id, at).then((last) => this.#blockBack(id, last)));
      if (block === undefined) page.trimmed(at[0]);
      else if (page.isFull) return { links: [at], skip: 0, behind: undefined };
    }
    return undefined;
  }

  /**
   * One past state as a whole.
   * @throws KeyturnError `history_trimmed`, or `invalid_options` if there is no such turn
   */
  async past(id: string, last: Link, lastKeyframe: Link, query: PastQuery): Promise<PastState> {
    const isBehind = ({ record, link }: Found): boolean =>
      "turn" in query ? record.turn > query.turn : link[0] > query.position;
    const end = await this.#endBefore(id, last, lastKeyframe, isBehind);
    if (end !== undefined) {
      const block = await this.#blockBack(id, await this.#find(id, end));
      const upTo = block.filter((found) => !isBehind(found));
      const { record, link, time } = upTo.at(-1) as Found;
      if (!("turn" in query) || record.turn === query.turn) {
        const data = stateAfter(id, upTo) as ActorData;
        const { version, machine } = data;
        return {
          turn: record.turn,
          time,
          position: link[0],
          version,
          machine,
          timers: packTimers(data.timers),
        };
      }
    }
    const wanted = "turn" in query ? `turn ${query.turn}` : `state at position ${query.position}`;
    throw new KeyturnError("invalid_options", `${id} has no ${wanted} since it began.`);
  }

  /**
   * The last record of the newest block that begins with one that is not behind; undefined without any. Keyframes are
   * hopped over, so it takes one read for each `limits.keyframeTurns` turns that are left out.
   */
  async #endBefore(
    id: string,
    last: Link,
    lastKeyframe: Link,
    isBehind: (found: Found) => boolean,
  ): Promise<Link | undefined> {
    let end = last;
    let keyframe = lastKeyframe;
    while (end[0] > 0 && keyframe[0] > 0) {
      const first = await this.#find(id, keyframe);
      if (!isBehind(first)) return end;
      end = first.previous;
      keyframe = first.keyframe;
    }
    return undefined;
  }

  /** A page is of one block at most: from a keyframe up to the next. */
  async #oldest(
    id: string,
    last: Link,
    lastKeyframe: Link,
    { cursor }: HistoryQuery,
    page: Page,
  ): Promise<HistoryCursor | undefined> {
    let begun: Blocks = cursor ?? (await this.#blocks(id, last, lastKeyframe, 0));
    if (begun.links.length === 0 && begun.behind !== undefined)
      begun = await this.#blocks(id, last, lastKeyframe, begun.behind);
    const { links, skip, behind } = begun;
    const end = links.at(-1);
    if (end === undefined) return undefined;
    const turns = describe(id, await this.#blockBack(id, await this.#find(id, end)));
    const [oldest] = turns;
    if (begun.trimmed && oldest !== undefined) turns[0] = { ...oldest, trimmed: true };
    for (const [index, turn] of turns.entries())
      if (index >= skip && !page.take(turn)) return { links, skip: index, behind };
    const rest = links.slice(0, -1);
    return rest.length === 0 && behind === undefined ? undefined : { links: rest, skip: 0, behind };
  }

  /** The blocks of turns behind one, as a cursor: the last records of the oldest of them. */
  async #blocks(id: string, last: Link, lastKeyframe: Link, after: number): Promise<Blocks> {
    /** The first turn of the oldest block that was found. */
    let first = Number.POSITIVE_INFINITY;
    let trimmed = false;
    const links: Link[] = [];
    let behind: number | undefined;
    let end = last;
    let keyframe = lastKeyframe;
    while (end[0] > 0 && keyframe[0] > 0) {
      const block = keyframe;
      const at = await untilTrimmed(() => this.#find(id, block));
      if (at === undefined) {
        if (links.length === 0) await this.#find(id, block);
        // Of what a page before has given it does not matter.
        trimmed = first > after + 1;
        break;
      }
      // The end of the block that this keyframe begins.
      if (at.record.turn <= after) break;
      first = at.record.turn;
      links.push(end);
      if (links.length > 2 * CURSOR_LINKS) links.splice(0, CURSOR_LINKS);
      end = at.previous;
      keyframe = at.keyframe;
    }
    if (links.length > CURSOR_LINKS) links.splice(0, links.length - CURSOR_LINKS);
    const newest = links[0];
    if (newest !== undefined && newest !== last) behind = (await this.#find(id, newest)).record.turn;
    return { links, skip: 0, behind, trimmed };
  }

  /** A cursor comes from outside: what is no record of the actor shows nothing, and is no damage. */
  async #checkCursor(id: string, { order, cursor }: HistoryQuery): Promise<void> {
    const at = order === "newest" ? cursor?.links[0] : cursor?.links.at(-1);
    if (at === undefined) return;
    const batch = await this.#batch(at[0], id);
    if (at[1] < batch.count && decodeRecord(batch.recordAt(at[1])).id === id) return;
    throw new KeyturnError("invalid_options", `The cursor is none of the history of ${id}.`);
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

  /** A batch; who asks for one that is being read waits for that reading. */
  #batch(seq: number, id: string): Promise<Batch> | Batch {
    const cached = this.#batches.get(seq);
    if (cached !== undefined) return cached.batch;
    let reading = this.#readings.get(seq);
    if (reading === undefined) {
      reading = this.#read(seq, id).finally(() => this.#readings.delete(seq));
      this.#readings.set(seq, reading);
    }
    return reading;
  }

  async #read(seq: number, id: string): Promise<Batch> {
    // Many may ask for their past answers at once, and a batch may be large: a server cuts off a connection for which too
    // much waits.
    while (this.#atOnce >= READS_AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#atOnce++;
    let bytes: Uint8Array | undefined;
    try {
      bytes = await this.#journal.get(seq);
    } finally {
      this.#atOnce--;
      this.#waiting.shift()?.();
    }
    if (bytes === undefined) {
      throw new KeyturnError(
        "history_trimmed",
        `The history of ${id} before journal entry ${seq} has been trimmed.`,
      );
    }
    const batch = decodeBatch(bytes, seq);
    this.#batches.set(seq, { batch, bytes: bytes.length });
    this.#cachedBytes += bytes.length;
    for (const [oldest, { bytes: freed }] of this.#batches) {
      if (this.#batches.size <= CACHED_BATCHES && this.#cachedBytes <= CACHED_BYTES) break;
      this.#batches.delete(oldest);
      this.#cachedBytes -= freed;
    }
    return batch;
  }
}

/** Turns as far as they go into one frame. */
class Page {
  readonly turns: HistoryTurn[] = [];
  readonly #limit: number;
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** What was taken last is the oldest that is left. */
  trimmed(before: number): void {
    const oldest = this.turns.pop();
    if (oldest !== undefined) this.turns.push({ ...oldest, trimmed: true, before });
  }

  get isFull(): boolean {
    return this.turns.length >= this.#limit || this.#bytes >= PAGE_BYTES;
  }

  /** Adds a turn. False if it has to wait for the next page. */
  take(turn: HistoryTurn): boolean {
    const bytes = sizeOf(turn);
    if (this.isFull || (this.turns.length > 0 && this.#bytes + bytes > PAGE_BYTES)) return false;
    this.#bytes += bytes;
    this.turns.push(bytes > TURN_BYTES && encode(turn).length > TURN_BYTES ? cutDown(turn) : turn);
    return true;
  }
}

/** A turn without what it took in and gave out, as far as there is anything. */
function cutDown(turn: HistoryTurn): HistoryTurn {
  const omitted: NonNullable<HistoryTurn["omitted"]>[number][] = ["event"];
  if (turn.replied) omitted.push("reply");
  if (turn.told.length > 0) omitted.push("told");
  if (turn.emitted.length > 0) omitted.push("emitted");
  const event = { type: (turn.event as { type: string }).type.slice(0, TYPE_LENGTH) };
  const { childEmitted, ...rest } = turn;
  if (childEmitted !== undefined) omitted.push("childEmitted");
  return { ...rest, event, reply: undefined, told: [], emitted: [], omitted } as HistoryTurn;
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
      ...(state === undefined ? {} : rareParts(state.machine)),
      replied: record.replied,
      reply: record.reply,
      told: record.out.map((m) => ({ to: `${m.type}/${m.key}`, event: m.event })),
      emitted: record.emitted,
      ...(record.childEmitted === undefined ? {} : { childEmitted: byPath(record.childEmitted) }),
      refusal: record.refusal,
      position: link[0],
    };
  });
}

function byPath(emitted: readonly ChildEmitted[]): Record<string, unknown[]> {
  const paths: Record<string, unknown[]> = {};
  for (const [path, event] of emitted) (paths[path] ??= []).push(event);
  return paths;
}

function patchFor(block: readonly Found[]): Patch {
  return new Patch((block[0] as Found).record.turn - 1);
}
