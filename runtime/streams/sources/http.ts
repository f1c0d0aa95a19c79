/**
 * HTTP as a source: producers post items, and are answered once they count.
 *
 * Owns what the requests in flight hold, and one queue for each producer. Talks to the source's actors.
 *
 * A producer that numbers its items has a partition of its own, whose position is the number of the last one that counts:
 * so whatever it repeats, after whatever crash of either side, counts once, with no window. Requests with an
 * `Idempotency-Key` share some partitions, whose actors remember the last keys.
 */
import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Client } from "../../client/client.ts";
import { hashTokens } from "../../words/address.ts";
import { isKeyturnError, KeyturnError } from "../../words/errors.ts";
import { PLAN_KEY } from "../../words/sources.ts";
import { type PartitionContext, type PlannedPartition, WHEREVER } from "./words.ts";
import type { AnySource } from "./define.ts";
import { CONTENT, Feed } from "./feed.ts";
import { askGates } from "./gates.ts";
import {
  type BodyLimits,
  busy,
  header,
  itemsOf,
  readBody,
  refuse,
  Refused,
  send,
  sequenceOf,
} from "./http-wire.ts";
import { type Batch, Mapper, shortened } from "./mapping.ts";
import { checkWhole, type Item, type SourceReader } from "./reader.ts";
import { partitionRef, planOf } from "./status.ts";

export interface EndpointOptions {
  /** Bytes of one request, at most; 4 MiB by default. Over it: 413. */
  readonly maxBodyBytes?: number;
  /** Bytes of all requests that are not answered; 64 MiB by default. Over it: 429 with Retry-After. */
  readonly maxInFlightBytes?: number;
  /** How long a request waits for a store or actors that are busy, milliseconds; 10,000 by default. Then: 503. */
  readonly timeout_ms?: number;
}

/** Takes requests; for `http.createServer`, or a route of any framework that gives Node's own request and response. */
export type Endpoint = (request: IncomingMessage, response: ServerResponse) => void;

const BODY_BYTES = 4 * 1_024 * 1_024;
const IN_FLIGHT_BYTES = 64 * 1_024 * 1_024;
const BYTES_MAX = 1_024 * 1_024 * 1_024;
const TIMEOUT_MS = 10_000;
const TIMEOUT_MAX_MS = 5 * 60_000;
/** Partitions that requests with keys share. Each remembers the last `limits.requestsPerActor` of their ids. */
const KEY_PARTITIONS = 16;
/** 128 bits of what was posted. */
const HASH_LENGTH = 22;
/**
 * Characters of malformed items that one batch of a request with a key keeps. Such a batch is not divided because of them:
 * what a request's id has stood for once, it stands for in every version.
 */
const KEPT_CHARACTERS = 128 * 1_024;
const FENCE_MS = 100;
const MOVES_MAX = 20;

const unread: SourceReader = {
  description: "HTTP",
  unit: "items",
  follow: true,
  passive: true,
  plan: () => Promise.reject(notRun()),
  read: () => {
    throw notRun();
  },
  extent: (_partition, position) => Promise.resolve({ done: Number(position), total: Number(position) }),
};

/** Items come by requests: see `sourceEndpoint`. There is nothing to run. */
export function http<T = unknown>(): SourceReader<T> {
  return unread as SourceReader<T>;
}

/**
 * Takes a source's items by HTTP, and answers 200 once they count.
 *
 * `POST` of `application/x-ndjson` (an item a line) or `application/json` (a list of items, or one), with either
 * - `Keyturn-Producer: NAME` and `Keyturn-Sequence: N`, the number of the first item, counting from 1. What counts already
 *   is skipped; the answer has `next`, the number that is expected. A gap is 409, and has it too. `GET` with the producer's
 *   name answers `next`: where a producer goes on after a restart. Or
 * - `Idempotency-Key: KEY`: the request counts once, as long as its partition remembers the key (its last 256 requests).
 *   With another body the key is refused: 422.
 *
 * Other answers: 400 and 415 for what is no such request, 413 and 429 for too much, 503 with `Retry-After` where it has to
 * wait too long; then nothing or a part of it counts, and it is to be repeated as it was. Errors are `application/
 * problem+json` with `code`, `retryable` and `outcome`. Malformed items are dead letters, and counted in the answer; those of
 * up to 4 KiB are kept whole, so `retrySourceDeadLetter` can use them once the mapping is mended.
 * Whoever may ask is let in: put it behind what you check others with.
 *
 * @throws KeyturnError `invalid_options`
 */
