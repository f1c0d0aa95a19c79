/**
 * One invocation of a function: what the function is given, and what it wants done.
 *
 * Owns the context that user code sees and the outcome as plain data, the same for functions that run within a turn,
 * after one, and on a server elsewhere. Decides nothing about states: book.ts does.
 *
 * Invariants:
 * 1. Nothing leaves while the function runs: sends and emits are collected, and count with its outcome or not at all.
 * 2. An outcome is plain data that names states as they are stored; what names none is refused here.
 */
import { encodeKey, parseAddress } from "../words/address.ts";
import { durationOf } from "../words/duration.ts";
import { KeyturnError } from "../words/errors.ts";
import { LATER } from "./events.ts";
import type { AnyFunction, EventOf } from "./function.ts";
import type { Wish } from "../engine/machine.ts";
import type { States, ValuesOf } from "./state.ts";

/** What a function returns; nothing at all if it changes nothing and answers nothing. */
export interface Returned<S extends States = States, R = unknown> {
  /** States to write, by the names that the function calls them; undefined sets one back to its initial value. */
  readonly state?: { readonly [A in keyof S]?: ValuesOf<S>[A] | undefined };
  /** What whoever called it gets. */
  readonly result?: R;
}

/** What has become of an invocation. Plain data. */
export interface Outcome {
  /** By the names under which they are stored. */
  readonly state: Readonly<Record<string, unknown>> | undefined;
  readonly result: unknown;
  readonly wishes: readonly Wish[];
  /** It has failed, and is not to be tried again. */
  readonly error?: { readonly code: string; readonly message: string };
}

/** What a function can do besides returning. Take out what you need: `(event, { counter }, { key, send }) => …`. */
export interface FunctionContext {
  readonly key: string;
  /** When the event is processed, milliseconds since the epoch. Use it instead of a clock. */
  readonly now: number;
  /**
   * Sends an event to another key or function, exactly once, after this turn's commit. To a function by itself, or by its
   * name for those of the same group.
   */
  send<F extends AnyFunction>(to: F, key: string, event: EventOf<F>): void;
  send(to: string, key: string, event: object): void;
  /**
   * The same after a delay: milliseconds, or a text such as "3 days". Durable. A later one of this key with the same `id`
   * takes its place.
   */
  sendAfter<F extends AnyFunction>(
    delay: number | string,
    to: F,
    key: string,
    event: EventOf<F>,
    options?: SendAfterOptions,
  ): void;
  sendAfter(delay: number | string, to: string, key: string, event: object, options?: SendAfterOptions): void;
  /** Takes back what was sent with a delay and this id, if it has not left. */
  cancel(id: string): void;
  /** Tells any actor, by its address `type/key`, exactly once. */
  tell(address: string, event: { readonly type: string; readonly [name: string]: unknown }): void;
  /** The same after a delay, as with `sendAfter`. */
  tellAfter(
    delay: number | string,
    address: string,
    event: { readonly type: string; readonly [name: string]: unknown },
    options?: SendAfterOptions,
  ): void;
  /** Emits an event out of the actors, for whoever reads what they emit. */
  emit(event: { readonly type: string; readonly [name: string]: unknown }): void;
  /** Of functions that are `async`: the same for every run of this invocation, never used for another. */
  readonly idempotencyKey: string;
  /** Of functions that are `async`: counts from 1; above 1 it may have run before. */
  readonly attempt: number;
  /** Of functions that are `async`: aborted when its time is over or its key was deleted. */
  readonly signal: AbortSignal;
}

export interface SendAfterOptions {
  readonly id?: string;
}

/** How an invocation finds the functions that it sends to. */
export interface Home {
  /** Actor type of the group. */
  readonly type: string;
  has(name: string): boolean;
  typeOf(to: AnyFunction): string;
}

/** What only functions have that run after a turn. */
export interface RunArgs {
  readonly idempotencyKey: string;
  readonly attempt: number;
  readonly signal: AbortSignal;
}

const none: readonly Wish[] = [];

export class Invocation implements FunctionContext {
  readonly key: string;
  readonly now: number;
  readonly #home: Home;
  readonly #run: RunArgs | undefined;
  #wishes: Wish[] | undefined;
  #over = false;

  constructor(home: Home, key: string, now: number, run?: RunArgs) {
    this.#home = home;
    this.key = key;
    this.now = now;
    this.#run = run;
  }

  /** What it has collected. Afterwards it takes nothing more. */
  end(): readonly Wish[] {
    this.#over = true;
    return this.#wishes ?? none;
  }

