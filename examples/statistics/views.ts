/**
 * What becomes of the visitors' lines: a view by page and one by hour, each key of them an actor.
 *
 * An hour is a key and not a window of one: windows close, and a log that is replayed comes a thousand times faster than
 * it was written, and every visitor's actor at its own speed. An hour that is a key takes what belongs to it whenever that
 * comes, so the figures are exact.
 */
import { count, defineView, distinct, max, sum } from "keyturn/streams";
import { hourOf } from "./common-log.ts";
import { type HitFact, visitor } from "./visitor.ts";

const isView = ({ kind }: HitFact): boolean => kind === "view";
const isError = ({ status }: HitFact): boolean => status >= 400;
const isRobot = ({ kind }: HitFact): boolean => kind === "robot";
const isOrder = ({ kind }: HitFact): boolean => kind === "order";

/** Exact up to so many visitors of one page or hour, above it within 2.3 %. */
const EXACT = 1_000;

const aggregate = {
  requests: count(),
  views: count(isView),
  errors: count(isError),
  robots: count(isRobot),
  orders: count(isOrder),
  cents: sum("cents"),
  bytes: sum("bytes"),
  visitors: distinct((event: HitFact, by: { key: string }) => (isRobot(event) ? undefined : by.key), {
    exact: EXACT,
  }),
  latest: max("at"),
};

/** By path; pictures, styles and scripts are one. */
export const pages = defineView("page", {
  over: visitor,
  on: "hit",
  key: ({ page }) => page,
  aggregate,
});

/** By hour of the log, in UTC. */
export const hours = defineView("hour", {
  over: visitor,
  on: "hit",
  key: ({ at }) => hourOf(at),
  aggregate,
});
