/**
 * A TCP proxy between one process and NATS, for faults of the network.
 *
 * Owns one listener for each server behind it, and every connection through it. Talks to sockets only.
 *
 * Invariants:
 * 1. What arrives has the order in which it was sent, whatever is done to it meanwhile: to the two ends it is TCP.
 * 2. During a cut nothing passes in that direction: no byte, no new connection, no end of one. What was held comes late
 *    when the cut is healed, as TCP's own repetitions do, or else has vanished, and then the connection is reset.
 * 3. What it holds is bounded; beyond it the sender is not read from, so it feels a full network.
 */
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

/** `up` is from the process to the server, `down` from the server to the process. */
export type Direction = "up" | "down";

/** What becomes of bytes that were on their way when a cut is healed. */
export type AfterCut = "late" | "reset";

interface Lane {
  cut: boolean;
  delay_ms: number;
  /** Up to so much is added to the delay of each chunk. */
  jitter_ms: number;
  /** Infinite without a throttle. */
  bytesPerSecond: number;
  /** From when on the throttle lets something pass again. */
  free_ms: number;
}

interface Chunk {
  readonly due_ms: number;
  /** Without bytes: the end of the connection. */
  readonly bytes: Buffer | undefined;
}

/** Held for one connection and direction before its sender is read from no more. */
const HELD_BYTES = 1024 * 1024;
/** Throttled bytes pass in pieces of this size. */
const PIECE_BYTES = 4096;
const DIRECTIONS: readonly Direction[] = ["up", "down"];

export class TcpProxy {
  /** Where the process connects to, one for each server, `host:port`. */
  readonly addresses: readonly string[];
  readonly #servers: readonly Server[];
  readonly #links = new Set<Link>();
  readonly #lanes: Readonly<Record<Direction, Lane>> = { up: openLane(), down: openLane() };

  private constructor(servers: readonly Server[]) {
    this.#servers = servers;
    this.addresses = servers.map((server) => `127.0.0.1:${(server.address() as AddressInfo).port}`);
  }

