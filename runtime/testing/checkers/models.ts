/**
 * Sequential models: what one key does when its operations come one by one.
 *
 * Owns the meaning of register, counter and append list. `linearizability.ts`
 * runs them; nobody else needs to. A model is pure data and functions.
 *
 * Invariants
 *  1. `step` depends on its arguments alone and leaves the state unchanged.
 *  2. With an unknown outcome (`output === undefined`) `step` accepts whatever
 *     reply the operation may have had. A narrowed model may still refuse it
 *     where applying it can make no difference.
 *  3. Equal `stateKey`s mean that no later operation can tell the states apart.
 */

import type { Operation } from "./history.ts";

export type Step<State> = { readonly ok: true; readonly state: State } | { readonly ok: false };

/**
 * A sequential specification. `output` is the recorded reply, `null` for an
 * acknowledgement without a value, `undefined` for an unknown outcome.
 */
export interface Model<State, Input, Output> {
  readonly name: string;
  init(): State;
  step(state: State, input: Input, output: Output | null | undefined): Step<State>;
  stateKey(state: State): string;
  /**
   * True only if an operation with this input and reply changes no state,
   * whichever state it meets. It spares the search: such an operation is taken
   * as soon as it fits.
   */
  isReadOnly?(input: Input, output: Output | null): boolean;
  /**
   * A model for this history of one key alone: it may refuse steps, and treat
   * states as equal, where this history leaves no room for a difference. It must
   * accept the same histories as the full model.
   */
  narrow?(operations: readonly Operation<Input, Output>[]): Model<State, Input, Output>;
}

export type Scalar = string | number | boolean | null;

const refused: { readonly ok: false } = { ok: false };

export type RegisterInput =
  | { readonly type: "read" }
  | { readonly type: "write"; readonly value: Scalar }
  | { readonly type: "compareAndSet"; readonly expected: Scalar; readonly value: Scalar };

/** Read: the value. Write: not looked at. Compare-and-set: whether it was set. */
export type RegisterOutput = Scalar;

/** One value with read, write and compare-and-set. Jepsen's `cas-register`. */
export function registerModel(initial: Scalar = null): Model<Scalar, RegisterInput, RegisterOutput> {
  return {
    name: "register",
    init: () => initial,
    step(state, input, output) {
      switch (input.type) {
        case "read":
          return output === undefined || output === state ? { ok: true, state } : refused;
        case "write":
          return { ok: true, state: input.value };
        case "compareAndSet": {
          const isSet = state === input.expected;
          if (output !== undefined && output !== isSet) return refused;
          return { ok: true, state: isSet ? input.value : state };
        }
      }
    },
    // JSON would write NaN and null alike, hence the type in front.
    stateKey: (state) => `${typeof state}:${String(state)}`,
    isReadOnly: (input, output) =>
      input.type === "read" || (input.type === "compareAndSet" && output === false),
  };
}

export type CounterInput = { readonly type: "add"; readonly amount: number } | { readonly type: "read" };

/** Both operations reply with the total, the addition with the one after it. */
export function counterModel(initial = 0): Model<number, CounterInput, number> {
  return {
    name: "counter",
    init: () => initial,
    step(state, input, output) {
      const total = input.type === "add" ? state + input.amount : state;
      return output === undefined || output === total ? { ok: true, state: total } : refused;
    },
    stateKey: String,
    isReadOnly: (input) => input.type === "read" || input.amount === 0,
  };
}

export type ListInput = { readonly type: "append"; readonly value: Scalar } | { readonly type: "read" };

/** Read: all entries. Append: the new length, or `null` if it replies nothing. */
export type ListOutput = number | readonly Scalar[];

type ListModel = Model<readonly Scalar[], ListInput, ListOutput>;

/** A list that only grows, starting empty. Jepsen's `append`, one key at a time. */
export function listModel(): ListModel {
  return {
    ...listModelAlong([], Number.POSITIVE_INFINITY),
    stateKey: (state) => JSON.stringify(state),
    // The list only grows, and the longest acknowledged read is in every
    // linearization: all states up to its length are its prefixes, and what
    // comes beyond is never read. So the length alone tells the states of this
    // history apart. Without this, ten concurrent appends are tried in 10! orders.
    narrow(operations) {
      let longest: readonly Scalar[] = [];
      let lengthMax = 0;
      for (const { outcome, output } of operations) {
        if (outcome !== "ok") continue;
        if (typeof output === "number") lengthMax = Math.max(lengthMax, output);
        if (Array.isArray(output) && output.length > longest.length) longest = output;
      }
      return listModelAlong(longest, Math.max(lengthMax, longest.length));
    },
  };
}

/**
 * `order` is how the list is known to begin. No reply speaks of a list longer
 * than `lengthMax`, so no unknown append is needed to make it longer.
 */
function listModelAlong(order: readonly Scalar[], lengthMax: number): ListModel {
  return {
    name: "append list",
    init: () => [],
    step(state, input, output) {
      if (input.type === "read") {
        const fits = output === undefined || (Array.isArray(output) && isSameList(state, output));
        return fits ? { ok: true, state } : refused;
      }
      const position = state.length;
      if (position < order.length && order[position] !== input.value) return refused;
      if (output === undefined && position >= lengthMax) return refused;
      // Acknowledged without a value is fine; with one, it is the new length.
      if (output !== undefined && output !== null && output !== position + 1) return refused;
      return { ok: true, state: [...state, input.value] };
    },
    stateKey: (state) => String(state.length),
    isReadOnly: (input) => input.type === "read",
  };
}

function isSameList(left: readonly Scalar[], right: readonly unknown[]): boolean {
  return left.length === right.length && left.every((value, index) => value === right[index]);
}
