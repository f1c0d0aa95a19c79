/**
 * The same figures counted directly: the files read line by line, without actors, sources or views. What the actors say
 * must be this.
 */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createInterface } from "node:readline";
import { type Hit, hourOf, parseLine, type ShopPaths, shopPaths } from "./common-log.ts";
import { PAUSE_MS } from "./visitor.ts";
import type { ViewRow, VisitorCounts, WebCounts } from "./web-report.ts";

/** A file, and how much of it was counted. */
export interface CountedFile {
  readonly path: string;
  readonly bytes: number;
}

export interface Counted extends WebCounts {
  readonly malformed: number;
}

export interface Direct extends Counted {
  /** The visitors, if the clock has ended the sessions that the log has left open; their timers do that. */
  readonly timedOut: ReadonlyMap<string, VisitorCounts>;
}

/** Counts the files, in this order. Undefined if one of them is not there any more, or is shorter than what was counted. */
export async function directCount(
  files: readonly CountedFile[],
  paths: Partial<ShopPaths> = {},
): Promise<Direct | undefined> {
  const byVisitor = new Map<string, Hit[]>();
  const pages = new Map<string, Hit[]>();
  const hours = new Map<string, Hit[]>();
  let malformed = 0;
  for (const { path, bytes } of files) {
    const size = await stat(path).then(
      (file) => file.size,
      () => -1,
    );
    if (size < bytes) return undefined;
    if (bytes === 0) continue;
    const input = createReadStream(path, { encoding: "latin1", end: bytes - 1 });
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      let hit: Hit | undefined;
      try {
        hit = parseLine(line, { ...shopPaths, ...paths });
      } catch {
        malformed++;
      }
      if (hit === undefined) continue;
      addTo(byVisitor, hit.visitor, hit);
      addTo(pages, hit.page, hit);
      addTo(hours, hourOf(hit.at), hit);
    }
  }
  const rows = (groups: Map<string, Hit[]>) => new Map([...groups].map(([key, hits]) => [key, rowOf(hits)]));
  const end = [...byVisitor.values()].flat().reduce((latest, { at }) => Math.max(latest, at), 0);
  const visitors = (until: number) =>
    new Map([...byVisitor].map(([key, hits]) => [key, visitorOf(hits, until)]));
  return {
    visitors: visitors(end),
    timedOut: visitors(Number.POSITIVE_INFINITY),
    pages: rows(pages),
    hours: rows(hours),
    malformed,
  };
}

function addTo(groups: Map<string, Hit[]>, key: string, hit: Hit): void {
  const group = groups.get(key);
  if (group === undefined) groups.set(key, [hit]);
  else group.push(hit);
}

function rowOf(hits: readonly Hit[]): ViewRow {
  const of = (fits: (hit: Hit) => boolean): number => hits.filter(fits).length;
  const sum = (value: (hit: Hit) => number): number => hits.reduce((total, hit) => total + value(hit), 0);
  const people = hits.filter(({ kind }) => kind !== "robot");
  return {
    requests: hits.length,
    views: of(({ kind }) => kind === "view"),
    errors: of(({ status }) => status >= 400),
    robots: of(({ kind }) => kind === "robot"),
    orders: of(({ kind }) => kind === "order"),
    cents: sum(({ cents }) => cents),
    bytes: sum(({ bytes }) => bytes),
    visitors: new Set(people.map(({ visitor }) => visitor)).size,
    exact: true,
    latest: hits.reduce((latest, { at }) => Math.max(latest, at), 0),
  };
}

/** Cuts a visitor's lines into sessions wherever a pause was long enough, and looks how each ended. */
function visitorOf(hits: readonly Hit[], end: number): VisitorCounts {
  const robot = hits[0]?.kind === "robot";
  const sessions: Hit[][] = [];
  let latest = Number.NEGATIVE_INFINITY;
  let lasted_ms = 0;
  for (const hit of robot ? [] : hits) {
    if (hit.at >= latest + PAUSE_MS) {
      sessions.push([]);
      latest = hit.at;
    }
    lasted_ms += Math.max(0, hit.at - latest);
    latest = Math.max(latest, hit.at);
    sessions.at(-1)?.push(hit);
  }
  const isActive = !robot && end < latest + PAUSE_MS;
  const over = isActive ? sessions.slice(0, -1) : sessions;
  const ordered = (session: readonly Hit[]) => session.some(({ kind }) => kind === "order");
  const filled = (session: readonly Hit[]) => session.some(({ kind }) => kind === "cart");
  return {
    sessions: sessions.length,
    bought: over.filter(ordered).length,
    abandoned: over.filter((session) => !ordered(session) && filled(session)).length,
    left: over.filter((session) => !ordered(session) && !filled(session)).length,
    active: isActive ? 1 : 0,
    robot,
    hits: hits.length,
    views: hits.filter(({ kind }) => kind === "view").length,
    orders: hits.filter(({ kind }) => kind === "order").length,
    cents: hits.reduce((sum, { cents }) => sum + cents, 0),
    lasted_ms,
  };
}

/** An estimate may be off by so much. */
const ESTIMATE = 0.1;

/** In what the two differ, for people; empty if they say the same. */
export function differencesOf(actors: Counted, direct: Direct): string[] {
  const differences: string[] = [];
  const say = (what: string, is: unknown, should: unknown): void => {
    if (is !== should) differences.push(`${what}: the actors say ${is}, the files ${should}`);
  };
  say("malformed lines", actors.malformed, direct.malformed);
  const visitors = new Map(
    [...direct.visitors].map(([key, row]) => [
      key,
      actors.visitors.get(key)?.active === 0 ? (direct.timedOut.get(key) ?? row) : row,
    ]),
  );
  for (const kind of ["visitors", "pages", "hours"] as const) {
    const [mine, theirs]: readonly ReadonlyMap<string, object>[] = [
      actors[kind],
      { ...direct, visitors }[kind],
    ];
    for (const key of new Set([...(mine?.keys() ?? []), ...(theirs?.keys() ?? [])])) {
      const [is, should] = [{ ...mine?.get(key) }, { ...theirs?.get(key) }] as Record<string, unknown>[];
      if (is === undefined || should === undefined) continue;
      for (const name of Object.keys({ ...should, ...is }))
        if (!isEstimate(is, should, name)) say(`${kind} ${key}, ${name}`, is[name], should[name]);
    }
  }
  return differences;
}

/** Whether it is a number of visitors that is not known exactly, and good enough. */
function isEstimate(
  is: Readonly<Record<string, unknown>>,
  should: Readonly<Record<string, unknown>>,
  name: string,
): boolean {
  if (is.exact !== false) return false;
  if (name === "exact") return true;
  const [count, truth] = [Number(is.visitors), Number(should.visitors)];
  return name === "visitors" && Math.abs(count - truth) <= ESTIMATE * truth;
}
