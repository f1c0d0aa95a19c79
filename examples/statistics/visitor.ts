/**
 * A visitor of a web site, and the sessions that a log's lines make: browsing, a cart, an order, and an end after a pause.
 *
 *     new ──▶ active.browsing ──▶ active.cart ──▶ active.ordered        on lines of the log
 *                   │                 │                 │               after a pause of 30 minutes
 *                   ▼                 ▼                 ▼
 *              over.left        over.abandoned     over.bought ──▶ active.browsing: the next session
 *
 * **What times a session out.** The time that counts is the log's. A line that comes after the pause ends the session
 * before it, in the same turn. For visitors who never come again there are two more: a durable timer, which fires half an
 * hour after the last line was *read*, so at the right moment where a log is followed as it is written; and `clock`, which
 * whoever has read a log to its end sends with the log's last time.
 *
 * A timer can be wrong where a log is read faster or slower than it was written: the reader was stopped in the middle,
 * say, and went on the next day. Then the next line of that session takes the end back, to the state that it was in. So what the lines and the last `clock` come to does not depend on when timers fired.
 *
 * Each line is emitted as a fact, `hit`, for the views in views.ts.
 */
import { defineActor } from "keyturn";
import { assign, emit, raise, setup } from "xstate";
import type { Hit } from "./common-log.ts";

/** A pause as long as this ends a session. */
export const PAUSE_MS = 30 * 60_000;

type Line = Omit<Hit, "visitor" | "kind">;

export type VisitorEvent =
  | ({ type: "hit.view" | "hit.cart" | "hit.order" | "hit.other" | "hit.robot" } & Line)
  /** The log has come to this time, milliseconds since the epoch, and everything before it was told. */
  | { type: "clock"; at: number };

/** What is emitted of each line. */
export interface HitFact extends Line {
  readonly type: "hit";
  readonly kind: Hit["kind"];
}

export interface VisitorContext {
  /** Sessions that began; each is over in one of three ways, or still active. */
  readonly sessions: number;
  readonly left: number;
  readonly abandoned: number;
  readonly bought: number;
  readonly hits: number;
  readonly views: number;
  readonly orders: number;
  readonly cents: number;
  /** How long its sessions were, in all, from the first to the last line of each. */
  readonly lasted_ms: number;
  /** Time of its latest line, and when its session is over if nothing comes; milliseconds since the epoch. */
  readonly last: number;
  readonly deadline: number;
}

const nobody: VisitorContext = {
  sessions: 0,
  left: 0,
  abandoned: 0,
  bought: 0,
  hits: 0,
  views: 0,
  orders: 0,
  cents: 0,
  lasted_ms: 0,
  last: 0,
  deadline: 0,
};

const visitorSetup = setup({
  types: { context: {} as VisitorContext, events: {} as VisitorEvent, emitted: {} as HitFact },
  guards: {
    isOver: ({ context, event }) => "at" in event && event.at >= context.deadline,
    isWithin: ({ context, event }) => "at" in event && event.at < context.deadline,
  },
  actions: {
    begin: assign(({ context, event }) => ({
      sessions: context.sessions + 1,
      ...("at" in event ? { last: event.at, deadline: event.at + PAUSE_MS } : {}),
    })),
    count: assign(({ context, event }) => ("status" in event ? counted(context, event) : {})),
    tell: emit(({ event }): HitFact => {
      const { type, ...line } = event as Exclude<VisitorEvent, { type: "clock" }>;
      return { ...line, type: "hit", kind: type.slice("hit.".length) as Hit["kind"] };
    }),
    /** The same line again, in the state that was entered. */
    again: raise(({ event }) => event),
    addLeft: assign({ left: ({ context }) => context.left + 1 }),
    takeLeft: assign({ left: ({ context }) => context.left - 1 }),
    addAbandoned: assign({ abandoned: ({ context }) => context.abandoned + 1 }),
    takeAbandoned: assign({ abandoned: ({ context }) => context.abandoned - 1 }),
    addBought: assign({ bought: ({ context }) => context.bought + 1 }),
    takeBought: assign({ bought: ({ context }) => context.bought - 1 }),
  },
  delays: { pause: PAUSE_MS },
});

