/**
 * Statistics, as they come: the page views and orders of a web site from its access log, and three million flights.
 *
 * However often it is started and wherever it is killed: each line and each flight counts once.
 */
import { access, mkdir } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { type Client, type Store, startNode } from "keyturn";
import { countOf, type OwnOptions, type Program, type Progress, type Result } from "../program.ts";
import type { ShopPaths } from "./common-log.ts";
import { flightActors, flightSource } from "./flights.ts";
import { countFlights, type FlightReport, flightsText } from "./flights-report.ts";
import { recordTraffic } from "./traffic.ts";
import { countLog, logSource, webActors } from "./web.ts";
import { type WebReport, webText } from "./web-report.ts";

const HELP = `Statistics of a web site from its access log, and of three million flights: every visitor, page, hour, airport and
day is an actor. Without a log of yours a small shop is started, real clients walk through it, and its log is counted. Run
it again, or kill it and run it again: nothing counts twice.

  node dist/examples/statistics/main.js [--data DIR | --nats HOST:PORT] [--log FILE] [--only log|flights] [--json]

  --log FILE         an access log in Common or Combined Log Format; run it again when it has grown
  --follow SECONDS   go on for so long with what is written to the log; sessions then end by the clock
  --cart PATH        a POST to there, or below, puts something into a cart; /cart by default
  --order PATH       a POST to there is an order, worth its parameter total, value or amount; /orders by default
  --only WHAT        only the log, or only the flights
  --visitors N       how many come to the shop; 600 by default
  --record FILE      where the shop writes its log; data/statistics-access.log by default, written if it is not there
  --take N           only the first N flights
  --data DIR         where the actors live; data/statistics by default, made if it is not there
  --nats HOST:PORT   they live on a NATS server, in the app "statistics"
  --json             print one JSON document on standard output and nothing else there
  --help             print this`;

const VISITORS = 600;
const SEED = 2026;
const RECORD = "data/statistics-access.log";

/** What came of both. */
export interface Statistics {
  readonly log?: WebReport | undefined;
  readonly flights?: FlightReport | undefined;
}

export interface StatisticsOptions {
  /** A log; or else where the shop's is, or is to be written. */
  readonly log?: string | undefined;
  readonly record?: string | undefined;
  readonly visitors?: number | undefined;
  readonly paths?: Partial<ShopPaths> | undefined;
  /** Goes on with what is appended to the log until then. */
  readonly until?: AbortSignal | undefined;
  /** Called with how many lines of it have counted. */
  readonly onLines?: ((lines: number) => void) | undefined;
  readonly take?: number | undefined;
  readonly only?: string | undefined;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/** Counts what is not counted yet; undefined if it was stopped before its end. */
export async function statistics(store: Store, options: StatisticsOptions): Promise<Statistics | undefined> {
  const { only, take, paths, until } = options;
  const file = only === "flights" ? undefined : await logOf(options);
  if (options.signal.aborted) return undefined;
  const log = file === undefined ? undefined : logSource(file, paths, until !== undefined);
  const flights = flightSource(take);
  // All nodes of an app host the same actors, so it hosts both whatever it counts.
  const sources = [...(log ?? logSource(RECORD)).actors, ...flights.actors];
  return await withNode(store, [...webActors, ...flightActors, ...sources], async (client) => {
    const ofLog = log === undefined ? undefined : await countLog(client, log, options);
    if (options.signal.aborted) return undefined;
    const ofFlights = only === "log" ? undefined : await countFlights(client, flights, options);
    return options.signal.aborted ? undefined : { log: ofLog, flights: ofFlights };
  });
}

async function withNode<T>(
  store: Store,
  actors: NonNullable<Parameters<typeof startNode>[0]>["actors"],
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const node = await startNode({ actors, store });
  try {
    return await work(node.client);
  } finally {
    await node.stop({ closeStore: false });
  }
}

/** The log to count. The shop's is recorded if it is not there. */
async function logOf({
  log,
  record = RECORD,
  visitors = VISITORS,
  signal,
  progress,
}: StatisticsOptions): Promise<string> {
  if (log !== undefined) return log;
  const isThere = await access(record).then(
    () => true,
    () => false,
  );
  if (isThere) return record;
  await mkdir(dirname(resolve(record)), { recursive: true });
  progress.start(visitors, 0, "visitors of the shop");
  try {
    await recordTraffic(record, SEED, { visitors, signal, onProgress: progress.update });
  } finally {
    progress.stop();
  }
  return record;
}

export const program: Program = {
  app: "statistics",
  help: HELP,
  options: ["log", "follow", "cart", "order", "only", "visitors", "record", "take"],
  check(options) {
    for (const name of ["take", "visitors", "follow"]) countOf(options, name);
    for (const name of ["log", "record"])
      if (options[name] === "") throw new Error(`--${name} needs the name of a file.`);
    for (const name of ["cart", "order"])
      if (options[name]?.startsWith("/") === false) throw new Error(`--${name} needs a path: /${name}.`);
    const { only, log, record, visitors } = options;
    if (only !== undefined && only !== "log" && only !== "flights")
      throw new Error("--only needs log or flights.");
    if (log !== undefined && (record ?? visitors) !== undefined)
      throw new Error("--record and --visitors are for the shop; it is not started with --log.");
  },
  async run({ store, options, signal, progress }): Promise<Result | undefined> {
    const { log, record, only } = options;
    const follow = countOf(options, "follow");
    const found = await statistics(store, {
      log,
      record,
      only,
      visitors: countOf(options, "visitors"),
      take: countOf(options, "take"),
      paths: pathsOf(options),
      until: follow === undefined ? undefined : AbortSignal.timeout(follow * 1_000),
      signal,
      progress,
    });
    return found && { json: found, text: textOf(found) };
  },
};

function pathsOf({ cart, order }: OwnOptions): Partial<ShopPaths> {
  return { ...(cart === undefined ? {} : { cart }), ...(order === undefined ? {} : { order }) };
}

function textOf({ log, flights }: Statistics): string {
  return [log && webText(log), flights && flightsText(flights)]
    .filter((text) => text !== undefined)
    .join("\n\n");
}