export function sourceEndpoint(client: Client, source: AnySource, options: EndpointOptions = {}): Endpoint {
  const { maxBodyBytes = BODY_BYTES, maxInFlightBytes = IN_FLIGHT_BYTES, timeout_ms = TIMEOUT_MS } = options;
  checkWhole("maxBodyBytes", maxBodyBytes, 1, BYTES_MAX);
  checkWhole("maxInFlightBytes", maxInFlightBytes, maxBodyBytes, BYTES_MAX);
  checkWhole("timeout_ms", timeout_ms, 1, TIMEOUT_MAX_MS);
  if (source.from !== unread)
    throw new KeyturnError(
      "invalid_options",
      `The source "${source.name}" is not of HTTP: give it from: http().`,
    );
  const ingest = new Ingest(client, source, { maxBodyBytes, maxInFlightBytes, inFlight: 0 }, timeout_ms);
  return (request, response) => void ingest.take(request, response);
}

class Ingest {
  readonly #client: Client;
  readonly #source: AnySource;
  readonly #limits: BodyLimits;
  readonly #timeout_ms: number;
  /** Keys of partitions, by producer. */
  readonly #partitions = new Map<string, string>();
  /** The last request of each partition that is in flight. */
  readonly #last = new Map<string, Promise<unknown>>();
  /** Partitions of which something was told and is not known to be delivered. */
  readonly #undelivered = new Set<string>();

  constructor(client: Client, source: AnySource, limits: BodyLimits, timeout_ms: number) {
    this.#client = client;
    this.#source = source;
    this.#limits = limits;
    this.#timeout_ms = timeout_ms;
  }

