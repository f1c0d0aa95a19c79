/**
 * Streams to readers of any speed: server-sent events, and WebSockets that only tell (sockets.ts).
 *
 * Owns how many are open, their heartbeat and their end. Talks to the response or the socket of each.
 *
 * Invariants:
 * 1. A stream holds at most one event that its connection has not taken: `send` resolves when there is room for the
 *    next one, and until then whoever sends reads nothing more, so what comes meanwhile is dropped for the newest.
 * 2. A reader who takes nothing for `slowReader_ms` is cut off.
 * 3. When a stream is over its signal is aborted, once, whoever ended it.
 */
import type { ServerResponse } from "node:http";
import type { HttpLimits } from "./options.ts";
import { Refusal } from "./problem.ts";
import { type Socket, SocketStream } from "./sockets.ts";

/** How soon a browser comes back, milliseconds. */
const RETRY_MS = 2_000;

export interface ServerSentEvent {
  readonly id?: string | undefined;
  readonly event?: string;
  /** One line, such as JSON is. Without it only the id is told. */
  readonly data?: string;
}

/** What is kept alive until it is over. */
export interface OpenStream {
  /** Aborted when it is over. */
  readonly signal: AbortSignal;
  /** Tells the reader that the stream lives; ends it when its time is over. */
  beat(): void;
  end(): void;
}

export class Streams {
  readonly #limits: HttpLimits;
  readonly #open = new Set<OpenStream>();
  readonly #perCaller = new Map<string, number>();
  #reserved = 0;
  #heartbeat: NodeJS.Timeout | undefined;

  constructor(limits: HttpLimits) {
    this.#limits = limits;
  }

  get count(): number {
    return this.#reserved;
  }

  /**
   * Takes a place for a stream, before anything is done for it; call the result to give it back.
   * @throws Refusal 429, 503
   */
  reserve(caller: string): () => void {
    const { streams, streamsPerCaller } = this.#limits;
    const mine = this.#perCaller.get(caller) ?? 0;
    const later = { "retry-after": "5" };
    if (mine >= streamsPerCaller)
      throw new Refusal(429, "overloaded", `One caller may have ${streamsPerCaller} streams open.`, later);
    if (this.#reserved >= streams)
      throw new Refusal(503, "overloaded", `This server has ${streams} streams open, its limit.`, later);
    this.#perCaller.set(caller, mine + 1);
    this.#reserved++;
    let isMine = true;
    return () => {
      if (!isMine) return;
      isMine = false;
      this.#reserved--;
      const left = (this.#perCaller.get(caller) ?? 1) - 1;
      if (left === 0) this.#perCaller.delete(caller);
      else this.#perCaller.set(caller, left);
    };
  }

  /**
   * Begins a stream on a response whose head is not written.
   * @param until_ms when it is over at the latest, milliseconds since the epoch
   */
  open(
    response: ServerResponse,
    headers: Readonly<Record<string, number | string | string[] | undefined>>,
    until_ms: number,
  ): EventStream {
    for (const [name, value] of Object.entries(headers)) {
      if (value !== undefined) response.setHeader(name, value);
    }
    // Nobody asks on it again.
    response.shouldKeepAlive = false;
    response.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "private, no-cache, no-transform",
      // Proxies that gather answers would hold events back.
      "x-accel-buffering": "no",
    });
    const stream = new EventStream(response, this.#limits.slowReader_ms, until_ms);
    response.write(`retry: ${RETRY_MS}\n\n`);
    this.#keep(stream);
    return stream;
  }

  /** Keeps a WebSocket that is open. @param until_ms as above */
  openSocket(socket: Socket, until_ms: number): SocketStream {
    const stream = new SocketStream(socket, this.#limits.slowReader_ms, until_ms);
    this.#keep(stream);
    return stream;
  }

  #keep(stream: OpenStream): void {
    if (stream.signal.aborted) return;
    this.#open.add(stream);
    stream.signal.addEventListener("abort", () => {
      this.#open.delete(stream);
      if (this.#open.size > 0) return;
      clearInterval(this.#heartbeat);
      this.#heartbeat = undefined;
    });
    this.#heartbeat ??= setInterval(() => {
      for (const one of this.#open) one.beat();
    }, this.#limits.heartbeat_ms);
  }

  /** Ends all streams; their readers may come back, to somebody else. */
  close(): void {
    for (const stream of [...this.#open]) stream.end();
  }
}

/** One stream of server-sent events to one reader. */
export class EventStream implements OpenStream {
  readonly #response: ServerResponse;
  readonly #slow_ms: number;
  readonly #until_ms: number;
  readonly #over = new AbortController();
  #taken: (() => void) | undefined;

  constructor(response: ServerResponse, slow_ms: number, until_ms: number) {
    this.#response = response;
    this.#slow_ms = slow_ms;
    this.#until_ms = until_ms;
    response.once("close", () => this.#ended());
    response.on("drain", () => this.#taken?.());
    response.on("error", () => this.#ended());
    if (response.destroyed || response.socket?.destroyed === true) this.#ended();
  }

  /** Aborted when the stream is over. */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** Sends an event; resolves when there is room for another one, or when the stream is over. One at a time. */
  async send({ id, event, data }: ServerSentEvent): Promise<void> {
    if (this.signal.aborted) return;
    let text = id === undefined ? "" : `id: ${id}\n`;
    if (event !== undefined) text += `event: ${event}\n`;
    if (data !== undefined) text += `data: ${data}\n`;
    if (this.#response.write(`${text}\n`)) return;
    await new Promise<void>((resolve) => {
      const slow = setTimeout(() => this.#cutOff(), this.#slow_ms);
      this.#taken = () => {
        clearTimeout(slow);
        this.#taken = undefined;
        resolve();
      };
    });
  }

  /** Tells the reader, and whatever is between, that the stream lives; ends it when its time is over. */
  beat(): void {
    if (Date.now() >= this.#until_ms) this.end();
    else if (this.#taken === undefined) this.#response.write(":\n\n");
  }

  end(): void {
    if (this.signal.aborted) return;
    // What was not taken yet is not waited for: whoever comes back is told the newest.
    if (this.#taken === undefined) this.#response.end();
    else this.#response.destroy();
    this.#ended();
  }

  #cutOff(): void {
    this.#response.destroy();
    this.#ended();
  }

  #ended(): void {
    this.#taken?.();
    if (!this.signal.aborted) this.#over.abort();
  }
}
