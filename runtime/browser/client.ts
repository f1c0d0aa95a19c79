/**
 * The client of a page: the actors of an app over HTTP, with the types of their definitions.
 *
 * Owns its connection: requests in order (calls.ts), one stream for all that is watched (watches.ts). Talks to a server
 * of `serveHttp`. Nothing here is of Node, and no machine is loaded.
 */
import type { ChangedActor, ChangesQuery } from "../client/changes.ts";
import type { Count, FindQuery, FoundActor, FoundPage } from "../client/find.ts";
import type { ActorDefinition, AnyActorDefinition } from "../engine/definition.ts";
import type { Machine } from "../engine/machine.ts";
import { fromJson, toJson } from "../http/json.ts";
import { checkType, encodeKey, parseAddress } from "../words/address.ts";
import { KeyturnError } from "../words/errors.ts";
import { Calls } from "./calls.ts";
import { follow } from "./changes.ts";
import { Http, type TokenSource } from "./http.ts";
import { type ReadOptions, Reads } from "./reads.ts";
import { BrowserRef, type Parts } from "./ref.ts";
import type { ActorType, MachineOf, RepliesOf } from "./types.ts";
import { Watches } from "./watches.ts";

export interface ClientOptions {
  /** Where the server is: `https://actors.example`, with a path if it has one. A page's own origin by default. */
  readonly url?: string | undefined;
  /** Who calls: a bearer token, or what gives one for each request; asked once more when one was refused. */
  readonly token?: TokenSource | undefined;
  /** Instead of the browser's own, for example to send cookies or headers along. */
  readonly fetch?: typeof fetch | undefined;
}

/** Which actors; as in Node, plus what ends the question. */
export type BrowserFindQuery = FindQuery & ReadOptions;

/** Which actors, as in Node. */
export type BrowserChangesQuery = Omit<ChangesQuery, "since" | "onMark" | "timeout_ms">;

/**
 * Makes a client. Nothing is sent until something is asked; so it may be made while a page is rendered on a server.
 * @throws KeyturnError `invalid_options`
 */
export function createClient(options: ClientOptions = {}): BrowserClient {
  return new BrowserClient(options);
}

/** Reaches every actor of an app from a page. Make one for the whole page. */
export class BrowserClient {
  readonly #http: Http;
  readonly #parts: Parts;
  /** Streams of changes that are read. */
  readonly #following = new Set<AbortController>();
  #isClosed = false;

  /** @internal */
  constructor({ url, token, fetch: fetcher }: ClientOptions) {
    const isToken = token === undefined || typeof token === "string" || typeof token === "function";
    if (!isToken || (fetcher !== undefined && typeof fetcher !== "function"))
      throw new KeyturnError(
        "invalid_options",
        'A client is made with createClient({ url: "https://…", token: () => "…" }).',
      );
    const http = new Http(url, token, fetcher);
    this.#http = http;
    this.#parts = { calls: new Calls(http), reads: new Reads(http), watches: new Watches(http) };
  }

  /**
   * A reference to an actor. It need not exist: it begins with its first message.
   * @throws KeyturnError `invalid_address`
   */
  actor<T extends string, M extends Machine, R extends object>(
    definition: ActorDefinition<T, M, R>,
    key: string,
  ): BrowserRef<M, R>;
  actor<D extends AnyActorDefinition>(
    type: ActorType<D>,
    key: string,
  ): BrowserRef<MachineOf<D>, RepliesOf<D>>;
  actor(address: string): BrowserRef;
  actor(target: string | { readonly type: string }, key?: string): BrowserRef {
    if (typeof target === "object" && target !== null && typeof key === "string")
      return this.#ref(target.type, key);
    if (typeof target !== "string" || key !== undefined)
      throw new KeyturnError(
        "invalid_address",
        'Name an actor by actor(definition, "key") or actor("type/key").',
      );
    const address = parseAddress(target);
    return this.#ref(address.type, address.key);
  }