/** A line of the session: every one sets the pause's timer anew. */
const taken = (target: "browsing" | "cart" | "ordered") =>
  ({
    guard: "isWithin",
    target: `#visitor.active.${target}`,
    reenter: true,
    actions: ["count", "tell"],
  }) as const;

/** The line that shows that the session before it is over. */
const ending = (over: "left" | "abandoned" | "bought") =>
  ({ guard: "isOver", target: `#visitor.over.${over}`, actions: "again" }) as const;

/** The log, or the clock, has gone on without a line. */
const timedOut = (over: "left" | "abandoned" | "bought") =>
  ({ guard: "isOver", target: `#visitor.over.${over}` }) as const;

const nextSession = {
  guard: "isOver",
  target: "#visitor.active.browsing",
  actions: ["begin", "again"],
} as const;

export const visitor = defineActor({
  type: "visitor",
  machine: visitorSetup.createMachine({
    id: "visitor",
    context: nobody,
    initial: "new",
    on: { clock: {} },
    states: {
      new: {
        on: {
          "hit.robot": { target: "robot", actions: ["count", "tell"] },
          "hit.*": { target: "active.browsing", actions: ["begin", "again"] },
        },
      },
      /** Robots have no sessions. */
      robot: { on: { "hit.*": { actions: ["count", "tell"] } } },
      active: {
        states: {
          browsing: {
            on: {
              "hit.cart": taken("cart"),
              "hit.order": taken("ordered"),
              "hit.*": [taken("browsing"), ending("left")],
              clock: timedOut("left"),
            },
            after: { pause: "#visitor.over.left" },
          },
          cart: {
            on: {
              "hit.order": taken("ordered"),
              "hit.*": [taken("cart"), ending("abandoned")],
              clock: timedOut("abandoned"),
            },
            after: { pause: "#visitor.over.abandoned" },
          },
          ordered: {
            on: { "hit.*": [taken("ordered"), ending("bought")], clock: timedOut("bought") },
            after: { pause: "#visitor.over.bought" },
          },
        },
        initial: "browsing",
      },
      /** A line that is still within the session takes its end back. */
      over: {
        initial: "left",
        states: {
          left: {
            entry: "addLeft",
            on: {
              "hit.*": [nextSession, { target: "#visitor.active.browsing", actions: ["takeLeft", "again"] }],
            },
          },
          abandoned: {
            entry: "addAbandoned",
            on: {
              "hit.*": [nextSession, { target: "#visitor.active.cart", actions: ["takeAbandoned", "again"] }],
            },
          },
          bought: {
            entry: "addBought",
            on: {
              "hit.*": [nextSession, { target: "#visitor.active.ordered", actions: ["takeBought", "again"] }],
            },
          },
        },
      },
    },
  }),
  index: [
    "sessions",
    "left",
    "abandoned",
    "bought",
    "hits",
    "views",
    "orders",
    "cents",
    "lasted_ms",
    "deadline",
  ],
});

function counted(
  context: VisitorContext,
  { type, at, cents }: Exclude<VisitorEvent, { type: "clock" }>,
): Partial<VisitorContext> {
  const last = Math.max(context.last, at);
  const isRobot = type === "hit.robot";
  return {
    hits: context.hits + 1,
    last,
    ...(type === "hit.view" ? { views: context.views + 1 } : {}),
    ...(type === "hit.order" ? { orders: context.orders + 1, cents: context.cents + cents } : {}),
    ...(isRobot ? {} : { lasted_ms: context.lasted_ms + (last - context.last), deadline: last + PAUSE_MS }),
  };
}
