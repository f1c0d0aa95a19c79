/** HTTP servers of tests, on nodes that keep everything in memory, and how they are asked. */
import { connect as connectTo, type Socket } from "node:net";
import { type AnyActorDefinition, type KeyturnNode, memory, startNode } from "keyturn";
import { type HttpOptions, type HttpServer, serveHttp } from "keyturn/http";
import { expect, onTestFinished } from "vitest";

/** Closes it after the test, before what was begun earlier. */
export function afterwards(close: () => Promise<unknown>): void {
  onTestFinished(async () => {
    await close();
  });
}

export interface Served {
  readonly node: KeyturnNode;
  readonly server: HttpServer;
  /** Faults that the server told its operator. */
  readonly faults: unknown[];
  /** Asks the server; a body that is no text is sent as JSON. */
  call(method: string, path: string, options?: Call): Promise<Answer>;
}

export interface Call {
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** The body, read as JSON if it is. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers
  readonly body: any;
}

/** A node with these actors, and a server in front of it. */
export async function served(
  actors: readonly AnyActorDefinition[],
  options: HttpOptions = {},
  shards = 8,
): Promise<Served> {
  const node = await startNode({ actors, store: memory(), shards, observer: { troubled: () => undefined } });
  afterwards(() => node.stop());
  const faults: unknown[] = [];
  const server = await serveHttp(node, {
    listen: "127.0.0.1:0",
    onFault: (fault) => faults.push(fault),
    ...options,
  });
  afterwards(() => server.close());
  return { node, server, faults, call: (method, path, call) => ask(server.url, method, path, call) };
}

export async function ask(
  url: string,
  method: string,
  path: string,
  { body, headers }: Call = {},
): Promise<Answer> {
  const response = await fetch(url + path, {
    method,
    headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
    ...(body === undefined
      ? {}
      : { body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body) }),
  } as RequestInit);
  const text = await response.text();
  const isJson = /json/.test(response.headers.get("content-type") ?? "");
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}

/** Expects a problem document with that code. */
export function expectProblem(answer: Answer, status: number, code: string): void {
  expect(answer.headers.get("content-type")).toMatch(/^application\/problem\+json/);
  expect(answer.body).toMatchObject({
    type: `urn:keyturn:error:${code}`,
    status,
    code,
    detail: expect.any(String),
    retryable: expect.any(Boolean),
    outcome: expect.stringMatching(/^(applied|rejected|notApplied|unknown)$/),
  });
  expect(answer.status).toBe(status);
}

export interface Sse {
  readonly id?: string;
  readonly event?: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into events
  readonly data?: any;
}

/** A stream of server-sent events that is read. */
export class Listener {
  readonly response: Response;
  readonly #events: AsyncGenerator<Sse>;
  readonly #abort: AbortController;
  /** The last id that was told. */
  lastId: string | undefined;

  private constructor(response: Response, abort: AbortController) {
    this.response = response;
    this.#abort = abort;
    this.#events = this.#read();
  }

  /** @param body is posted as JSON, if there is one */
  static async open(
    url: string,
    path: string,
    headers: Record<string, string> = {},
    body?: object,
  ): Promise<Listener> {
    const abort = new AbortController();
    afterwards(async () => abort.abort());
    const posted =
      body === undefined
        ? { headers }
        : {
            method: "POST",
            headers: { ...headers, "content-type": "application/json" },
            body: JSON.stringify(body),
          };
    return new Listener(await fetch(url + path, { ...posted, signal: abort.signal }), abort);
  }

  /** The next event that has data; undefined at the end. */
  async next(): Promise<Sse | undefined> {
    for (;;) {
      const { value, done } = await this.#events.next();
      if (done === true) return undefined;
      if (value.id !== undefined) this.lastId = value.id;
      if (value.data !== undefined) return value;
    }
  }

  /** Waits until an id was told. */
  async id(): Promise<string> {
    while (this.lastId === undefined) {
      const { value } = await this.#events.next();
      expect(value?.data).toBeUndefined();
      this.lastId = value?.id;
    }
    return this.lastId;
  }

  leave(): void {
    this.#abort.abort();
  }

  async *#read(): AsyncGenerator<Sse> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.response.body as unknown as AsyncIterable<Uint8Array>) {
      rest += decoder.decode(chunk, { stream: true });
      const blocks = rest.split("\n\n");
      rest = blocks.pop() as string;
      for (const block of blocks) {
        const event = eventIn(block);
        if (event !== undefined) yield event;
      }
    }
  }
}

function eventIn(block: string): Sse | undefined {
  const fields = new Map(
    block.split("\n").map((line) => {
      const colon = line.indexOf(": ");
      return [line.slice(0, colon), line.slice(colon + 2)] as const;
    }),
  );
  const [id, event, data] = [fields.get("id"), fields.get("event"), fields.get("data")];
  if (id === undefined && data === undefined) return undefined;
  return {
    ...(id === undefined ? {} : { id }),
    ...(event === undefined ? {} : { event }),
    ...(data === undefined ? {} : { data: JSON.parse(data) }),
  };
}

/** A connection to the server on which a test writes what it wants. */
export class RawConnection {
  readonly socket: Socket;
  #text = "";
  readonly #closed: Promise<void>;
  #waiting: (() => void) | undefined;

  constructor({ port }: HttpServer) {
    this.socket = connectTo({ host: "127.0.0.1", port });
    this.socket.setEncoding("latin1");
    this.socket.on("data", (text: string) => {
      this.#text += text;
      this.#waiting?.();
    });
    this.socket.on("error", () => undefined);
    this.#closed = new Promise((resolve) => this.socket.once("close", () => resolve()));
    void this.#closed.then(() => this.#waiting?.());
    afterwards(async () => this.socket.destroy());
  }

  write(text: string | Uint8Array): void {
    this.socket.write(text);
  }

  /** What was answered until the server closed the connection. */
  async ended(): Promise<string> {
    await this.#closed;
    return this.#text;
  }

  /** What was answered so far, once it fits. */
  async until(fits: RegExp): Promise<string> {
    while (!fits.test(this.#text)) {
      expect(this.socket.closed, `closed after ${this.#text}`).toBe(false);
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    }
    return this.#text;
  }
}