  // Getters, so that what is taken out of the context goes on working, and costs nothing where it is not.

  get send(): FunctionContext["send"] {
    return (to: AnyFunction | string, key: string, event: object): void => {
      const { address, event: sent } = this.#message(to, key, event);
      this.#wish({ kind: "tell", to: address, event: sent });
    };
  }

  get sendAfter(): FunctionContext["sendAfter"] {
    return (
      delay: number | string,
      to: AnyFunction | string,
      key: string,
      event: object,
      options: SendAfterOptions = {},
    ): void => {
      const message = this.#message(to, key, event);
      this.#wish(later(durationOf(delay, "The delay"), message.address, message.event, options.id));
    };
  }

  get cancel(): FunctionContext["cancel"] {
    return (id) => this.#wish({ kind: "cancel", id: nameOf(id) });
  }

  get tell(): FunctionContext["tell"] {
    return (address, event) => {
      checkAddress(address);
      this.#wish({ kind: "tell", to: address, event: checkSent(event) });
    };
  }

  get tellAfter(): FunctionContext["tellAfter"] {
    return (delay, address, event, options = {}) => {
      checkAddress(address);
      this.#wish(later(durationOf(delay, "The delay"), address, checkSent(event), options.id));
    };
  }

  get emit(): FunctionContext["emit"] {
    return (event) => this.#wish({ kind: "emit", event: checkSent(event) });
  }

  get idempotencyKey(): string {
    return this.#args("idempotencyKey").idempotencyKey;
  }

  get attempt(): number {
    return this.#args("attempt").attempt;
  }

  get signal(): AbortSignal {
    return this.#args("signal").signal;
  }

  #args(name: string): RunArgs {
    if (this.#run !== undefined) return this.#run;
    throw new KeyturnError(
      "function_failed",
      `Only functions that are async have ${name}: others run within the turn, exactly once.`,
    );
  }

  #message(to: AnyFunction | string, key: string, event: object): { address: string; event: object } {
    const name = typeof to === "string" ? to : to.name;
    const type = typeof to === "string" ? this.#home.type : this.#home.typeOf(to);
    if (typeof to === "string" && !this.#home.has(to))
      throw new KeyturnError("tell_invalid", `"${this.#home.type}" has no function "${to}" to send to.`);
    const address = `${type}/${key}`;
    checkAddress(address);
    return { address, event: named(name, event) };
  }

  #wish(wish: Wish): void {
    if (this.#over)
      throw new KeyturnError("function_failed", "This invocation has ended: what it sends now goes nowhere.");
    this.#wishes ??= [];
    this.#wishes.push(wish);
  }
}

/** An event as its function's actor takes it. */
export function named(name: string, event: object): { readonly type: string } {
  if (typeof event !== "object" || event === null || Array.isArray(event))
    throw new KeyturnError("invalid_event", `An event for "${name}" is an object.`);
  const { type } = event as { readonly type?: unknown };
  if (type !== undefined && type !== name)
    throw new KeyturnError(
      "invalid_event",
      `An event's "type" is the name of its function: "${name}", not ${JSON.stringify(type)}.`,
    );
  return type === undefined ? { ...event, type: name } : (event as { readonly type: string });
}

/** The wish to send something later. */
export function later(delay_ms: number, to: string, event: object, id: string | undefined): Wish {
  const timer = { type: LATER, to, event };
  return { kind: "later", id: id === undefined ? undefined : nameOf(id), delay_ms, event: timer };
}

/** Ids of timers are XState's too, and ours. */
function nameOf(id: unknown): string {
  if (typeof id !== "string" || id === "" || id.length > 128)
    throw new KeyturnError(
      "invalid_options",
      "The id of something sent later is a text of 1 to 128 characters.",
    );
  return `later.${id}`;
}

function checkAddress(address: unknown): void {
  try {
    encodeKey(parseAddress(address as string).key);
  } catch (cause) {
    throw new KeyturnError(
      "tell_invalid",
      `${JSON.stringify(address)} is not an address to send to: ${(cause as Error).message}`,
      { cause },
    );
  }
}

function checkSent<E extends object>(event: E): E {
  const { type } = (event ?? {}) as { readonly type?: unknown };
  if (typeof type === "string" && type !== "" && !type.startsWith("xstate.")) return event;
  throw new KeyturnError("tell_invalid", `What is told or emitted is an object with a "type" of its own.`);
}
