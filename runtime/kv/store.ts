/**
 * A key-value store: each key is an actor, so every write is fenced, journaled, exactly once and has a history.
 *
 * Owns nothing but its handle. The interface is that of Samza's KeyValueStore, with atomic updates, compare-and-set, time
 * to live and watches besides. Talks to the client; entry.ts is the actor behind a key, keys.ts the form of keys.
 *
 * Ranges are in the order of the keys' bytes, `from` inclusive, `to` exclusive. They see every write that was
 * acknowledged before they began; what is written meanwhile may show or not (`snapshot` shows none of it). They are read
 * as they are asked for, a page a shard at a time.
 */
import type { ActorRef, CallOptions, Client } from "../client/client.ts";
import type { FoundActor } from "../client/find.ts";
import type { ActorState } from "../engine/definition.ts";
import { behindPrefix, compareKeys } from "../words/address.ts";
import { durationOf } from "../words/duration.ts";
import { isKeyturnError, KeyturnError } from "../words/errors.ts";
import { type EntryContext, type EntryEvent, entry, KV, type Operation } from "./entry.ts";
import { actorKey, bytesIn, checkStoreName, type Key, textIn } from "./keys.ts";
import { eachOf, listOf } from "./many.ts";
import { Pinned } from "./pinned.ts";

export interface StoreOptions {
  /** What keys are given as; both kinds may be passed. "text" by default: then every key is UTF-8. */
  readonly keys?: "text" | "bytes" | undefined;
  /** For each exchange, milliseconds; 10,000 by default, 60,000 for those of a range. */
  readonly timeout_ms?: number | undefined;
}

export interface WriteOptions {
  /**
   * Of an error whose outcome is unknown: learns what became of that write, and applies it only if it was not applied. Or
   * an id of the caller's own, see CallOptions.
   */
  readonly requestId?: string | undefined;
}

export interface PutOptions extends WriteOptions {
  /** Gone so long after this write: milliseconds, or a text such as "1 hour". Without it, it lasts. */
  readonly ttl?: number | string | undefined;
  /** Only if the entry stands at this version, 0 for a key that is not there; `version_conflict` otherwise. */
  readonly ifVersion?: number | undefined;
}

/** An entry: its value and the version of its last write. */
export interface Entry<V, K = string> {
  readonly key: K;
  readonly value: V;
  readonly version: number;
}

/** What became of an entry that is watched: the entry, or what is left of one that is gone. */
export type Change<V, K = string> = Entry<V, K> | { readonly key: K; readonly value: undefined };

export interface ListOptions {
  readonly from?: Key | undefined;
  readonly to?: Key | undefined;
  readonly prefix?: Key | undefined;
  /** Only keys behind this one: `next` of the page before. */
  readonly after?: Key | undefined;
  /** 100 by default. */
  readonly limit?: number | undefined;
}

/** An operand, where a store's values may be numbers; of others there is none. */
export type Operand<V> = number extends V ? number : [Extract<V, number>] extends [never] ? never : number;

/** Between tries for an actor that is just being forgotten. */
const FORGOTTEN_MS = 5;

type Ref = ActorRef<(typeof entry)["machine"], { put: number; delete: boolean; update: number }>;

/** See above. `V` is what its values are taken to be; nothing checks that. */
export class KeyValueStore<V = unknown, K extends Key = string> {
  readonly name: string;
  readonly #client: Client;
  readonly #now: () => number;
  readonly #call: CallOptions;
  readonly #keyOf: (actor: string) => K;
  readonly #writes = new Set<Promise<unknown>>();
  #closed = false;

  /** @internal */
  constructor(client: Client, now: () => number, name: string, options: StoreOptions) {
    checkStoreName(name);
    const { keys = "text", timeout_ms } = options;
    if (keys !== "text" && keys !== "bytes")
      throw new KeyturnError("invalid_options", 'Keys are given as "text" or as "bytes".');
    this.name = name;
    this.#client = client;
    this.#now = now;
    this.#call = { timeout_ms };
    const inside: (store: string, actor: string) => Key = keys === "text" ? textIn : bytesIn;
    this.#keyOf = (actor) => inside(name, actor) as K;
  }

  /** The value under a key; undefined if there is none. */
  async get(key: K): Promise<V | undefined> {
    return (await this.entry(key))?.value;
  }

  /** The same with its version. */
  async entry(key: K): Promise<Entry<V, K> | undefined> {
    const { context } = await this.#ref(key).get(this.#call);
    return entryIn<V, K>(key, context);
  }

  /** The values under some keys, in the order of the keys; those that are not there are left out. */
  async getAll(keys: Iterable<K>): Promise<Map<K, V>> {
    const all = this.#keys(keys);
    const values: (V | undefined)[] = new Array(all.length);
    await eachOf(all, async (key, place) => {
      values[place] = await this.get(key);
    });
    const found = new Map<K, V>();
    for (const [place, key] of all.entries()) {
      const value = values[place];
      if (value !== undefined) found.set(key, value);
    }
    return found;
  }

