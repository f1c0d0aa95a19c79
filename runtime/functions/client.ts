/**
 * The client of functions: processing events, reading and changing states by key.
 *
 * Owns nothing but who waits for an answer that comes later (waiting.ts). Talks to the actors' client; everything here can
 * be done with `client.actor(…)` too.
 */
import type { ActorRef, CallOptions, Client } from "../client/client.ts";
import { KeyturnError } from "../words/errors.ts";
import { CALL, type CallReply, SET, UPDATE } from "./events.ts";
import type { AnyFunction, EventOf, FunctionGroup, ResultOf, StatesOf } from "./function.ts";
import type { Context } from "./keeping.ts";
import type { State } from "./state.ts";
import type { Operation } from "./update.ts";
import { ticketIn, Waiting } from "./waiting.ts";

/** The functions that a definition hosts. */
export type FunctionsOf<D> = D extends AnyFunction ? D : D extends FunctionGroup<string, infer F> ? F : never;

type NameOf<F> = F extends { readonly name: infer N extends string } ? N : never;
type Named<F, N> = F extends { readonly name: N } ? F : never;
type IsOne<T, U = T> = [T] extends [never]
  ? false
  : T extends unknown
    ? [U] extends [T]
      ? true
      : false
    : never;

/** An event with its key; where there are several functions, `type` says for which it is. */
export type Message<F, N extends string = NameOf<F>> = {
  readonly key: string;
} & (IsOne<NameOf<F>> extends true ? { readonly type?: N } : { readonly type: N }) &
  EventOf<Named<F, N>>;

type ValueOf<S> = S extends State<string, infer V> ? V : never;
/** A state is named where there are several: `A` are all that there are. */
type StateArgs<S, O, A = S> = IsOne<A> extends true ? [state?: S, options?: O] : [state: S, options?: O];
/** Those of some states that may hold a number. */
type NumberState<S> =
  S extends State<string, infer V>
    ? number extends V
      ? S
      : [Extract<V, number>] extends [never]
        ? never
        : S
    : never;

const REFS_MAX = 4_096;

/** Functions of one type, for whoever is outside. */
export class Functions<F extends AnyFunction> {
  readonly #client: Client;
  readonly #definition: FunctionGroup;
  readonly #waiting: Waiting;
  /** Whether events may have to wait, so that the first answer may not be the last. */
  readonly #mayWait: boolean;
  readonly #states = new Map<string, State>();
  readonly #names: ReadonlySet<string>;
  /** The name of the function, if there is one only. */
  readonly #only: string | undefined;
  readonly #refs = new Map<string, ActorRef>();

  /** @internal */
  constructor(client: Client, definition: FunctionGroup) {
    this.#client = client;
    this.#definition = definition;
    this.#waiting = new Waiting(client);
    this.#mayWait = definition.functions.some(({ spec }) => spec.work !== undefined);
    const names = definition.functions.map(({ name }) => name);
    this.#names = new Set(names);
    this.#only = names.length === 1 ? names[0] : undefined;
    for (const { spec } of definition.functions)
      for (const state of Object.values(spec.states)) this.#states.set(state.name, state);
  }

  /**
   * Processes an event: `processEvent({ key: "a", value: 1 })`, with several functions
   * `processEvent({ key: "a", type: "process", value: 1 })`. Resolves with the function's result once everything that it
   * did is committed; of an async function, once that has ended.
   * @throws KeyturnError `function_failed`, `function_timed_out`, `mailbox_full`, `invalid_event` and others; its `outcome`
   *   says what became of the event. With `timeout`, call again with the error's `requestId`
   */
  processEvent<const N extends NameOf<F>>(
    message: Message<F, N>,
    options: CallOptions = {},
  ): Promise<ResultOf<Named<F, N>>> {
    // No async functions on this way: each would cost a promise more for every event.
    try {
      const event = this.#event(message);
      const { key } = message;
      if (this.#mayWait) return this.#call(key, event, options);
      return this.#ref(key).ask(event, options) as Promise<ResultOf<Named<F, N>>>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Sends an event; resolves once it is taken, without the result. One that is refused later, while it waited for an async
   * function, becomes a dead letter.
   */
  sendEvent<const N extends NameOf<F>>(message: Message<F, N>, options: CallOptions = {}): Promise<void> {
    return this.#async(() => {
      const event = this.#event(message);
      return this.#ref(message.key).send(event, options);
    });
  }

  /**
   * Arithmetic on a state that is a number: `updateState("a", 1, "add")`, of a function with several states
   * `updateState("a", 1, "add", counter)`. Resolves with the new value.
   * @throws KeyturnError `invalid_operand` (also for a division by zero); the state stays as it was
   */
  updateState<S extends NumberState<StatesOf<F>>>(
    key: string,
    operand: [NumberState<StatesOf<F>>] extends [never] ? never : number,
    operation: Operation,
    ...[state, options]: StateArgs<S, CallOptions, StatesOf<F>>
  ): Promise<number> {
    return this.#async(() => {
      const event = { type: UPDATE, state: this.#state(state).name, operand, operation };
      return this.#call(key, event, options) as Promise<number>;
    });
  }

