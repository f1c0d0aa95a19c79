/**
 * One WebSocket that only tells, to a reader of any speed.
 *
 * Owns its end. Like a stream of server-sent events (streams.ts, which keeps it): it holds at most one message that its
 * connection has not taken, cuts off who takes nothing for `slowReader_ms`, and is over when the token is. Who sends
 * anything is cut off too: nothing is listened to here.
 */
import type { OpenStream } from "./streams.ts";

/** As much of a `WebSocket` of the package ws as is used. */
export interface Socket {
  readonly readyState: number;
  readonly OPEN: number;
  send(text: string, taken: () => void): void;
  ping(): void;
  close(code: number, why: string): void;
  terminate(): void;
  on(event: "close" | "pong" | "message", heard: () => void): unknown;
  once(event: "close", heard: () => void): unknown;
}

/** Who does not answer the end of a connection in time loses it. */
const CLOSE_MS = 1_000;

const GOING_AWAY = 1_001;
const POLICY = 1_008;
const FAILED = 1_011;
/** Bytes of a close frame's text. */
const REASON_LENGTH = 120;

export class SocketStream implements OpenStream {
  readonly #socket: Socket;
  readonly #slow_ms: number;
  readonly #until_ms: number;
  readonly #over = new AbortController();
  #isAlive = true;

  constructor(socket: Socket, slow_ms: number, until_ms: number) {
    this.#socket = socket;
    this.#slow_ms = slow_ms;
    this.#until_ms = until_ms;
    socket.on("close", () => this.#over.abort());
    socket.on("pong", () => {
      this.#isAlive = true;
    });
    socket.on("message", () => this.#close(POLICY, "Nothing is taken here, it only tells."));
    if (socket.readyState !== socket.OPEN) this.#over.abort();
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** Sends a text; resolves when there is room for another one, or when the stream is over. One at a time. */
  async send(text: string): Promise<void> {
    if (this.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const slow = setTimeout(() => this.#socket.terminate(), this.#slow_ms);
      const taken = (): void => {
        clearTimeout(slow);
        this.signal.removeEventListener("abort", taken);
        resolve();
      };
      this.signal.addEventListener("abort", taken);
      this.#socket.send(text, taken);
    });
  }

  beat(): void {
    if (Date.now() >= this.#until_ms) this.#close(POLICY, "The token has expired.");
    else if (!this.#isAlive) this.#socket.terminate();
    else {
      this.#isAlive = false;
      this.#socket.ping();
    }
  }

  end(): void {
    this.#close(GOING_AWAY, "");
  }

  /** Ends it, saying why. */
  fail(why: string): void {
    this.#close(FAILED, why);
  }

  #close(code: number, why: string): void {
    if (this.signal.aborted) return;
    this.#over.abort();
    this.#socket.close(
      code,
      Buffer.from(why)
        .subarray(0, REASON_LENGTH)
        .toString()
        .replace(/\uFFFD$/, ""),
    );
    const cut = setTimeout(() => this.#socket.terminate(), CLOSE_MS);
    this.#socket.once("close", () => clearTimeout(cut));
  }
}
