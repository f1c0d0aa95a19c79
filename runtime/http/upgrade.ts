/**
 * Which requests become WebSockets.
 *
 * Owns the choice. Node takes every request with an `Upgrade` header out of HTTP once somebody listens for upgrades, and
 * some clients ask every plain server for HTTP/2 that way (`Upgrade: h2c`): those are to be answered as they always were.
 */
import { IncomingMessage } from "node:http";

const ASKED = Symbol("upgrade");

/** Node's own, that wants to be upgraded only to a WebSocket. */
export class Incoming extends IncomingMessage {
  declare [ASKED]: unknown;

  /** Set by Node's parser before the headers are there, read behind them. */
  get upgrade(): boolean {
    return this[ASKED] === true && this.headers.upgrade?.toLowerCase() === "websocket";
  }

  set upgrade(asked: unknown) {
    this[ASKED] = asked;
  }
}
