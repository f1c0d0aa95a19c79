/**
 * Reading a view: what its actors hold, merged where a key is split.
 *
 * Owns nothing. Talks to the view's actors through a client; each read is of the last committed turn of each part.
 */
import type { Client } from "../../client/client.ts";
import type { WatchOptions } from "../../client/client.ts";
import type { ActorDefinition, ActorState } from "../../engine/definition.ts";
import { KeyturnError } from "../../words/errors.ts";
import type { Aggregates, Values } from "./aggregates.ts";
import { type viewMachine, type ViewKind, valuesOf } from "./machine.ts";
import {
  mergedWindows,
  type Meta,
  partKey,
  type ViewContext,
  type WindowState,
  watermarkOf,
  windowsOf,
} from "./state.ts";
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

interface Merged {
  readonly m: Pick<Meta, "seen" | "late" | "dropped">;
  readonly watermark: number | undefined;
  readonly windows: readonly WindowState[];
}

/** Reads what a view holds of its keys. Made by `view.reader(client)`. */
export class ViewReader<A extends Aggregates = Aggregates> {
  readonly #client: Client;
  readonly #kind: ViewKind;
  readonly #definition: Definition;
  readonly #split: number;

  /** @internal */
  constructor(client: Client, kind: ViewKind, definition: Definition, split: number) {
    this.#client = client;
    this.#kind = kind;
    this.#definition = definition;
    this.#split = split;
  }

  /** What the view has of a key. One that nobody has emitted for is empty. */
  async get(key: string): Promise<ViewState<A>> {
    return this.#shown(this.#merged(await this.#read(key)));
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

  async #read(key: string): Promise<ActorState[]> {
    return (await Promise.all(this.#refs(key).map((ref) => ref.get()))) as unknown as ActorState[];
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
