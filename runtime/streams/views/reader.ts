/**
 * Reading a view: what its actors hold, merged where a key is split.
 *
 * Owns nothing. Talks to the view's actors through a client; each read is of the last committed turn of each part.
 */
import type { CallOptions, Client, WatchOptions } from "../../client/client.ts";
import type { ActorDefinition, ActorState } from "../../engine/definition.ts";
import { compareKeys } from "../../words/address.ts";
import { KeyturnError } from "../../words/errors.ts";
import { VIEW_LANE } from "../../words/lanes.ts";
import type { Aggregates, Values } from "./aggregates.ts";
import { FAULTS_KEY, type viewMachine, type ViewKind, valuesOf } from "./machine.ts";
import {
  lightPath,
  mergedWindows,
  type Meta,
  partKey,
  type ViewContext,
  type WindowState,
  watermarkOf,
  windowsOf,
} from "./state.ts";
import { highest } from "./top.ts";
import { type Time, timeFrom } from "./windows.ts";

export interface WindowResult<A extends Aggregates = Aggregates> {
  /** Milliseconds since the epoch. */
  readonly start: number;
  /** The first moment after it. */
  readonly end: number;
  /** Events in it. */
  readonly events: number;
  /** Whether it will change no more. */
  readonly closed: boolean;
  readonly values: Values<A>;
}

export interface ViewState<A extends Aggregates = Aggregates> {
  /** Of everything or, with windows, of the newest window. Before the first event what aggregates are without any. */
  readonly values: Values<A>;
  /** Events that came, also the late ones. */
  readonly events: number;
  /** Events that came when all their windows were closed, and are not counted. */
  readonly late: number;
  /** Up to here windows are closed; undefined without windows, or without events. */
  readonly watermark: number | undefined;
  /** Windows that ended up to here are no longer kept; undefined if none was dropped. */
  readonly dropped: number | undefined;
}

type Definition = ActorDefinition<string, ReturnType<typeof viewMachine>>;

/** Which keys. */
export interface KeysQuery {
  /** Only keys that begin so. */
  readonly prefix?: string | undefined;
  /** Only keys behind this one. */
  readonly after?: string | undefined;
  /** Stop after so many. */
  readonly limit?: number | undefined;
  /** For each exchange with a shard, milliseconds; 60,000 by default. */
  readonly timeout_ms?: number | undefined;
}

export interface SettledOptions {
  readonly of?: string | undefined;
  readonly timeout_ms?: number | undefined;
}

/** What a view has of a key. */
export interface ViewEntry<A extends Aggregates = Aggregates> extends ViewState<A> {
  readonly key: string;
}

export interface ViewPage<A extends Aggregates = Aggregates> {
  readonly entries: readonly ViewEntry<A>[];
  /** For `after`; undefined at the end. */
  readonly next: string | undefined;
}

/** Keys that are read at once. */
const READ_AT_ONCE = 64;
const TOP_MAX = 10_000;

function checkedLimit(limit = Number.POSITIVE_INFINITY): number {
  if (typeof limit === "number" && limit >= 0) return limit;
  throw new KeyturnError("invalid_options", `A limit is a number from 0 on, not ${limit}.`);
}

interface Merged {
  readonly m: Pick<Meta, "seen" | "late" | "dropped">;
  readonly watermark: number | undefined;
  readonly windows: readonly WindowState[];
}

/** What a reader is told of its view. */
export interface ViewParts {
  readonly kind: ViewKind;
  readonly definition: Definition;
  readonly split: number;
  /** Views behind one another, this one included. */
  readonly depth: number;
  /** Aggregates that are in the type's index. */
  readonly index: readonly string[];
}

/** Reads what a view holds of its keys. Made by `view.reader(client)`. */
export class ViewReader<A extends Aggregates = Aggregates> {
  readonly #client: Client;
  readonly #kind: ViewKind;
  readonly #definition: Definition;
  readonly #split: number;
  readonly #depth: number;
  readonly #index: readonly string[];

  /** @internal */
  constructor(client: Client, { kind, definition, split, depth, index }: ViewParts) {
    this.#client = client;
    this.#kind = kind;
    this.#definition = definition;
    this.#split = split;
    this.#depth = depth;
    this.#index = index;
  }