  /**
   * The actors of a type that fit, in the order of their keys, read as they are asked for.
   * @throws KeyturnError
   */
  async *find(
    target: string | AnyActorDefinition | ActorType,
    query: BrowserFindQuery = {},
  ): AsyncGenerator<FoundActor> {
    const { limit = Number.POSITIVE_INFINITY } = query;
    let left = limit;
    let { after } = query;
    while (left > 0) {
      const page = await this.findPage(target, { ...query, after, limit: Math.min(left, 100) });
      yield* page.actors;
      left -= page.actors.length;
      after = page.next;
      if (after === undefined) return;
    }
  }

  /** The same a page at a time, 100 by default; `next` of one page is `after` of the next. @throws KeyturnError */
  async findPage(
    target: string | AnyActorDefinition | ActorType,
    query: BrowserFindQuery = {},
  ): Promise<FoundPage> {
    const { limit = 100, after } = query;
    const asked = {
      ...filterOf(query),
      limit: String(limit),
      ...(after === undefined ? {} : { cursor: after }),
    };
    const path = `/actors/${typeIn(target)}?${new URLSearchParams(asked)}`;
    const page = fromJson(await this.#parts.reads.get(path, query), "page") as Partial<FoundPage>;
    return { actors: page.actors ?? [], next: page.next };
  }

  /** How many actors of a type fit, in all and in each state. @throws KeyturnError */
  async count(target: string | AnyActorDefinition | ActorType, query: BrowserFindQuery = {}): Promise<Count> {
    const path = `/types/${typeIn(target)}/count?${new URLSearchParams(filterOf(query))}`;
    return (await this.#parts.reads.get(path, query)) as Count;
  }

  /**
   * The actors of a type that fit, and then each that changes, as it is after the change; one that was deleted, or does
   * not fit any more, without its state. Goes on by itself after a break; it has a connection of its own.
   * @throws KeyturnError if the server refuses it
   */
  async *changes(
    target: string | AnyActorDefinition | ActorType,
    query: BrowserChangesQuery = {},
  ): AsyncGenerator<ChangedActor> {
    const { initial, signal, onReset } = query;
    const type = typeIn(target);
    if (this.#isClosed) throw new KeyturnError("client_closed", "The client is closed.");
    const asked = {
      type,
      ...filterOf(query),
      ...(initial === undefined ? {} : { initial: String(initial) }),
    };
    const stop = new AbortController();
    const abort = (): void => stop.abort();
    signal?.addEventListener("abort", abort);
    if (signal?.aborted === true) abort();
    this.#following.add(stop);
    try {
      const path = `/events?${new URLSearchParams(asked)}`;
      yield* follow(this.#http, { path, signal: stop.signal, onReset });
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#following.delete(stop);
    }
  }

  /** Tries again what was refused or waits for its next try: after signing in, for example. */
  reconnect(): void {
    this.#parts.watches.reconnect();
  }

  /** Ends everything that is open, as `client_closed`, and takes nothing more. */
  close(): void {
    this.#isClosed = true;
    for (const stop of this.#following)
      stop.abort(new KeyturnError("client_closed", "The client is closed."));
    this.#parts.calls.close();
    this.#parts.reads.close();
    this.#parts.watches.close();
  }

  #ref(type: string, key: string): BrowserRef {
    checkType(type);
    encodeKey(key);
    return new BrowserRef(this.#parts, type, key);
  }
}

function typeIn(target: string | { readonly type: string }): string {
  const type = typeof target === "string" ? target : target?.type;
  checkType(String(type));
  return type;
}

function filterOf({
  state,
  status,
  olderThan,
  prefix,
  from,
  to,
  where,
}: BrowserFindQuery): Record<string, string> {
  const texts = { state, status, prefix, from, to };
  return {
    ...Object.fromEntries(
      Object.entries(texts).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    ),
    ...(olderThan === undefined ? {} : { olderThan: String(olderThan) }),
    ...(where === undefined ? {} : { where: JSON.stringify(toJson(where)) }),
  };
}
