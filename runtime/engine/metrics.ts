/**
 * A node's metrics: what it counts (tally.ts) and what is so at this moment, under names and with a text for each.
 *
 * Reads the engine; changes nothing. Whoever shows them (Prometheus, OpenTelemetry, `keyturn top`) needs to know no
 * metric by name. Counters go on when a node was fenced and has come back; gauges are of its present life.
 *
 * The names are those of Prometheus (base units, `_total` for counters) and part of the public interface.
 */
import type { Engine } from "./engine.ts";
import { SOURCES, type Tallied, type Tally } from "./tally.ts";

export interface MetricPoint {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** How often values were at most so large; what is larger than all bounds is only in `count`. */
export interface MetricHistogram {
  readonly labels: Readonly<Record<string, string>>;
  readonly buckets: readonly { readonly upTo: number; readonly count: number }[];
  readonly sum: number;
  readonly count: number;
}

interface Described {
  readonly name: string;
  readonly help: string;
  /** `s`, `By`, or what is counted in braces, as UCUM has it. */
  readonly unit: string;
}

export type Metric =
  | (Described & { readonly kind: "counter" | "gauge"; readonly points: readonly MetricPoint[] })
  | (Described & { readonly kind: "histogram"; readonly histograms: readonly MetricHistogram[] });

/** Every point has the label `node`, the node's name. */
export type NodeMetrics = readonly Metric[];

type Labels = Readonly<Record<string, string>>;

const none: Labels = {};

/** @param serving how many shards are served */
export function metricsOf(node: string, engine: Engine, tally: Tally, serving: number): NodeMetrics {
  return [
    ...turns(tally),
    ...journal(tally, engine),
    ...actors(tally, engine),
    ...cluster(tally, serving),
  ].map((metric) => withNode(metric, node));
}

function turns(tally: Tally): Metric[] {
  const counts = [...tally.types]
    .flatMap(([type, row]) =>
      SOURCES.map((source, index) => [{ type, source }, row.turns[index] as number] as const),
    )
    .filter(([, value]) => value > 0);
  return [
    counter("keyturn_turns_total", "{turn}", "Turns that were committed.", counts),
    histogram(
      "keyturn_turn_duration_seconds",
      "s",
      "From a message's intake to the commit of its turn.",
      tally.turnDuration,
    ),
    counter(
      "keyturn_refusals_total",
      "{request}",
      "Requests that were refused, by the code of the error.",
      [...tally.refused].map(([code, value]) => [{ code }, value] as const),
    ),
    counter("keyturn_repeats_total", "{message}", "Messages that came again and were not applied again.", [
      [{ by: "channel" }, tally.repeatedRequests],
      [{ by: "request_id" }, tally.repeatedIds],
      [{ by: "told" }, tally.repeatedTold],
    ]),
    counter(
      "keyturn_dead_letters_total",
      "{message}",
      "Messages that were refused for good with nobody waiting for the error.",
      tally.deadLetters,
    ),
    counter(
      "keyturn_actions_failed_total",
      "{action}",
      "Custom actions and work that threw after their turn was committed.",
      tally.actionsFailed,
    ),
  ];
}

function journal(tally: Tally, engine: Engine): Metric[] {
  return [
    histogram(
      "keyturn_batch_records",
      "{record}",
      "Records in a batch that was committed.",
      tally.batchRecords,
    ),
    histogram("keyturn_commit_duration_seconds", "s", "Of one append to the journal.", tally.commitDuration),
    counter("keyturn_journal_bytes_total", "By", "Bytes appended to the journal.", tally.journalBytes),
    gauge(
      "keyturn_checkpoint_lag_records",
      "{record}",
      "Records that only the journal has: a recovery would replay them.",
      engine.tail.records,
    ),
    gauge("keyturn_checkpoint_lag_bytes", "By", "The same in bytes.", engine.tail.bytes),
    counter(
      "keyturn_checkpoints_total",
      "{checkpoint}",
      "Checkpoints that were completed.",
      tally.checkpoints,
    ),
    counter(
      "keyturn_store_full_total",
      "{append}",
      "Appends that the store had no room for.",
      tally.storeFull,
    ),
  ];
}

function actors(tally: Tally, engine: Engine): Metric[] {
  const { loading, parked, outbox, due } = waiting(engine);
  const { promises, waiting: queued } = engine.works;
  return [
    gauge("keyturn_waiting_messages", "{message}", "Messages that were taken in and wait.", [
      [{ for: "step" }, engine.queued],
      [{ for: "load" }, loading],
      [{ for: "room" }, parked],
    ]),
    gauge("keyturn_outbox_messages", "{message}", "Told messages that are not acknowledged.", outbox),
    gauge("keyturn_actors_active", "{actor}", "Actors in memory.", engine.actors.size),
    counter(
      "keyturn_activations_total",
      "{actor}",
      "Actors that were brought into memory.",
      tally.activations,
    ),
    counter("keyturn_actor_lookups_total", "{message}", "Messages whose actor was in memory, or was not.", [
      [{ result: "hit" }, tally.hits],
      [{ result: "miss" }, tally.misses],
    ]),
    gauge("keyturn_timers_due_actors", "{actor}", "Actors with something due within the next minutes.", due),
    gauge("keyturn_timers_overdue_actors", "{actor}", "Of those, the ones in the backlog.", engine.overdue),
    histogram(
      "keyturn_timer_lateness_seconds",
      "s",
      "By how much timers were late when they fired.",
      tally.timerLateness,
    ),
    gauge("keyturn_promises", "{promise}", "Invoked promises of actors.", [
      [{ state: "running" }, promises],
      [{ state: "waiting" }, queued],
    ]),
  ];
}

function cluster(tally: Tally, serving: number): Metric[] {
  return [
    gauge("keyturn_shards_serving", "{shard}", "Shards that are served here.", serving),
    counter("keyturn_shards_taken_total", "{shard}", "Shards that came to this node.", tally.shardsTaken),
    counter(
      "keyturn_shards_released_total",
      "{shard}",
      "Shards that this node has handed over or released.",
      tally.shardsReleased,
    ),
    counter(
      "keyturn_shards_failed_total",
      "{shard}",
      "Shards that were stopped because their storage is damaged.",
      tally.shardsFailed,
    ),
    counter(
      "keyturn_fenced_total",
      "{time}",
      "How often another node has taken over from this one.",
      tally.fenced,
    ),
    counter(
      "keyturn_troubles_total",
      "{task}",
      "Background tasks that failed and were tried again.",
      tally.troubles,
    ),
  ];
}

function waiting({ actors, shards }: Engine): Record<"loading" | "parked" | "outbox" | "due", number> {
  let loading = 0;
  let parked = 0;
  let outbox = 0;
  let due = 0;
  for (const { mailbox } of actors.values()) loading += mailbox?.length ?? 0;
  for (const shard of shards.values()) {
    due += shard.due.size;
    for (const channel of shard.ins.values()) parked += channel.parked.length;
    for (const channel of shard.outs.values()) outbox += channel.waiting.length;
  }
  return { loading, parked, outbox, due };
}

function counter(name: string, unit: string, help: string, value: Points): Metric {
  return { name, kind: "counter", unit, help, points: pointsOf(value) };
}

function gauge(name: string, unit: string, help: string, value: Points): Metric {
  return { name, kind: "gauge", unit, help, points: pointsOf(value) };
}

type Points = number | readonly (readonly [labels: Labels, value: number])[];

function pointsOf(value: Points): MetricPoint[] {
  if (typeof value === "number") return [{ labels: none, value }];
  return value.map(([labels, count]) => ({ labels, value: count }));
}

function histogram(name: string, unit: string, help: string, { bounds, counts, sum }: Tallied): Metric {
  let count = 0;
  const buckets = bounds.map((upTo, at) => ({ upTo, count: (count += counts[at] as number) }));
  count += counts[bounds.length] as number;
  return { name, kind: "histogram", unit, help, histograms: [{ labels: none, buckets, sum, count }] };
}

function withNode(metric: Metric, node: string): Metric {
  const add = <T extends { readonly labels: Labels }>(point: T): T => ({
    ...point,
    labels: { ...point.labels, node },
  });
  if (metric.kind === "histogram") return { ...metric, histograms: metric.histograms.map(add) };
  return { ...metric, points: metric.points.map(add) };
}