  /** Sets a state; undefined sets it back to its initial value. Resolves with the new value. */
  setState<S extends StatesOf<F>>(
    key: string,
    value: ValueOf<S> | undefined,
    ...[state, options]: StateArgs<S, CallOptions>
  ): Promise<ValueOf<S>> {
    return this.#async(() => {
      const event = { type: SET, state: this.#state(state).name, value };
      return this.#call(key, event, options) as Promise<ValueOf<S>>;
    });
  }

  /**
   * A state's value, of everything that was answered. What has expired is its initial value once its timer has fired;
   * functions never see it before either.
   */
  getState<S extends StatesOf<F>>(
    key: string,
    ...[state, options]: StateArgs<S, Omit<CallOptions, "requestId">>
  ): Promise<ValueOf<S>> {
    return this.#async(async () => {
      const { name, initial } = this.#state(state);
      const { context } = await this.actor(key).get(options ?? {});
      return shown(context as Context, name, initial) as ValueOf<S>;
    });
  }

  /** All states of a key by name. */
  async getStates(
    key: string,
    options: Omit<CallOptions, "requestId"> = {},
  ): Promise<Record<string, unknown>> {
    const { context } = await this.actor(key).get(options);
    return Object.fromEntries(
      [...this.#states.values()].map(({ name, initial }) => [name, shown(context as Context, name, initial)]),
    );
  }

  /** Forgets a key: its states, what waits and what was to be sent later. */
  delete(key: string): Promise<void> {
    return this.actor(key).delete();
  }

  /** The key's actor, to watch it or to read its history. */
  actor(key: string): ActorRef {
    return this.#client.actor(this.#definition, key) as unknown as ActorRef;
  }

  #call(key: string, event: { readonly type: string }, options: CallOptions = {}): Promise<never> {
    const ref = this.#ref(key);
    if (!this.#mayWait) return ref.ask(event, options) as Promise<never>;
    const { clock } = this.#client;
    const taken = ticketIn(options.requestId);
    if (taken !== undefined) return this.#waiting.answer(ref, taken, options, 0) as Promise<never>;
    const begun = clock.monotonic();
    return ref.ask({ type: CALL, event } as never, options).then((reply) => {
      const given = reply as unknown as CallReply;
      if ("result" in given) return given.result;
      return this.#waiting.answer(ref, given.waits, options, clock.monotonic() - begun);
    }) as Promise<never>;
  }

  /** A reference is made once for the keys that are used most: it keeps the order of what goes through it. */
  #ref(key: string): ActorRef {
    let ref = this.#refs.get(key);
    if (ref === undefined) {
      ref = this.actor(key);
      this.#refs.set(key, ref);
      if (this.#refs.size > REFS_MAX) this.#refs.delete(this.#refs.keys().next().value as string);
    }
    return ref;
  }

  /** The event that a message carries. */
  #event(message: object): { readonly type: string } {
    if (typeof message !== "object" || message === null)
      throw new KeyturnError(
        "invalid_event",
        `What is processed is an event with its key: { key: "a", value: 1 }, not ${String(message)}.`,
      );
    const given = (message as { readonly type?: unknown }).type ?? this.#only;
    if (!this.#names.has(given as string)) {
      const { functions } = this.#definition;
      throw new KeyturnError(
        "invalid_event",
        `"${this.#definition.type}" has no function ${JSON.stringify(given)}. It has: ${functions.map(({ name }) => name).join(", ")}.`,
      );
    }
    const event: { [name: string]: unknown; type: string } = { type: given as string };
    for (const name in message)
      if (name !== "key" && name !== "type") event[name] = (message as Record<string, unknown>)[name];
    return event;
  }

  #state(state: State | undefined): State {
    if (state === undefined && this.#states.size === 1) return [...this.#states.values()][0] as State;
    const known = state === undefined ? undefined : this.#states.get(state.name);
    if (known !== undefined) return known;
    throw new KeyturnError(
      "invalid_options",
      state === undefined
        ? `"${this.#definition.type}" has ${this.#states.size} states. Say which one is meant, as the argument before the options: what defineState returned.`
        : `"${this.#definition.type}" has no state "${state.name}".`,
    );
  }

  /** What is thrown at once is a rejection too. */
  async #async<T>(work: () => Promise<T>): Promise<T> {
    return work();
  }
}

/** A state as it stands; `null` is a value too. */
function shown(context: Context, name: string, initial: unknown): unknown {
  return Object.hasOwn(context, name) && context[name] !== undefined ? context[name] : initial;
}

/**
 * Reaches functions: `const app = functions(node.client, process)`, or a group. Works with any client, in the process of a
 * node or not.
 * @throws KeyturnError `invalid_options`
 */
export function functions<D extends FunctionGroup | AnyFunction>(
  client: Client,
  definition: D,
): Functions<FunctionsOf<D>> {
  if (!Array.isArray(definition?.functions))
    throw new KeyturnError(
      "invalid_options",
      "functions(client, …) takes what defineFunction or defineFunctions returns.",
    );
  return new Functions(client, definition as unknown as FunctionGroup) as never;
}
