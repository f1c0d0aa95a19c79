/**
 * States: the named values that functions keep for each key.
 *
 * Owns `defineState` and what a state is. Where a state's value stands and when it expires is decided by book.ts.
 */
import { checkType } from "../words/address.ts";
import { durationOf } from "../words/duration.ts";
import { KeyturnError } from "../words/errors.ts";
import { seal, ValueFault } from "../words/values.ts";

export interface StateOptions {
  /** The value goes back to its initial one after so long: milliseconds, or a text such as "1 hour". */
  readonly expire?: number | string;
  /** What the time counts from: the last `write` (the default), or the last `use` by any function that names the state. */
  readonly after?: "write" | "use";
}

/** A named state; every key has one of its own. */
export interface State<N extends string = string, V = unknown> {
  readonly name: N;
  /** The value of a key that was never written. Frozen. */
  readonly initial: V;
  readonly expire_ms: number | undefined;
  readonly after: "write" | "use";
}

/** The states that a function names, by the names that it calls them. */
export type States = Readonly<Record<string, State>>;

/** The values of some states. */
export type ValuesOf<S extends States> = {
  readonly [A in keyof S]: S[A] extends State<string, infer V> ? V : never;
};

/**
 * Declares a state: `defineState("counter", 0)`, or `defineState("basket", [] as readonly Item[], { expire: "1 hour" })`.
 * @param name letters, digits, `_` and `-`, starting with a letter; it is what is stored
 * @param initial plain data; it is frozen. Keys hold it until something else is written, and again after that expired
 * @throws KeyturnError `invalid_options`, `invalid_address` for the name
 */
export function defineState<const N extends string, V>(
  name: N,
  initial: V,
  options: StateOptions = {},
): State<N, V> {
  checkType(name);
  const { expire, after = "write" } = options;
  try {
    seal(initial, `the initial value of "${name}"`);
  } catch (fault) {
    if (fault instanceof ValueFault)
      throw new KeyturnError("invalid_options", fault.message, { cause: fault });
    throw fault;
  }
  const expire_ms = expire === undefined ? undefined : durationOf(expire, `expire of "${name}"`);
  if (expire_ms === 0 || (after !== "write" && after !== "use"))
    throw new KeyturnError(
      "invalid_options",
      `The state "${name}" expires after 1 ms at least, counted from its last "write" or "use".`,
    );
  return Object.freeze({ name, initial, expire_ms, after });
}