  async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      send(response, 200, await this.#answer(request));
    } catch (error) {
      refuse(response, error);
    }
  }

  async #answer(request: IncomingMessage): Promise<object> {
    const producer = header(request, "keyturn-producer");
    if (request.method === "GET") {
      if (producer === undefined) throw new Refused(400, "A GET names a producer: Keyturn-Producer.");
      return { next: (await this.#standing(producer)) + 1 };
    }
    if (request.method !== "POST") throw new Refused(405, "Items are posted.", { allow: "GET, POST" });
    const key = header(request, "idempotency-key");
    if ((producer === undefined) === (key === undefined))
      throw new Refused(
        400,
        "A request has a Keyturn-Producer with its Keyturn-Sequence, or an Idempotency-Key.",
      );
    const first = producer === undefined ? 1 : sequenceOf(header(request, "keyturn-sequence"));
    const body = await readBody(request, this.#limits);
    try {
      const items = itemsOf(request.headers["content-type"], body, first);
      const signal = AbortSignal.timeout(this.#timeout_ms);
      const group = producer ?? `keys-${hashTokens(key as string, "") % KEY_PARTITIONS}`;
      const partition = await this.#partition(group);
      this.#told(partition);
      if (producer !== undefined) {
        return await this.#inTurn(partition, () =>
          this.#numbered(
            partition,
            items,
            first,
            new Mapper(this.#source, group, () => this.#client.world.clock.now()),
            signal,
          ),
        );
      }
      return await this.#keyed(
        partition,
        items,
        new Mapper(this.#source, group, () => this.#client.world.clock.now()),
        key as string,
        createHash("sha256").update(body).digest("base64url").slice(0, HASH_LENGTH),
      );
    } finally {
      this.#limits.inFlight -= body.length;
    }
  }

  /** Finds out soon what is delivered, of all that is told meanwhile. */
  #told(partition: string): void {
    if (this.#undelivered.size === 0) setTimeout(() => this.#askGates(), FENCE_MS).unref();
    this.#undelivered.add(partition);
  }

  #askGates(): void {
    const partitions = [...this.#undelivered];
    this.#undelivered.clear();
    // It is for people only, and asked again after the next request.
    for (const partition of partitions)
      askGates(partitionRef(this.#client, this.#source, partition), this.#client).catch(() => undefined);
  }

  /** Requests of one producer, one after the other. */
  async #inTurn<T>(partition: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#last.get(partition) ?? Promise.resolve()).then(work, work);
    this.#last.set(partition, turn);
    try {
      return await turn;
    } finally {
      if (this.#last.get(partition) === turn) this.#last.delete(partition);
    }
  }

  async #numbered(
    partition: string,
    items: readonly Item<unknown>[],
    first: number,
    mapper: Mapper,
    signal: AbortSignal,
  ): Promise<object> {
    const ref = partitionRef(this.#client, this.#source, partition);
    let repeated = -1;
    // Another process may take requests of the same producer.
    for (let moves = 0; moves < MOVES_MAX; moves++) {
      const context = (await ref.get()).context as unknown as PartitionContext;
      const next = Number(context.position) + 1;
      if (first > next)
        throw new Refused(
          409,
          `Item ${next} is expected, not ${first}: those between are missing.`,
          {},
          { next },
        );
      const known = Math.min(items.length, next - first);
      if (repeated < 0) repeated = known;
      let malformed = 0;
      const counted = (batch: Batch, sign = 1): Batch => {
        malformed += sign * batch.letters.length;
        return batch;
      };
      const apart = (batch: Batch, refusal: KeyturnError): Iterable<Batch> => {
        counted(batch, -1);
        return [...mapper.apart(batch, refusal)].map((part) => counted(part));
      };
      const feed = new Feed(context, {
        clock: this.#client.world.clock,
        ref,
        signal,
        troubled: () => undefined,
        apart,
      });
      await pushAll(feed, mapper.batches(items.slice(known)), counted);
      if (feed.lost) continue;
      if (feed.waiting > 0) throw busy(feed.trouble);
      return {
        next: Math.max(next, first + items.length),
        accepted: items.length - repeated,
        repeated,
        malformed,
      };
    }
    throw busy(new Error("Another process takes requests of the same producer."));
  }

  async #keyed(
    partition: string,
    items: readonly Item<unknown>[],
    mapper: Mapper,
    key: string,
    of: string,
  ): Promise<object> {
    const ref = partitionRef(this.#client, this.#source, partition);
    let malformed = 0;
    const ask = async (whole: Batch, id: string, kept = KEPT_CHARACTERS): Promise<void> => {
      const batch = shortened(whole, kept);
      const { items: count, skipped, missed, letters, tells } = batch;
      // The position of such a partition says nothing.
      const event = {
        type: "items",
        from: WHEREVER,
        position: 0,
        items: count,
        skipped,
        missed,
        letters,
        tells,
        ended: false,
        of,
      };
      try {
        await ref.ask(event as never, { requestId: id, timeout_ms: this.#timeout_ms });
        malformed += letters.length;
      } catch (error) {
        if (!isKeyturnError(error) || !CONTENT.has(error.code)) throw error;
        // Under one id go the same items always, also where letters keep less of them: see KEPT_CHARACTERS.
        if (shortened(batch, 0) !== batch) return await ask(whole, id, 0);
        // The parts, and so their ids, are the same whenever the request is repeated.
        let part = 0;
        for (const smaller of mapper.apart(batch, error)) await ask(smaller, `${id}.${part++}`);
      }
    };
    let number = 0;
    for (const batch of mapper.batches(items)) await ask(batch, `${key}#${number++}`);
    return { accepted: items.length, malformed };
  }

  /** The number of a producer's last item that counts. Changes nothing: it may be one that never sends any. */
  async #standing(producer: string): Promise<number> {
    const { partitions } = await planOf(this.#client, this.#source);
    const index = partitions.findIndex(({ group }) => group === producer);
    if (index < 0) return 0;
    const { context } = await partitionRef(this.#client, this.#source, String(index)).get();
    return Number((context as unknown as PartitionContext).position);
  }

  /** The partition of a producer, planned with its first request. */
  async #partition(group: string): Promise<string> {
    let known = this.#partitions.get(group);
    if (known !== undefined) return known;
    const planned: PlannedPartition = { group, spec: { group }, identity: {} };
    const { partitions } = (await this.#client
      .actor(this.#source.parts.plan, PLAN_KEY)
      .ask({ type: "plan", partitions: [planned] })) as unknown as {
      partitions: readonly PlannedPartition[];
    };
    const index = partitions.findIndex((one) => one.group === group);
    if (index < 0)
      throw new Refused(
        403,
        `The source "${this.#source.name}" has ${partitions.length} producers, its limit.`,
      );
    known = String(index);
    this.#partitions.set(group, known);
    return known;
  }
}

async function pushAll(
  feed: Feed,
  batches: Iterable<Batch>,
  counted: (batch: Batch) => Batch,
): Promise<void> {
  try {
    for (const batch of batches) {
      await feed.push(counted(batch));
      if (feed.lost) return;
    }
  } catch (error) {
    await feed.drain();
    throw error;
  }
  await feed.drain();
}

function notRun(): KeyturnError {
  const text =
    "A source of HTTP is not run: serve sourceEndpoint(client, source), and its items come by requests.";
  return new KeyturnError("invalid_options", text);
}
