/** What a log has come to: as data, and as tables for people. */
import { bar, count, money, percent, share, shortened, tableOf } from "./text.ts";

/** A page or an hour. */
export interface ViewRow {
  readonly requests: number;
  readonly views: number;
  /** Answers of 400 and above. */
  readonly errors: number;
  /** Requests by robots. */
  readonly robots: number;
  readonly orders: number;
  /** What they are worth, in hundredths. */
  readonly cents: number;
  readonly bytes: number;
  /** How many different people; an estimate if not `exact`. */
  readonly visitors: number;
  readonly exact: boolean;
  /** Time of the latest line, milliseconds since the epoch. */
  readonly latest: number | undefined;
}

/** A visitor's; see visitor.ts. `active`: sessions that are not over, 0 or 1. */
export interface VisitorCounts {
  readonly sessions: number;
  readonly left: number;
  readonly abandoned: number;
  readonly bought: number;
  readonly active: number;
  readonly robot: boolean;
  readonly hits: number;
  readonly views: number;
  readonly orders: number;
  readonly cents: number;
  readonly lasted_ms: number;
}

/** By key. */
export interface WebCounts {
  readonly visitors: ReadonlyMap<string, VisitorCounts>;
  readonly pages: ReadonlyMap<string, ViewRow>;
  readonly hours: ReadonlyMap<string, ViewRow>;
}

/** A line that could not be used. */
export interface DeadLine {
  readonly file: string;
  readonly line: number;
  readonly reason: string;
  readonly text: string;
}

export interface WebSummary {
  readonly totals: Pick<
    ViewRow,
    "requests" | "views" | "errors" | "robots" | "orders" | "cents" | "bytes"
  > & {
    readonly visitors: number;
  };
  readonly sessions: {
    readonly begun: number;
    readonly bought: number;
    readonly abandoned: number;
    readonly left: number;
    readonly active: number;
    /** Of those that are over, how many bought. */
    readonly conversion: number;
    readonly meanMinutes: number;
  };
  /** Those that were seen most, most first. */
  readonly pages: readonly ({ readonly page: string } & ViewRow)[];
  /** In their order; UTC. */
  readonly hours: readonly ({ readonly hour: string } & ViewRow)[];
  /** Those who bought for most, most first. */
  readonly visitors: readonly ({ readonly visitor: string } & VisitorCounts)[];
}

export interface WebReport extends WebSummary {
  readonly files: readonly string[];
  /** Lines that counted, malformed ones too. */
  readonly lines: number;
  readonly malformed: number;
  /** The last few of those. */
  readonly letters: readonly DeadLine[];
  /** Lines counted now and before, and how long now took. */
  readonly work: { readonly now: number; readonly before: number; readonly seconds: number };
  /** From a direct count of the same files: none, if all is right. Undefined if a file is not there any more. */
  readonly differences: readonly string[] | undefined;
}

const PAGES = 10;
const VISITORS = 5;
const HOURS_SHOWN = 24;

export function summaryOf({ visitors, pages, hours }: WebCounts): WebSummary {
  const people = [...visitors.values()].filter(({ robot }) => !robot);
  const of = (name: "sessions" | "left" | "abandoned" | "bought" | "active" | "lasted_ms"): number =>
    people.reduce((sum, row) => sum + row[name], 0);
  const all = (name: "requests" | "views" | "errors" | "robots" | "orders" | "cents" | "bytes"): number =>
    [...hours.values()].reduce((sum, row) => sum + row[name], 0);
  const [begun, bought, abandoned, left, active] = [
    of("sessions"),
    of("bought"),
    of("abandoned"),
    of("left"),
    of("active"),
  ];
  return {
    totals: {
      requests: all("requests"),
      views: all("views"),
      errors: all("errors"),
      robots: all("robots"),
      orders: all("orders"),
      cents: all("cents"),
      bytes: all("bytes"),
      visitors: people.length,
    },
    sessions: {
      begun,
      bought,
      abandoned,
      left,
      active,
      conversion: share(bought, begun - active),
      meanMinutes: share(of("lasted_ms") / 60_000, begun),
    },
    pages: [...pages]
      .map(([page, row]) => ({ page, ...row }))
      .sort((a, b) => b.views - a.views || b.requests - a.requests || (a.page < b.page ? -1 : 1)),
    hours: [...hours].map(([hour, row]) => ({ hour, ...row })).sort((a, b) => (a.hour < b.hour ? -1 : 1)),
    visitors: [...visitors]
      .map(([visitor, row]) => ({ visitor, ...row }))
      .sort((a, b) => b.cents - a.cents || b.views - a.views || (a.visitor < b.visitor ? -1 : 1))
      .slice(0, VISITORS),
  };
}

