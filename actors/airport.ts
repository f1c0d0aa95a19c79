/**
 * An airport that sees its flights depart and arrive, and knows whether its day goes well.
 *
 * It counts, and it moves between three states with the delays that it sees: `quiet`, `busy`, `disrupted`. Every late
 * departure (15 minutes and more, as the US Bureau of Transportation Statistics counts) adds to the pressure, every
 * other one relieves it. Once nothing has departed late for `CALM_AFTER_MS`, a durable timer calms the airport down by
 * one state, whether or not a node runs at that time.
 *
 * Every message is applied once, however often it is sent, and at whatever moment the sender died: its place in the
 * source is kept with its effect. A message carries its own `position` and that of the one before it for the same
 * airport, `after`. So a message that came before is known, and one whose predecessor was lost is refused instead of
 * being taken for the next; its sender goes back to the one that was lost.
 */
import { defineActor, reply } from "keyturn";
import { and, assign, setup } from "xstate";
import { checked } from "./checked.ts";

/** Which message of the source this is, and which was the one before for this airport (-1 for the first). */
interface Place {
  readonly position: number;
  readonly after: number;
}

export type AirportEvent =
  /** A flight has left, `delay` whole minutes after its time (or before it, if below 0). */
  | ({ type: "departed"; delay: number } & Place)
  /** A flight has come in. */
  | ({ type: "arrived" } & Place);

export type AirportReply =
  | "applied"
  /** This message was applied before; nothing was changed. */
  | "alreadyApplied"
  /** The message before it is missing; nothing was changed. Send from there on again. */
  | "outOfOrder";

export interface AirportContext {
  readonly departures: number;
  readonly arrivals: number;
  /** Sum over all departures. */
  readonly delayMinutes: number;
  /** Grows with late departures, shrinks with others; from 0 to `PRESSURE_MAX`. */
  readonly pressure: number;
  /** Position of the last message that was applied, -1 before the first. */
  readonly position: number;
}

/** How long after the last late departure an airport calms down by one state. */
export const CALM_AFTER_MS = 12 * 60 * 60 * 1_000;

const LATE_MINUTES = 15;
const VERY_LATE_MINUTES = 60;
/** From here on an airport is busy, and from there on disrupted. Relief comes later than trouble: no flapping. */
const BUSY_FROM = 4;
const BUSY_UNTIL = 1;
const DISRUPTED_FROM = 9;
const DISRUPTED_UNTIL = 5;
const PRESSURE_MAX = 12;

const start: AirportContext = { departures: 0, arrivals: 0, delayMinutes: 0, pressure: 0, position: -1 };

const anyMessage = [
  { guard: "isNext", actions: ["count", "answerApplied"] },
  { guard: "isRepeated", actions: "answerRepeated" },
  { actions: "answerOutOfOrder" },
] as const;

/** An airport that counts its flights, and is `quiet`, `busy` or `disrupted` by the delays that it sees. */
export const airport = defineActor({
  type: "airport",
  machine: setup({
    types: { context: {} as AirportContext, events: {} as AirportEvent },
    guards: {
      isRepeated: ({ context, event }) => event.position <= context.position,
      isNext: ({ context, event }) => event.position > context.position && event.after === context.position,
      isLate: ({ event }) => event.type === "departed" && event.delay >= LATE_MINUTES,
      isTense: ({ context }) => context.pressure >= BUSY_FROM,
      isOverrun: ({ context }) => context.pressure >= DISRUPTED_FROM,
      isEased: ({ context }) => context.pressure <= DISRUPTED_UNTIL,
      isRelaxed: ({ context }) => context.pressure <= BUSY_UNTIL,
    },
    actions: {
      count: assign(({ context, event }) =>
        event.type === "departed"
          ? {
              position: event.position,
              departures: context.departures + 1,
              delayMinutes: context.delayMinutes + event.delay,
              pressure: pressureAfter(context.pressure, event.delay),
            }
          : { position: event.position, arrivals: context.arrivals + 1 },
      ),
      ease: assign({ pressure: DISRUPTED_UNTIL }),
      relax: assign({ pressure: 0 }),
      answerApplied: reply("applied" satisfies AirportReply),
      answerRepeated: reply("alreadyApplied" satisfies AirportReply),
      answerOutOfOrder: reply("outOfOrder" satisfies AirportReply),
    },
    delays: { calm: CALM_AFTER_MS },
  }).createMachine({
    id: "airport",
    context: start,
    on: { departed: anyMessage, arrived: anyMessage },
    initial: "quiet",
    states: {
      quiet: { always: { guard: "isTense", target: "busy" } },
      busy: {
        // A late departure enters the state anew, and so sets its timer anew.
        on: {
          departed: {
            guard: and(["isNext", "isLate"]),
            target: "busy",
            reenter: true,
            actions: ["count", "answerApplied"],
          },
        },
        always: [
          { guard: "isOverrun", target: "disrupted" },
          { guard: "isRelaxed", target: "quiet" },
        ],
        after: { calm: { target: "quiet", actions: "relax" } },
      },
      disrupted: {
        on: {
          departed: {
            guard: and(["isNext", "isLate"]),
            target: "disrupted",
            reenter: true,
            actions: ["count", "answerApplied"],
          },
        },
        always: { guard: "isEased", target: "busy" },
        after: { calm: { target: "busy", actions: "ease" } },
      },
    },
  }),
  events: checked((event: { type: string; position?: unknown; after?: unknown; delay?: unknown }) => {
    for (const name of ["position", "after"] as const) {
      if (!Number.isSafeInteger(event[name])) return [name, "is a whole number"];
    }
    return event.type !== "departed" || Number.isSafeInteger(event.delay)
      ? undefined
      : ["delay", "is a whole number of minutes"];
  }),
  types: {} as { replies: { departed: AirportReply; arrived: AirportReply } },
});

/** Mean delay of the departures, rounded to two decimals, halves up; 0 without departures. */
export function meanDelayMinutes({ departures, delayMinutes }: AirportContext): number {
  if (departures === 0) return 0;
  // A mean just below zero would round to -0.
  return Math.round((delayMinutes * 100) / departures) / 100 || 0;
}

function pressureAfter(pressure: number, delay: number): number {
  const weight = delay >= VERY_LATE_MINUTES ? 3 : delay >= LATE_MINUTES ? 2 : -1;
  return Math.min(PRESSURE_MAX, Math.max(0, pressure + weight));
}
