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

/** A browser's WebSocket sends no headers of its page's choice: its token is in the address (RFC 6750, 2.3). */
export const TOKEN_PARAMETER = "access_token";

/** As the header has it. */
export function tokenInAddress(url: string | undefined): string | undefined {
  const at = url?.indexOf("?") ?? -1;
  if (url === undefined || at < 0) return undefined;
  const token = new URLSearchParams(url.slice(at + 1)).get(TOKEN_PARAMETER);
  return token === null ? undefined : `Bearer ${token}`;
}