export function webText(report: WebReport): string {
  const { totals, sessions, pages, visitors, work } = report;
  return [
    `${count(report.lines)} lines of ${report.files.length === 1 ? report.files[0] : `${report.files.length} files`}:`,
    tableOf(
      ["requests", "page views", "visitors", "errors", "by robots", "bytes", "orders", "worth"],
      [
        [
          count(totals.requests),
          count(totals.views),
          count(totals.visitors),
          count(totals.errors),
          count(totals.robots),
          count(totals.bytes),
          count(totals.orders),
          money(totals.cents),
        ],
      ],
    ),
    "Sessions, over after a pause of 30 minutes:",
    tableOf(
      ["begun", "ordered", "cart abandoned", "left without one", "not over", "conversion", "mean length"],
      [
        [
          count(sessions.begun),
          count(sessions.bought),
          count(sessions.abandoned),
          count(sessions.left),
          count(sessions.active),
          percent(sessions.conversion),
          `${sessions.meanMinutes.toFixed(1)} min`,
        ],
      ],
    ),
    "The pages that were seen most:",
    tableOf(
      ["page", "views", "visitors", "errors", "bytes", "orders", "worth"],
      pages
        .slice(0, PAGES)
        .map((row) => [
          shortened(row.page, 34),
          count(row.views),
          `${row.exact ? "" : "about "}${count(row.visitors)}`,
          count(row.errors),
          count(row.bytes),
          row.orders === 0 ? "" : count(row.orders),
          row.orders === 0 ? "" : money(row.cents),
        ]),
    ),
    hoursText(report),
    "Who bought for most:",
    tableOf(
      ["visitor", "sessions", "views", "carts abandoned", "orders", "worth"],
      visitors.map((row) => [
        shortened(row.visitor, 30),
        count(row.sessions),
        count(row.views),
        count(row.abandoned),
        count(row.orders),
        money(row.cents),
      ]),
    ),
    ...lettersText(report),
    workText(work),
    checkText(report.differences),
  ].join("\n");
}

/** Each hour, or each of a day if there are many. */
function hoursText({ hours }: WebReport): string {
  const each = hours.length <= HOURS_SHOWN;
  const rows = new Map<string, { views: number; visitors: number; orders: number; cents: number }>();
  for (const { hour, views, visitors, orders, cents } of hours) {
    const name = each ? hour.replace("T", " ") : hour.slice(-2);
    const row = rows.get(name) ?? { views: 0, visitors: 0, orders: 0, cents: 0 };
    rows.set(name, {
      views: row.views + views,
      visitors: row.visitors + visitors,
      orders: row.orders + orders,
      cents: row.cents + cents,
    });
  }
  const most = Math.max(1, ...[...rows.values()].map(({ views }) => views));
  const days = new Set(hours.map(({ hour }) => hour.slice(0, 10))).size;
  return [
    each ? "By hour (UTC):" : `By hour of the day (UTC), over ${days} days:`,
    tableOf(
      ["hour", "views", "visitors", "orders", "worth", ""],
      [...rows]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, { views, visitors, orders, cents }]) => [
          name,
          count(views),
          count(visitors),
          count(orders),
          money(cents),
          bar(views / most),
        ]),
    ),
  ].join("\n");
}

function lettersText({ malformed, letters }: WebReport): string[] {
  if (malformed === 0) return [];
  return [
    `Lines that are none, kept as dead letters: ${count(malformed)}${letters.length < malformed ? "; the last" : ""}:`,
    tableOf(
      ["line", "why", "how it begins"],
      letters.map(({ line, reason, text }) => [count(line), shortened(reason, 40), shortened(text, 40)]),
    ),
  ];
}

function workText({ now, before, seconds }: WebReport["work"]): string {
  if (now === 0) return `All ${count(before)} lines had been counted before.`;
  return `${count(now)} lines in ${seconds.toFixed(1)} s, ${count(Math.round(now / seconds))} a second; ${count(before)} had been counted before.`;
}

export function checkText(differences: readonly string[] | undefined): string {
  if (differences === undefined) return "It was not checked: a file that was counted is not there any more.";
  if (differences.length === 0) return "A direct count of the same file says the same.";
  return [
    `A DIRECT COUNT SAYS SOMETHING ELSE, ${differences.length} times:`,
    ...differences.slice(0, 10).map((text) => `  ${text}`),
  ].join("\n");
}