  /**
   * Puts a value under a key; resolves with its version, once that is committed.
   * @throws KeyturnError `version_conflict`, `invalid_options`, and others; its `outcome` says what became of the write
   */
  put(key: K, value: V, options: PutOptions = {}): Promise<number> {
    const { requestId } = options;
    return this.#write(async () => this.#put(this.#ref(key), value, putOf(value, options), requestId));
  }

  /**
   * Puts many values; resolves when all are committed. Of a key that comes several times the last one stands. Each by
   * itself: after an error some may be there, after `invalid_address` for a key none.
   */
  putAll(entries: Iterable<readonly [K, V]>, options: Pick<PutOptions, "ttl"> = {}): Promise<void> {
    return this.#write(async () => {
      const all = listOf(entries, "putAll takes pairs of a key and a value");
      if (!all.every((pair) => Array.isArray(pair)))
        throw new KeyturnError(
          "invalid_options",
          "putAll takes pairs of a key and a value: [[key, value], …].",
        );
      this.#keys(all.map(([key]) => key));
      await eachOf(all, async ([key, value]) => {
        await this.#put(this.#ref(key), value, putOf(value, options));
      });
    });
  }

  /** Removes a key; resolves with whether it was there, once that is committed. */
  delete(key: K, { ifVersion, requestId }: Omit<PutOptions, "ttl"> = {}): Promise<boolean> {
    return this.#write(async () => this.#delete(key, versionOf(ifVersion), requestId));
  }

  /** Removes some keys; resolves with how many were there. */
  deleteAll(keys: Iterable<K>): Promise<number> {
    let count = 0;
    return this.#write(async () => {
      await eachOf(this.#keys(keys), async (key) => {
        if (await this.#delete(key, undefined)) count++;
      });
      return count;
    });
  }

  /**
   * Adds to the number under a key, 0 if there is none; resolves with the result, once that is committed.
   * @throws KeyturnError `invalid_operand` if either is no number, or the result is not finite
   */
  add(key: K, operand: Operand<V>, options?: WriteOptions): Promise<number> {
    return this.#update(key, "add", operand, options);
  }

  subtract(key: K, operand: Operand<V>, options?: WriteOptions): Promise<number> {
    return this.#update(key, "subtract", operand, options);
  }

  multiply(key: K, operand: Operand<V>, options?: WriteOptions): Promise<number> {
    return this.#update(key, "multiply", operand, options);
  }

  /** @throws KeyturnError `invalid_operand` also for a division by zero */
  divide(key: K, operand: Operand<V>, options?: WriteOptions): Promise<number> {
    return this.#update(key, "divide", operand, options);
  }

  /**
   * The entries from one key on up to another one, in order.
   * @throws KeyturnError `invalid_options` if `from` comes after `to`
   */
  async *range(from?: Key, to?: Key): AsyncGenerator<[key: K, value: V]> {
    this.#checkOpen();
    yield* this.#walk(this.#bounds({ from, to }));
  }

  /** All entries, in order. */
  all(): AsyncGenerator<[key: K, value: V]> {
    return this.range();
  }

  /** A page of entries, and the key to go on behind; undefined at the end. */
  async list(options: ListOptions = {}): Promise<{ entries: [K, V][]; next: K | undefined }> {
    this.#checkOpen();
    const { limit = 100, after } = options;
    if (!(Number.isSafeInteger(limit) && limit >= 1))
      throw new KeyturnError("invalid_options", `A limit is a whole number from 1, not ${String(limit)}.`);
    const entries: [K, V][] = [];
    const bounds = this.#bounds(options);
    const behind = after === undefined ? undefined : actorKey(this.name, after);
    for await (const one of this.#walk({ ...bounds, after: behind })) {
      if (entries.length >= limit) return { entries, next: entries.at(-1)?.[0] };
      entries.push(one);
    }
    return { entries, next: undefined };
  }

  /**
   * The entries as they are now, whatever is written later: each reading of it shows the same, for an hour.
   * @throws KeyturnError `invalid_options` if `from` comes after `to`
   */
  async snapshot(from?: Key, to?: Key): Promise<Pinned<K, V>> {
    this.#checkOpen();
    return Pinned.take<K, V>(this.#client, this.#bounds({ from, to }), this.#now, this.#keyOf, this.#call);
  }

  /** An entry now and after each change; a slow reader may miss some in between, never the last. */
  async *watch(key: K, options: { signal?: AbortSignal } = {}): AsyncGenerator<Change<V, K>> {
    for await (const { context } of this.#ref(key).watch(options))
      yield entryIn<V, K>(key, context) ?? { key, value: undefined };
  }

  /** All entries whose keys begin so, now and as they change. */
  async *watchPrefix(prefix: Key, options: { signal?: AbortSignal } = {}): AsyncGenerator<Change<V, K>> {
    this.#checkOpen();
    const query = { ...this.#bounds({ prefix }), where: { present: true }, ...options };
    for await (const { key, actor } of this.#client.changes(KV, query)) {
      const found = actor === undefined ? undefined : await this.#found(actor);
      yield found ?? { key: this.#keyOf(key), value: undefined };
    }
  }

  /** Resolves when every write that was begun before is committed, or has failed. */
  async flush(): Promise<void> {
    await Promise.allSettled(this.#writes);
  }

  /** Flushes; nothing can be asked of this handle any more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.flush();
  }

  #checkOpen(): void {
    if (this.#closed)
      throw new KeyturnError("client_ended", `This handle of the store "${this.name}" is closed.`);
  }

  /** Keys that are given, all of them checked. */
  #keys(keys: Iterable<K>): K[] {
    this.#checkOpen();
    const all = listOf(keys, "Several keys are given as a list, or as anything else that can be iterated");
    for (const key of all) actorKey(this.name, key);
    return all;
  }

  #ref(key: Key): Ref {
    this.#checkOpen();
    return this.#client.actor(entry, actorKey(this.name, key)) as Ref;
  }

  /** Actor keys of what is asked for. */
  #bounds({ from, to, prefix }: Pick<ListOptions, "from" | "to" | "prefix">): { from: string; to: string } {
    if (prefix !== undefined && (from !== undefined || to !== undefined))
      throw new KeyturnError("invalid_options", "Name a prefix, or from and to.");
    const first = actorKey(this.name, prefix ?? from ?? "");
    const last =
      to === undefined
        ? (behindPrefix(prefix === undefined ? `${this.name}:` : first) as string)
        : actorKey(this.name, to);
    if (compareKeys(first, last) > 0)
      throw new KeyturnError(
        "invalid_options",
        `The range begins at ${show(from)}, behind its end, ${show(to)}.`,
      );
    return { from: first, to: last };
  }

  async *#walk(query: { from: string; to: string; after?: string | undefined }): AsyncGenerator<[K, V]> {
    const asked = { ...query, ...this.#call, where: { present: true } };
    for await (const actor of this.#client.find(KV, asked)) {
      if (this.#closed) this.#checkOpen();
      const found = await this.#found(actor);
      if (found !== undefined) yield [found.key, found.value];
    }
  }

  /** What was found; a value that is too large for an index is read. */
  #found({ key, fields }: FoundActor): Entry<V, K> | undefined | Promise<Entry<V, K> | undefined> {
    if (!("value" in fields)) return this.entry(this.#keyOf(key));
    const { value, version } = fields;
    return { key: this.#keyOf(key), value: value as V, version: version as number };
  }

  #update(key: K, operation: Operation, operand: number, { requestId }: WriteOptions = {}): Promise<number> {
    return this.#write(async () => {
      const event = { type: "update", operation, operand, at: this.#now() } as const;
      return (await this.#ask(this.#ref(key), event, requestId)) as number;
    });
  }

  async #put(
    ref: Ref,
    value: V,
    options: { ttl_ms?: number; version?: number },
    requestId?: string,
  ): Promise<number> {
    return (await this.#ask(ref, { type: "put", value, at: this.#now(), ...options }, requestId)) as number;
  }

  async #delete(key: K, version: number | undefined, requestId?: string): Promise<boolean> {
    const event = { type: "delete", at: this.#now(), ...(version === undefined ? {} : { version }) } as const;
    return (await this.#ask(this.#ref(key), event, requestId)) as boolean;
  }

  /** Asks an entry. One that is forgotten at this moment takes nothing in any more, and begins anew right after. */
  async #ask(ref: Ref, event: EntryEvent, requestId?: string): Promise<unknown> {
    let id = requestId;
    for (let tries = 1; ; tries++) {
      try {
        const answer = (await ref.ask(event, { ...this.#call, requestId: id })) as unknown;
        if ((answer as ActorState | undefined)?.status !== "done") return answer;
      } catch (error) {
        // The answer before said that nothing was taken in, and is all that there was to learn by this id.
        if (tries === 1 || id === undefined || !isKeyturnError(error, "request_forgotten")) throw error;
        id = undefined;
        continue;
      }
      await this.#client.pause(FORGOTTEN_MS);
    }
  }

  #write<T>(write: () => Promise<T>): Promise<T> {
    const written = write();
    this.#writes.add(written);
    written.then(
      () => this.#writes.delete(written),
      () => this.#writes.delete(written),
    );
    return written;
  }
}

function entryIn<V, K>(key: K, { present, value, version }: EntryContext): Entry<V, K> | undefined {
  return present ? { key, value: value as V, version } : undefined;
}

function putOf(value: unknown, { ttl, ifVersion }: PutOptions): { ttl_ms?: number; version?: number } {
  if (value === undefined)
    throw new KeyturnError(
      "invalid_event",
      "Undefined is no value. Use delete to remove a key, or put null.",
    );
  const version = versionOf(ifVersion);
  return {
    ...(ttl === undefined ? {} : { ttl_ms: durationOf(ttl, "ttl") }),
    ...(version === undefined ? {} : { version }),
  };
}

function versionOf(ifVersion: number | undefined): number | undefined {
  if (ifVersion === undefined || (Number.isSafeInteger(ifVersion) && ifVersion >= 0)) return ifVersion;
  throw new KeyturnError("invalid_options", `A version is a whole number from 0, not ${String(ifVersion)}.`);
}

function show(key: Key | undefined): string {
  return typeof key === "string" ? JSON.stringify(key) : Buffer.from(key ?? []).toString("hex");
}
