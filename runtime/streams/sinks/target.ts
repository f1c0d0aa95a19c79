/**
 * What a sink publishes to: the interface of targets, and the simplest of them.
 *
 * A target is handed one batch at a time of each partition, in order, the next when the one before is settled. The same
 * batch, with the same items and numbers, comes again until it is: after a failure, a crash, a move to another node. So
 * a target that can find out what it has published does so exactly once; others do at least once, with an id for each
 * item and a key for each batch by which a receiver can tell.
 */
import { KeyturnError } from "../../words/errors.ts";
import type { AnyEmitted } from "../routes.ts";

/** One emitted event on its way out. */
export interface SinkItem {
  /** Counts the partition's items from 1, without gaps. */
  readonly number: number;
  /** The same whenever this item is published, and never used for another: `<sink>.<partition>.<epoch>.<number>`. */
  readonly id: string;
  /** Who emitted it, `type/key`. */
  readonly from: string;
  /** When, milliseconds since the epoch. */
  readonly at: number;
  readonly event: AnyEmitted;
}

export interface SinkBatch {
  readonly sink: string;
  readonly partition: number;
  /** Tells one life of the partition's actor from another, after it was deleted. */
  readonly epoch: string;
  /** In the order of their numbers; one at least. */
  readonly items: readonly SinkItem[];
  /** What the target gave back for the batch before; undefined for the first. */
  readonly mark: unknown;
}

export interface PublishArgs {
  /** The same for every attempt to publish this batch. */
  readonly idempotencyKey: string;
  /** Counts from 1; above 1 the batch may have been published, in whole or in part. */
  readonly attempt: number;
  /** Aborted when the outcome is of no use any more: the node lost the partition. */
  readonly signal: AbortSignal;
}

/** What became of a batch that is settled. */
export interface Published {
  /** Plain data that the next batch is handed: where the target stands. */
  readonly mark?: unknown;
  /** Items that can never be published, and why: they become dead letters. */
  readonly refused?: readonly (readonly [number: number, why: string])[];
}

export interface SinkTarget {
  /** For people: what it is and where. */
  readonly description: string;
  /** Called where the sink is declared. Throws `invalid_options`. */
  check?(sink: string, partitions: number): void;
  /**
   * Publishes a batch. A rejection means that it is to be tried again; with `retryAfter_ms` not before. One with
   * `refused: true` means that it never will be taken: all its items become dead letters.
   */
  publish(batch: SinkBatch, args: PublishArgs): Promise<Published>;
  /** Ends what it holds open; it may be used again. */
  close?(): Promise<void>;
}

/** A rejection that need not be tried again. */
export class SinkRefusal extends Error {
  override readonly name = "SinkRefusal";
  readonly refused = true;
}

/**
 * A target of your own.
 * @param publish resolves when all items are published. They come again if it rejects, and after a crash
 */
export function toFunction(
  publish: (items: readonly SinkItem[], args: PublishArgs & Pick<SinkBatch, "sink" | "partition">) => unknown,
): SinkTarget {
  if (typeof publish !== "function")
    throw new KeyturnError("invalid_options", "toFunction takes a function of the items.");
  return Object.freeze({
    description: "a function",
    publish: async ({ items, sink, partition }: SinkBatch, args: PublishArgs): Promise<Published> => {
      await publish(items, { ...args, sink, partition });
      return {};
    },
  });
}

/** An event as JSON: bytes as base64, Maps as their entries, Sets as lists, Dates and bigints as texts, Errors by name. */
export function jsonOf(value: unknown): string {
  return JSON.stringify(value, (_name, inner: unknown) => {
    if (typeof inner === "bigint") return String(inner);
    if (inner instanceof Map) return [...inner];
    if (inner instanceof Set) return [...inner];
    if (inner instanceof Uint8Array) return Buffer.from(inner).toString("base64");
    if (inner instanceof Error) return { ...inner, name: inner.name, message: inner.message };
    return inner;
  });
}

/** An item as one line of NDJSON, without its end. */
export function lineOf({ id, from, at, event }: SinkItem): string {
  return jsonOf({ id, from, at: new Date(at).toISOString(), event });
}
