/**
 * Ready-made actors: `import { cell, counter } from "keyturn/actors"`.
 *
 * Each is an ordinary definition, made with what "keyturn" exports, and a model for your own.
 */
export {
  type AirportContext,
  type AirportEvent,
  type AirportReply,
  airport,
  CALM_AFTER_MS,
  meanDelayMinutes,
} from "./airport.ts";
export { type CellEvent, type CellReplies, cell, type Reading } from "./cell.ts";
export { type CounterEvent, type CounterReplies, counter } from "./counter.ts";