  /** @param ports of the servers behind it, on this machine */
  static async start(ports: readonly number[]): Promise<TcpProxy> {
    const servers = await Promise.all(
      ports.map(
        (port) =>
          new Promise<Server>((resolve, reject) => {
            // Half open: the two directions of a connection end by themselves.
            const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
              proxy.#accept(socket, port),
            );
            server.once("error", reject);
            server.listen(0, "127.0.0.1", () => resolve(server));
          }),
      ),
    );
    const proxy = new TcpProxy(servers);
    return proxy;
  }

  get connections(): number {
    return this.#links.size;
  }

  /** Nothing passes any more, in one direction or in both. */
  cut(directions: readonly Direction[] = DIRECTIONS): void {
    for (const direction of directions) this.#lanes[direction].cut = true;
  }

  /** Each chunk arrives later by so much, and by up to `jitter_ms` more. */
  delay(delay_ms: number, jitter_ms = 0): void {
    for (const direction of DIRECTIONS) Object.assign(this.#lanes[direction], { delay_ms, jitter_ms });
  }

  throttle(direction: Direction, bytesPerSecond: number): void {
    this.#lanes[direction].bytesPerSecond = bytesPerSecond;
  }

  /** Resets every connection, as when a machine between the two ends has forgotten them. */
  reset(): void {
    for (const link of [...this.#links]) link.reset();
  }

  /** Everything passes as it comes. */
  heal(after: AfterCut = "late"): void {
    if (after === "reset") for (const link of [...this.#links]) if (link.holding) link.reset();
    for (const direction of DIRECTIONS) Object.assign(this.#lanes[direction], openLane());
    for (const link of [...this.#links]) link.wake();
  }

  async close(): Promise<void> {
    this.reset();
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }

  #accept(client: Socket, port: number): void {
    const link = new Link(client, port, this.#lanes, () => this.#links.delete(link));
    this.#links.add(link);
  }
}

function openLane(): Lane {
  return { cut: false, delay_ms: 0, jitter_ms: 0, bytesPerSecond: Number.POSITIVE_INFINITY, free_ms: 0 };
}

/** One connection of the process, and the one to the server that belongs to it. */
class Link {
  readonly #client: Socket;
  readonly #port: number;
  readonly #lanes: Readonly<Record<Direction, Lane>>;
  readonly #onEnd: () => void;
  #server: Socket | undefined;
  #pipes: readonly Pipe[] = [];
  #ended = false;

  constructor(client: Socket, port: number, lanes: Readonly<Record<Direction, Lane>>, onEnd: () => void) {
    this.#client = client;
    this.#port = port;
    this.#lanes = lanes;
    this.#onEnd = onEnd;
    client.on("error", () => undefined);
    client.on("close", () => this.#closed());
    this.wake();
  }

  /** Whether something waits for the end of a cut. */
  get holding(): boolean {
    return this.#server === undefined || this.#pipes.some((pipe) => pipe.holding);
  }

  /** Looks again whether something may pass. */
  wake(): void {
    if (this.#ended) return;
    if (this.#server === undefined && !this.#lanes.up.cut) this.#dial();
    for (const pipe of this.#pipes) pipe.pump();
  }

  reset(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const pipe of this.#pipes) pipe.end();
    this.#client.resetAndDestroy();
    this.#server?.resetAndDestroy();
    this.#onEnd();
  }

  #dial(): void {
    const server = dial({ port: this.#port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    this.#server = server;
    // A server that is not there resets, and so does this.
    server.on("error", () => undefined);
    server.on("close", () => this.#closed());
    server.once("connect", () => {
      if (this.#ended) return;
      this.#pipes = [
        new Pipe(this.#client, server, this.#lanes.up),
        new Pipe(server, this.#client, this.#lanes.down),
      ];
    });
  }

  /** One end is gone altogether. The other learns it when what was sent before has passed, and never in a cut. */
  #closed(): void {
    if (this.#ended) return;
    if (this.#pipes.length === 0 || this.#pipes.every((pipe) => pipe.done)) this.reset();
    else for (const pipe of this.#pipes) pipe.onDone = () => this.#closed();
  }
}

/** One direction of one connection. */
class Pipe {
  /** Called when the end has passed. */
  onDone: () => void = () => undefined;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #lane: Lane;
  readonly #chunks: Chunk[] = [];
  #held = 0;
  #timer: NodeJS.Timeout | undefined;
  #blocked = false;
  #done = false;

  constructor(from: Socket, to: Socket, lane: Lane) {
    this.#from = from;
    this.#to = to;
    this.#lane = lane;
    from.on("data", (bytes: Buffer) => this.#take(bytes));
    // Ended in order, or gone: either way nothing more comes from there.
    from.once("end", () => this.#take(undefined));
    from.once("close", () => this.#take(undefined));
    to.on("drain", () => {
      this.#blocked = false;
      this.pump();
    });
    to.once("close", () => this.end());
  }

  get holding(): boolean {
    return this.#chunks.length > 0 && this.#lane.cut;
  }

  get done(): boolean {
    return this.#done;
  }

  end(): void {
    if (this.#done) return;
    this.#done = true;
    clearTimeout(this.#timer);
    this.#chunks.length = 0;
    this.onDone();
  }

  /** Passes on what may pass now, and comes back for the rest. */
  pump(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (!this.#done && !this.#blocked && !this.#lane.cut) {
      const next = this.#chunks[0];
      if (next === undefined) break;
      const { bytesPerSecond, free_ms } = this.#lane;
      const wait_ms =
        Math.max(next.due_ms, Number.isFinite(bytesPerSecond) ? free_ms : 0) - performance.now();
      if (wait_ms > 0) {
        this.#timer = setTimeout(() => this.pump(), wait_ms);
        break;
      }
      this.#pass(next);
    }
    if (this.#held < HELD_BYTES && this.#from.isPaused() && !this.#from.destroyed) this.#from.resume();
  }

  #pass({ bytes, due_ms }: Chunk): void {
    if (bytes === undefined) {
      this.#to.end();
      this.end();
      return;
    }
    const { bytesPerSecond } = this.#lane;
    let piece = bytes;
    if (Number.isFinite(bytesPerSecond)) {
      piece = bytes.subarray(0, PIECE_BYTES);
      const now_ms = performance.now();
      this.#lane.free_ms = Math.max(now_ms, this.#lane.free_ms) + (piece.length / bytesPerSecond) * 1_000;
    }
    if (piece.length < bytes.length) this.#chunks[0] = { bytes: bytes.subarray(piece.length), due_ms };
    else this.#chunks.shift();
    this.#held -= piece.length;
    this.#blocked = !this.#to.write(piece);
  }

  #take(bytes: Buffer | undefined): void {
    const last = this.#chunks.at(-1);
    const ending = last !== undefined && last.bytes === undefined;
    if (this.#done || ending) return;
    const { delay_ms, jitter_ms } = this.#lane;
    const wanted_ms = performance.now() + delay_ms + Math.random() * jitter_ms;
    // Never before what was sent before.
    const due_ms = Math.max(wanted_ms, last?.due_ms ?? 0);
    this.#chunks.push({ bytes, due_ms });
    this.#held += bytes?.length ?? 0;
    if (this.#held >= HELD_BYTES) this.#from.pause();
    this.pump();
  }
}
