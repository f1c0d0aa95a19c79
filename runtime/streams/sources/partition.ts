/**
 * Runs one partition of a source: reads on from where it stands, and brings what it reads to its actor.
 *
 * Owns one reading at a time. Talks to the reader, the mapper, the feed and the gates.
 *
 * Invariant: where it reads on from is always what the partition's actor says.
 */
import type { ActorRef, Client } from "../../client/client.ts";
import type { Clock } from "../../ports/index.ts";
import { isKeyturnError } from "../../words/errors.ts";
import { type PartitionContext, type PlannedPartition, type Position, same } from "./words.ts";
import type { AnySource } from "./define.ts";
import { Feed } from "./feed.ts";
import { askGates, delivered } from "./gates.ts";
import { type Batch, Mapper } from "./mapping.ts";
import { pause } from "./pause.ts";
import { type Chunk, unreadable } from "./reader.ts";
import { retrying } from "./retrying.ts";

/** Messages between two looks at what is delivered. */
const FENCE_TOLD = 65_536;
/** With nothing to read for so long, what is delivered is found out. */
const IDLE_MS = 20;
/** Pauses before a source that cannot be reached is tried again, if it is one that is followed. */
const PAUSE_FIRST_MS = 100;
const PAUSE_LAST_MS = 10_000;

export interface PartitionParts {
  readonly client: Client;
  readonly source: AnySource;
  readonly key: string;
  readonly planned: PlannedPartition;
  readonly troubled: (error: unknown) => void;
}

export class PartitionRun {
  readonly key: string;
  readonly #parts: PartitionParts;
  readonly #ref: ActorRef;
  readonly #mapper: Mapper;
  readonly #stop = new AbortController();
  /** Told since the gates were asked. */
  #told = 0;
  #feed: Feed | undefined;

  constructor(parts: PartitionParts) {
    this.#parts = parts;
    this.key = parts.key;
    this.#ref = parts.client.actor(`${parts.source.parts.partition.type}/${parts.key}`);
    this.#mapper = new Mapper(parts.source, parts.planned.group, () => this.#clock.now());
  }

  get stopped(): boolean {
    return this.#stop.signal.aborted;
  }

  get #clock(): Clock {
    return this.#parts.client.world.clock;
  }

  /** Up to where everything counts; undefined before that is known. */
  get position(): Position | undefined {
    return this.#feed?.standing.position;
  }

  /** Ends it soon: `run` resolves once nothing is on its way. */
  stop(): void {
    this.#stop.abort();
  }

  /** Resolves when the partition has ended and everything is delivered, or it was stopped. */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    const { source, troubled } = this.#parts;
    for (let pauses = 0; !signal.aborted; ) {
      try {
        const state = await retrying(this.#clock, () => this.#ref.get(), signal, troubled);
        if (await this.#read(state.context as unknown as PartitionContext)) return;
        pauses = 0;
      } catch (error) {
        if (signal.aborted && isKeyturnError(error) && error.retryable) return;
        const away = isKeyturnError(error, "source_failed") || isKeyturnError(error, "unreachable");
        if (!source.from.follow || !away) throw error;
        troubled(error);
        const pause_ms = Math.min(PAUSE_LAST_MS, PAUSE_FIRST_MS * 2 ** pauses++);
        await pause(this.#clock, pause_ms, signal);
      }
    }
  }

  /** Reads on from there to the end. False if somebody else has moved the partition meanwhile. */
  async #read(from: PartitionContext): Promise<boolean> {
    const { troubled } = this.#parts;
    const { signal } = this.#stop;
    const feed = new Feed(from, {
      clock: this.#clock,
      ref: this.#ref,
      signal,
      troubled,
      apart: (batch, refusal) => this.#mapper.apart(batch, refusal),
    });
    this.#feed = feed;
    this.#told = from.delivered < from.revision ? 1 : 0;
    let position = from.position;
    let batches = 0;
    try {
      for await (const chunk of this.#chunks(from.position)) {
        if (chunk === undefined) {
          await feed.drain();
          await this.#ask();
        } else {
          position = chunk.position ?? chunk.items.at(-1)?.after ?? position;
          for (const batch of this.#batches(chunk, position)) {
            batches++;
            this.#told += batch.tells.length + batch.letters.length;
            await feed.push(batch);
            if (feed.lost || signal.aborted) break;
          }
          if (this.#told >= FENCE_TOLD) await this.#ask();
        }
        if (feed.lost || signal.aborted) break;
      }
    } catch (error) {
      // What came before it counts all the same.
      await feed.drain();
      throw error;
    }
    await feed.drain();
    if (signal.aborted) return true;
    if (feed.lost) return false;
    if (batches > 0 || !from.ended || !same(position, from.position)) {
      await feed.push({ ...passedTo(position), ended: true });
      await feed.drain();
    }
    if (feed.lost) return false;
    await this.#deliver(feed.standing.revision);
    return true;
  }

  #batches({ items, missed }: Chunk<unknown>, position: Position): Iterable<Batch> {
    return items.length === 0 ? [passedTo(position)] : this.#mapper.batches(items, missed);
  }

  /** What is read; undefined where nothing comes for a while and something told is not known to be delivered. */
  async *#chunks(position: Position): AsyncGenerator<Chunk<unknown> | undefined> {
    const { source, planned } = this.#parts;
    // Ends also where somebody else has moved the partition: nothing may come for long.
    const over = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, over.signal]);
    const reading = source.from.read(planned, position, { signal })[Symbol.asyncIterator]();
    try {
      while (true) {
        const next = reading.next();
        if (this.#told > 0 && source.from.follow) {
          const idle = new AbortController();
          const paused = pause(this.#clock, IDLE_MS, idle.signal).then(() => "idle" as const);
          const first = await Promise.race([next.then(() => "read" as const), paused]);
          idle.abort();
          if (first === "idle") yield undefined;
        }
        const { done, value } = await next;
        if (done === true) return;
        yield value;
      }
    } catch (cause) {
      throw unreadable(source.from.description, cause);
    } finally {
      over.abort();
      await reading.return?.();
    }
  }

  /** Asks the gates; the answer shows in the partition. */
  async #ask(all = false): Promise<void> {
    this.#told = 0;
    const { client, troubled } = this.#parts;
    await retrying(this.#clock, () => askGates(this.#ref, client, all), this.#stop.signal, troubled);
  }

  async #deliver(revision: number): Promise<void> {
    const { signal } = this.#stop;
    const { client, troubled } = this.#parts;
    const state = await retrying(this.#clock, () => this.#ref.get(), signal, troubled);
    const context = state.context as unknown as PartitionContext;
    if (context.delivered >= revision) return;
    await this.#ask(context.fences.length > 0);
    await delivered(client, this.#ref, revision, signal);
  }
}

/** Only moves the position: past empty lines, other parts' messages, to the end. */
function passedTo(position: Position): Batch {
  return { source: [], position, items: 0, skipped: 0, missed: 0, letters: [], tells: [], ended: false };
}
