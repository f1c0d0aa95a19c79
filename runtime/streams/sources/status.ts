/**
 * What became of a source: how far it is.
 *
 * Owns nothing. Talks to the source's actors, and to its reader for how much there is.
 */
import type { ActorRef, Client } from "../../client/client.ts";
import { PAGE_LETTERS, pagesFor, type PartitionContext, type PlanContext } from "./words.ts";
import { PLAN_KEY, type SourceShare } from "../../words/sources.ts";
import type { AnySource } from "./define.ts";
import { held } from "./held.ts";
import type { Extent } from "./reader.ts";

/** How far one part is. */
export interface SourcePartitionStatus {
  readonly key: string;
  /** What it is a part of: a file, a stream, a producer. */
  readonly of: string;
  readonly position: unknown;
  /** Items that count: their messages are committed with the position. Malformed and skipped ones are among them. */
  readonly items: number;
  /** Items for which the mapping gave nothing. */
  readonly skipped: number;
  readonly malformed: number;
  /** Items that were gone before they could be read. */
  readonly missed: number;
  /** Messages told. */
  readonly told: number;
  /** Of `items`, those whose messages are known to be committed by the actors that they are for. */
  readonly delivered: number;
  /** Nothing came after the last item when it was read last, and all is delivered. */
  readonly ended: boolean;
  /** How much of it was read, in units; undefined if what it reads from cannot be looked at here. */
  readonly extent: Extent | undefined;
}

export interface SourceStatus {
  readonly source: string;
  /** Items that were read, of whatever became of them. */
  readonly items: number;
  /** Of those, for how many the mapping gave nothing. */
  readonly skipped: number;
  /** Of those, how many became dead letters of the source. */
  readonly malformed: number;
  /** Messages of a stream that it had dropped before they were read. */
  readonly missed: number;
  /** Messages that came of them. */
  readonly told: number;
  /** Messages that their actors have taken in or refused. */
  readonly delivered: number;
  /** Everything is read and delivered. */
  readonly ended: boolean;
  /** What there is and was not read: bytes, rows, messages. Undefined if it cannot be looked at here. */
  readonly lag: number | undefined;
  readonly unit: "bytes" | "rows" | "messages" | "items";
  /** Of `lag`'s unit, what there is in all. */
  readonly total: number | undefined;
  /** Who runs it now. */
  readonly runners: readonly string[];
  /** What each of them said last of its share, by runner. */
  readonly shares: Readonly<Record<string, SourceShare>>;
  readonly partitions: readonly SourcePartitionStatus[];
}

/** How far a source is. Changes nothing; linearizable for each partition. */
export function sourceStatus(client: Client, source: AnySource): Promise<SourceStatus> {
  return held(source.from, () => statusOf(client, source));
}

async function statusOf(client: Client, source: AnySource): Promise<SourceStatus> {
  const plan = await planOf(client, source);
  const partitions = await Promise.all(
    plan.partitions.map(async (planned, index): Promise<SourcePartitionStatus> => {
      const key = String(index);
      const { context } = await partitionRef(client, source, key).get();
      const c = context as unknown as PartitionContext;
      const extent = await source.from.extent(planned, c.position).catch(() => undefined);
      return {
        key,
        of: planned.group,
        position: c.position,
        items: c.items,
        skipped: c.skipped,
        malformed: c.malformed,
        missed: c.missed,
        told: c.told,
        delivered: c.delivered >= c.revision ? c.items : c.deliveredItems,
        ended: c.ended && c.delivered >= c.revision,
        extent,
      };
    }),
  );
  const sum = (of: (one: SourcePartitionStatus) => number): number =>
    partitions.reduce((all, one) => all + of(one), 0);
  const seen = partitions.every(({ extent }) => extent !== undefined);
  return {
    source: source.name,
    items: sum(({ items }) => items),
    skipped: sum(({ skipped }) => skipped),
    malformed: sum(({ malformed }) => malformed),
    missed: sum(({ missed }) => missed),
    told: sum(({ told }) => told),
    delivered: sum(({ delivered }) => delivered),
    ended: partitions.length > 0 && partitions.every(({ ended }) => ended),
    lag: seen ? sum(({ extent }) => (extent as Extent).total - (extent as Extent).done) : undefined,
    unit: source.from.unit,
    total: seen ? sum(({ extent }) => (extent as Extent).total) : undefined,
    runners: plan.runners,
    shares: plan.shares ?? {},
    partitions,
  };
}

/**
 * Forgets a source: its plan, positions, counts and letters. The next run begins anew, and its items count again. Not
 * while it is run.
 */
export async function resetSource(client: Client, source: AnySource): Promise<void> {
  const { partitions } = await planOf(client, source);
  for (const index of partitions.keys()) {
    const key = String(index);
    const ref = partitionRef(client, source, key);
    const { malformed, keep = source.keepLetters } = (await ref.get()).context as unknown as PartitionContext;
    const pages = Math.max(pagesFor(keep), pagesFor(source.keepLetters));
    const written = Math.min(pages, Math.ceil(malformed / PAGE_LETTERS));
    const page = (at: number): ActorRef => client.actor(`${source.parts.page.type}/${key}:${at}`);
    for (let at = 0; at < written; at++) await page(at).delete();
    await ref.delete();
  }
  await client.actor(source.parts.plan, PLAN_KEY).delete();
}

export async function planOf(client: Client, source: AnySource): Promise<PlanContext> {
  return (await client.actor(source.parts.plan, PLAN_KEY).get()).context;
}

export function partitionRef(client: Client, source: AnySource, key: string): ActorRef {
  return client.actor(`${source.parts.partition.type}/${key}`);
}