  /**
   * Resolves when the view has everything that was emitted in turns acknowledged before this call: what is read then
   * shows one's own writes. Over views, when it has what those had closed by then, too. Costs a question to each shard,
   * with `of` and a view over no other view to one.
   * @param options.of only what this actor has emitted, `type/key`
   * @param options.timeout_ms how long to wait, 10,000 by default
   * @throws KeyturnError `timeout`; it may be called again
   */
  async settled({ of, timeout_ms }: SettledOptions = {}): Promise<void> {
    const all = Array.from({ length: this.#client.shards }, (_, shard) => shard);
    const first = of === undefined ? all : [this.#client.actor(of).shard];
    const { type } = this.#definition;
    for (let level = 0; level < this.#depth; level++)
      await this.#client.delivered({
        type,
        lane: VIEW_LANE,
        shards: level === 0 ? first : all,
        timeout_ms,
      });
  }

  /**
   * The keys of which the view has something, in the order of their bytes, a page at a time from each shard: no more is
   * read than is taken. The first question after a node's start reads the snapshots of all keys.
   */
  async *keys(query: KeysQuery = {}): AsyncGenerator<string> {
    let left = checkedLimit(query.limit);
    for await (const key of this.#keys(query)) {
      if (key === FAULTS_KEY) continue;
      if (left-- <= 0) return;
      yield key;
    }
  }

  /** The keys with what the view has of them, in the order of the keys. Each is read when it is near. */
  entries(query: KeysQuery = {}): AsyncGenerator<ViewEntry<A>> {
    return this.#entriesOf(this.keys(query), query);
  }

  async *#entriesOf(
    keys: Iterable<string> | AsyncIterable<string>,
    { timeout_ms }: KeysQuery,
  ): AsyncGenerator<ViewEntry<A>> {
    const open: Promise<ViewEntry<A>>[] = [];
    const read = async (key: string): Promise<ViewEntry<A>> => ({
      key,
      ...(await this.get(key, { timeout_ms })),
    });
    for await (const key of keys) {
      const entry = read(key);
      // It may fail while others are waited for; whoever takes it learns it.
      entry.catch(() => undefined);
      open.push(entry);
      if (open.length >= READ_AT_ONCE) yield await (open.shift() as Promise<ViewEntry<A>>);
    }
    for (const entry of open) yield await entry;
  }

  /** A page of the same, with where to go on: `after` of the next one. */
  async page({ limit = 100, ...query }: KeysQuery = {}): Promise<ViewPage<A>> {
    const entries: ViewEntry<A>[] = [];
    for await (const entry of this.entries({ ...query, limit: checkedLimit(limit) + 1 })) entries.push(entry);
    const more = entries.length > limit;
    if (more) entries.pop();
    return { entries, next: more ? entries.at(-1)?.key : undefined };
  }

  /**
   * The keys with the highest values, highest first; of equal ones the first by key. By the name of an aggregate that is in
   * the view's `index`, without `prefix` and `after`, each shard gives its best, and only the keys of the answer are read.
   * Else all keys are read, and as many kept as are wanted.
   * @param limit how many, from 1 to 10,000
   * @param by the name of an aggregate whose value is a number, or a function of what the view has of a key; one that gives
   *   undefined or null leaves a key out
   */
  async top(
    limit: number,
    by: (keyof A & string) | ((entry: ViewEntry<A>) => number | undefined | null),
    query: Omit<KeysQuery, "limit"> = {},
  ): Promise<readonly ViewEntry<A>[]> {
    if (!Number.isSafeInteger(limit) || limit < 1 || limit > TOP_MAX)
      throw new KeyturnError(
        "invalid_options",
        `How many is a whole number from 1 to ${TOP_MAX}, not ${limit}.`,
      );
    const name = typeof by === "string" ? by : undefined;
    if (name !== undefined && !Object.hasOwn(this.#kind.aggregates, name))
      throw new KeyturnError(
        "invalid_options",
        `The view "${this.#kind.name}" has no "${name}". It has ${Object.keys(this.#kind.aggregates).join(", ")}.`,
      );
    const numberIn = typeof by === "function" ? by : (entry: ViewEntry<A>) => entry.values[by] as unknown;
    const { prefix = "", after, timeout_ms } = query;
    const isIndexed =
      name !== undefined && this.#index.includes(name) && prefix === "" && after === undefined;
    const entries = isIndexed
      ? this.#entriesOf(
          await this.#client.top(this.#definition, lightPath(name), limit, { timeout_ms }),
          query,
        )
      : this.entries(query);
    return await highest(entries, limit, numberIn, name ?? "by");
  }

  /** Of a split view each part has keys of its own. */
  async *#keys({ prefix = "", after, timeout_ms }: KeysQuery): AsyncGenerator<string> {
    if (this.#split === 1) {
      const query = { ...(prefix === "" ? {} : { prefix }), after, timeout_ms };
      for await (const { key } of this.#client.find(this.#definition, query)) yield key;
      return;
    }
    const parts = Array.from({ length: this.#split }, (_, part) => {
      const own = partKey("", part);
      const query = {
        prefix: `${own}${prefix}`,
        after: after === undefined ? undefined : own + after,
        timeout_ms,
      };
      return { own, rows: this.#client.find(this.#definition, query), key: "" as string | undefined };
    });
    const advance = async (part: (typeof parts)[number]): Promise<void> => {
      const { done, value } = await part.rows.next();
      part.key = done === true ? undefined : value.key.slice(part.own.length);
    };
    try {
      await Promise.all(parts.map(advance));
      while (true) {
        const open = parts.filter(({ key }) => key !== undefined);
        if (open.length === 0) return;
        const first = open.map(({ key }) => key as string).reduce((a, b) => (compareKeys(a, b) <= 0 ? a : b));
        yield first;
        await Promise.all(open.filter(({ key }) => key === first).map(advance));
      }
    } finally {
      await Promise.all(parts.map(({ rows }) => rows.return(undefined)));
    }
  }

  /** What the view has of a key. One that nobody has emitted for is empty. */
  async get(key: string, options: Pick<CallOptions, "timeout_ms"> = {}): Promise<ViewState<A>> {
    return this.#shown(this.#merged(await this.#read(key, options)));
  }

  /**
   * The window that a time is in; of several the one that began last. Undefined if it has no events, or is no longer kept.
   */
  async window(key: string, at: Time): Promise<WindowResult<A> | undefined> {
    const time = this.#time(at);
    const { windows } = this.#merged(await this.#read(key));
    const found = windows.filter(({ start, end }) => start <= time && time < end).at(-1);
    return found === undefined ? undefined : this.#result(found);
  }

  /** The windows with events that overlap a stretch of time, earliest first; `to` is exclusive. All by default. */
  async windows(
    key: string,
    { from, to }: { readonly from?: Time; readonly to?: Time } = {},
  ): Promise<readonly WindowResult<A>[]> {
    const low = from === undefined ? Number.NEGATIVE_INFINITY : this.#time(from);
    const high = to === undefined ? Number.POSITIVE_INFINITY : this.#time(to);
    const { windows } = this.#merged(await this.#read(key));
    return windows.filter(({ start, end }) => end > low && start < high).map((one) => this.#result(one));
  }

  /** What the view has of a key now, and after each change; what changes faster than it is taken is skipped. */
  async *watch(key: string, options: WatchOptions = {}): AsyncGenerator<ViewState<A>> {
    const refs = this.#refs(key);
    if (refs.length === 1) {
      for await (const state of (refs[0] as (typeof refs)[0]).watch(options))
        yield this.#shown(this.#merged([state as unknown as ActorState]));
      return;
    }
    const ended = new AbortController();
    const end = (): void => ended.abort();
    options.signal?.addEventListener("abort", end);
    if (options.signal?.aborted === true) end();
    const states = new Map<number, ActorState>();
    let wake = (): void => undefined;
    let fault: { readonly error: unknown } | undefined;
    let open = refs.length;
    let changed = false;
    refs.forEach((ref, part) => {
      const follow = async (): Promise<void> => {
        for await (const state of ref.watch({ signal: ended.signal })) {
          states.set(part, state as unknown as ActorState);
          changed = true;
          wake();
        }
      };
      follow()
        .catch((error: unknown) => {
          fault ??= { error };
        })
        .finally(() => {
          open--;
          wake();
        });
    });
    try {
      while (open > 0 && !ended.signal.aborted) {
        if (fault !== undefined) throw fault.error;
        if (changed && states.size === refs.length) {
          changed = false;
          yield this.#shown(this.#merged([...states.values()]));
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
      if (fault !== undefined) throw fault.error;
    } finally {
      options.signal?.removeEventListener("abort", end);
      end();
    }
  }

  #refs(key: string) {
    if (this.#split === 1) return [this.#client.actor(this.#definition, key)];
    return Array.from({ length: this.#split }, (_, part) =>
      this.#client.actor(this.#definition, partKey(key, part)),
    );
  }

  async #read(key: string, options: Pick<CallOptions, "timeout_ms"> = {}): Promise<ActorState[]> {
    return (await Promise.all(this.#refs(key).map((ref) => ref.get(options)))) as unknown as ActorState[];
  }

  #merged(states: readonly ActorState[]): Merged {
    const contexts = states.map(({ context }) => context as unknown as ViewContext);
    const { window } = this.#kind;
    const most = (values: (number | null)[]): number | null => {
      const known = values.filter((value) => value !== null);
      return known.length === 0 ? null : Math.max(...known);
    };
    const dropped = most(contexts.map(({ m }) => m.dropped));
    const reached =
      window === undefined
        ? Number.NEGATIVE_INFINITY
        : Math.max(...contexts.map(({ m }) => watermarkOf(window, m)));
    const windows = mergedWindows(
      this.#kind,
      contexts.map((context) => windowsOf(this.#kind, context)),
    )
      // Some part has forgotten its share of what is older.
      .filter(({ end }) => states.length === 1 || dropped === null || end > dropped);
    return {
      m: {
        seen: contexts.reduce((all, { m }) => all + m.seen, 0),
        late: contexts.reduce((all, { m }) => all + m.late, 0),
        dropped,
      },
      watermark: Number.isFinite(reached) ? reached : undefined,
      windows,
    };
  }

  #shown({ m, watermark, windows }: Merged): ViewState<A> {
    return {
      values: valuesOf(this.#kind, windows.at(-1)?.states ?? {}) as Values<A>,
      events: m.seen,
      late: m.late,
      watermark,
      dropped: m.dropped ?? undefined,
    };
  }

  #result({ states, ...window }: WindowState): WindowResult<A> {
    return { ...window, values: valuesOf(this.#kind, states) as Values<A> };
  }

  #time(value: Time): number {
    const ms = timeFrom(value);
    if (ms === undefined)
      throw new KeyturnError(
        "invalid_options",
        "A time is milliseconds since the epoch, a Date, or its text.",
      );
    return ms;
  }
}
