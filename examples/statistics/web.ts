/**
 * Page views and orders out of an access log: a source of its lines, a visitor's actor for each who comes, and views by
 * page and by hour of what the visitors emit. Owns the way from the file to the report.
 *
 * However often it is started and wherever it is killed: each line counts once.
 */
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "keyturn";
import {
  defineSource,
  lines,
  runSource,
  type Source,
  sourceDeadLetters,
  sourceStatus,
  toldTo,
} from "keyturn/streams";
import type { Progress } from "../program.ts";
import { type Hit, parseLine, type ShopPaths, shopPaths } from "./common-log.ts";
import { type CountedFile, differencesOf, directCount } from "./web-direct.ts";
import {
  type DeadLine,
  summaryOf,
  type ViewRow,
  type VisitorCounts,
  type WebCounts,
  type WebReport,
} from "./web-report.ts";
import { hours, pages } from "./views.ts";
import { visitor } from "./visitor.ts";

/** Actors that are asked at once. */
const AT_ONCE = 256;
const LETTERS_SHOWN = 5;
/** Between looks at what has come to the views, and how long nothing may come. */
const LOOK_MS = 20;
const LOOK_MAX_MS = 1_000;
const STUCK_MS = 30_000;

/** The lines of a log, each told to its visitor. */
export function logSource(file: string, paths?: Partial<ShopPaths>, follow = false): Source<Hit> {
  const shop = { ...shopPaths, ...paths };
  return defineSource("log", {
    // Servers write what they were sent, in whatever encoding.
    from: lines({ path: resolve(file), encoding: "latin1", follow, parse: (line) => parseLine(line, shop) }),
    to: ({ visitor: key, kind, ...line }) => toldTo(visitor, key, { type: `hit.${kind}`, ...line }),
  });
}

/** What nodes host for it, beside the source's actors. */
export const webActors = [visitor, ...pages.actors, ...hours.actors] as const;

/** Counts what is new in a log, and says what all comes to; undefined if it was stopped before. */
export async function countLog(
  client: Client,
  source: Source<Hit>,
  { paths, until, onLines, signal, progress }: CountOptions,
): Promise<WebReport | undefined> {
  const begun = performance.now();
  const before = await sourceStatus(client, source);
  const run = runSource(client, source, { signal: until ? AbortSignal.any([signal, until]) : signal });
  const doneBefore = (before.total ?? 0) - (before.lag ?? 0);
  let size = 0;
  try {
    for await (const { items, lag = 0, total = 0 } of run.progress({ every_ms: 50 })) {
      if (size === 0 && total > 0) progress.start((size = total), doneBefore, "bytes of the log");
      // What is followed grows.
      if (size > 0) progress.update(Math.min(size, total - lag));
      onLines?.(items);
    }
  } finally {
    if (size > 0) progress.stop();
  }
  const status = await run.done;
  await settled(client, status.told, signal);
  if (signal.aborted) return undefined;
  await tellTime(client);
  const counts = await countsOf(client);
  const seconds = (performance.now() - begun) / 1_000;
  const files = status.partitions.map(({ of, position }) => fileOf(of, position));
  const direct = await directCount(files, paths);
  return {
    files: files.map(({ path }) => path),
    lines: status.items,
    malformed: status.malformed,
    letters: await lettersOf(client, source),
    ...summaryOf(counts),
    work: { now: status.items - before.items, before: before.items, seconds },
    differences: direct && differencesOf({ ...counts, malformed: status.malformed }, direct),
  };
}

export interface CountOptions {
  /** As the source was declared with. */
  readonly paths?: Partial<ShopPaths> | undefined;
  /** If the log is followed, ends that. */
  readonly until?: AbortSignal | undefined;
  /** Called with how many lines have counted. */
  readonly onLines?: ((lines: number) => void) | undefined;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

function fileOf(path: string, position: unknown): CountedFile {
  return { path, bytes: (position as { byte: number } | null)?.byte ?? 0 };
}

/** Resolves when the views have what the visitors have emitted. */
async function settled(client: Client, hits: number, signal: AbortSignal): Promise<void> {
  for (const view of [hours, pages]) {
    let [seen, moved, pause_ms] = [-1, performance.now(), LOOK_MS];
    while (!signal.aborted) {
      const rows = await readAll(client, view);
      const now = rows.reduce((sum, [, { requests }]) => sum + requests, 0);
      if (now >= hits) break;
      if (now > seen) [seen, moved] = [now, performance.now()];
      // The check says what is missing.
      if (performance.now() - moved > STUCK_MS) return;
      await sleep(pause_ms, undefined, { signal }).catch(() => undefined);
      pause_ms = Math.min(LOOK_MAX_MS, 2 * pause_ms);
    }
  }
}

/**
 * Ends the sessions of those who have not come again before the log's last time. What is later than that is left to the
 * visitors' timers.
 */
async function tellTime(client: Client): Promise<void> {
  const at = (await readAll(client, hours)).reduce((most, [, { latest = 0 }]) => Math.max(most, latest), 0);
  const overdue = client.find(visitor, { state: "active", where: { deadline: { lte: at } } });
  await eachOf(overdue, ({ key }) => client.actor(visitor, key).send({ type: "clock", at }));
}

async function countsOf(client: Client): Promise<WebCounts> {
  const visitors = new Map<string, VisitorCounts>();
  for await (const { key, value, fields } of client.find(visitor)) {
    const { deadline: _, ...counts } = fields as unknown as VisitorCounts & { readonly deadline: number };
    const isActive = typeof value === "object" && value !== null && "active" in value;
    visitors.set(key, { ...counts, active: isActive ? 1 : 0, robot: value === "robot" });
  }
  const [byPage, byHour] = [await readAll(client, pages), await readAll(client, hours)];
  return { visitors, pages: new Map(byPage), hours: new Map(byHour) };
}

/** All keys of a view. */
async function readAll(client: Client, view: typeof pages): Promise<[key: string, row: ViewRow][]> {
  const reader = view.reader(client);
  return await eachOf(client.find(view.definition), async ({ key }) => {
    const { visitors, ...values } = (await reader.get(key)).values;
    return [key, { ...values, visitors: visitors.count, exact: visitors.exact }];
  });
}

/** Does something for each, many at once; the results in their order. */
async function eachOf<T, R>(items: AsyncIterable<T>, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let open: Promise<R>[] = [];
  for await (const item of items) {
    open.push(work(item));
    if (open.length < AT_ONCE) continue;
    results.push(...(await Promise.all(open)));
    open = [];
  }
  return [...results, ...(await Promise.all(open))];
}

async function lettersOf(client: Client, source: Source<Hit>): Promise<DeadLine[]> {
  const letters: DeadLine[] = [];
  for await (const { of, number, reason, text } of sourceDeadLetters(client, source, {
    limit: LETTERS_SHOWN,
  }))
    letters.push({ file: of, line: number, reason, text });
  return letters;
}
