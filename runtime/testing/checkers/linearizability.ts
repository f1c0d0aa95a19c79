/**
 * Linearizability: is there an order of the operations that a single copy could
 * have executed, in which nothing that returned before another was called comes
 * after it?
 *
 * Owns the search. Reads a history (`history.ts`), runs a model (`models.ts`),
 * keeps its books in `configurations.ts`.
 *
 * Method: Wing and Gong's search ("Testing and verifying concurrent objects",
 * 1993) with Lowe's memory of visited configurations ("Testing for
 * linearizability", 2017), as in Porcupine. Keys are independent objects, and
 * linearizability is local, so each key is searched alone (Herlihy and Wing).
 *
 * Invariants
 *  1. A failed operation takes no part.
 *  2. Every ok operation is in the order once, between its call and its return.
 *  3. An unknown operation is in the order once or not at all, after its call,
 *     with any reply.
 *  4. The answer `ok: true` comes with a complete order, `ok: false` only from an
 *     exhausted search; everything else is `ok: "undecided"`.
 *  5. No recursion: depth is bounded by memory, not by the call stack.
 *
 * What makes it fast, and why it stays exact:
 *  - A read-only operation that fits is taken at once: moving it forward changes
 *    no state that another operation sees, so no other choice needs a try.
 *  - A configuration with the same ok operations and the same state as one seen
 *    before, having used up more of the unknown ones, can do nothing more than
 *    the other, and is dropped.
 *  - Of unknown operations with equal input only the earliest is tried: wherever
 *    a later one could be placed, the earlier one could be too.
 *  - Ok operations are tried first: most unknown ones are never needed.
 */

import { EventList, Memo, previousTwins } from "./configurations.ts";
import { describeOperation, type Operation, partitionByKey, show } from "./history.ts";
import type { Model } from "./models.ts";

export interface LinearizabilityOptions {
  /** Model steps to spend on one key before giving up; default 250,000. */
  readonly stepsMax?: number;
}

/**
 * Compare `ok` with `true`: "undecided" is a truthy text, so `if (result.ok)`
 * would take it for a pass. `assertLinearizable` cannot be misread.
 */
export type LinearizabilityResult<Input, Output> =
  | { readonly ok: true; readonly steps: number }
  | {
      readonly ok: false;
      readonly key: string;
      readonly message: string;
      /** The longest order found, from the start. */
      readonly longestPrefix: readonly Operation<Input, Output>[];
      /**
       * What could not follow that prefix: first the operation that had to come
       * before its return, then those which could have come before it instead.
       */
      readonly offending: readonly Operation<Input, Output>[];
      readonly steps: number;
    }
  | {
      readonly ok: "undecided";
      readonly keys: readonly string[];
      readonly message: string;
      readonly steps: number;
    };

interface Violation<Input, Output> {
  readonly ok: false;
  readonly longestPrefix: Operation<Input, Output>[];
  readonly offending: Operation<Input, Output>[];
  readonly state: string;
}

type Verdict<Input, Output> = { readonly ok: true } | { readonly ok: "undecided" } | Violation<Input, Output>;

/**
 * Checks a history of many keys. A violation on any key outweighs an undecided
 * one. Throws a `RangeError` if an ok operation has no return after its call.
 */
export function checkLinearizability<State, Input, Output>(
  operations: readonly Operation<Input, Output>[],
  model: Model<State, Input, Output>,
  options: LinearizabilityOptions = {},
): LinearizabilityResult<Input, Output> {
  const stepsMax = options.stepsMax ?? 250_000;
  const undecided: string[] = [];
  let steps = 0;
  for (const [key, partition] of partitionByKey(operations)) {
    const search = new KeySearch(partition, model.narrow?.(partition) ?? model, stepsMax);
    const verdict = search.run();
    steps += search.steps;
    if (verdict.ok === "undecided") undecided.push(key);
    if (verdict.ok !== false) continue;
    const { longestPrefix, offending, state } = verdict;
    const message =
      `${model.name} ${show(key)} is not linearizable: after ${longestPrefix.length} operations ` +
      `in state ${state}, none of these can come next: ${offending.map(describeOperation).join("; ")}`;
    return { ok: false, key, message, longestPrefix, offending, steps };
  }
  if (undecided.length === 0) return { ok: true, steps };
  const message = `${model.name}: undecided after ${stepsMax} steps a key: ${show(undecided)}`;
  return { ok: "undecided", keys: undecided, message, steps };
}

/** Throws an `Error` with the message of the result unless it is `ok: true`. */
export function assertLinearizable<State, Input, Output>(
  operations: readonly Operation<Input, Output>[],
  model: Model<State, Input, Output>,
  options: LinearizabilityOptions = {},
): void {
  const result = checkLinearizability(operations, model, options);
  if (result.ok !== true) throw new Error(result.message);
}

/** One configuration on the way: a state, what led to it, what is left to try. */
interface Frame<State> {
  readonly state: State;
  /** Index of the operation that led here, -1 for the root. */
  readonly taken: number;
  /** Highest index of an ok operation taken so far. */
  readonly takenMax: number;
  readonly candidates: readonly number[];
  candidateNext: number;
}

/**
 * The search on one key. Ok operations have indexes 0 to `certain.length - 1` in
 * call order; the unknown ones follow, in call order too. Calls and returns of
 * the ok operations that are not yet taken form a doubly linked list, so that
 * taking one and giving it back costs a few writes.
 */
class KeySearch<State, Input, Output> {
  steps = 0;
  readonly #model: Model<State, Input, Output>;
  readonly #stepsMax: number;
  readonly #certain: readonly Operation<Input, Output>[];
  readonly #unknown: readonly Operation<Input, Output>[];
  readonly #readOnly: readonly boolean[];
  /** For each unknown operation the index of the previous one with equal input, or -1. */
  readonly #twins: readonly number[];
  readonly #list: EventList;
  readonly #memo: Memo;
  readonly #frames: Frame<State>[] = [];

  constructor(
    operations: readonly Operation<Input, Output>[],
    model: Model<State, Input, Output>,
    stepsMax: number,
  ) {
    const byCall = [...operations].sort((left, right) => left.callOrder - right.callOrder);
    this.#model = model;
    this.#stepsMax = stepsMax;
    this.#certain = byCall.filter(({ outcome }) => outcome === "ok");
    this.#unknown = byCall.filter(({ outcome }) => outcome === "unknown");
    this.#readOnly = this.#certain.map(
      ({ input, output }) => model.isReadOnly?.(input, output ?? null) ?? false,
    );
    this.#twins = previousTwins(this.#unknown.map(({ input }) => input));
    this.#list = new EventList(this.#certain);
    this.#memo = new Memo(this.#certain.length, this.#unknown.length);
  }

  run(): Verdict<Input, Output> {
    let left = this.#certain.length;
    if (left === 0) return { ok: true };
    let longest = this.#blocked(this.#enter(this.#model.init(), -1, -1));
    let depthMax = 1;
    for (;;) {
      const frame = this.#frames.at(-1) as Frame<State>;
      if (frame.candidateNext < frame.candidates.length) {
        if (this.steps >= this.#stepsMax) return { ok: "undecided" };
        const taken = this.#advance(frame);
        if (taken !== undefined && this.#isCertain(taken)) left--;
        if (left === 0) return { ok: true };
        continue;
      }
      // Only here, on the way back, can the stack be the longest so far; copying
      // it on the way forward would cost a square of the length.
      if (this.#frames.length > depthMax) {
        depthMax = this.#frames.length;
        longest = this.#blocked(frame);
      }
      if (frame.taken < 0) return longest;
      this.#frames.pop();
      this.#untake(frame.taken);
      if (this.#isCertain(frame.taken)) left++;
    }
  }

  /** Tries the next candidate; its index if the search went forward with it. */
  #advance(frame: Frame<State>): number | undefined {
    const candidate = frame.candidates[frame.candidateNext++] as number;
    const { input, output, outcome } = this.#operation(candidate);
    // A hand-made history may lack the null; undefined would accept any reply.
    const reply = outcome === "ok" ? (output ?? null) : undefined;
    this.steps++;
    const step = this.#model.step(frame.state, input, reply);
    if (!step.ok) return undefined;
    if (this.#readOnly[candidate] === true) frame.candidateNext = frame.candidates.length;
    this.#take(candidate);
    const takenMax = this.#isCertain(candidate) ? Math.max(frame.takenMax, candidate) : frame.takenMax;
    const base = this.#list.firstOperation();
    if (!this.#memo.add(base, takenMax, this.#model.stateKey(step.state))) {
      this.#untake(candidate);
      return undefined;
    }
    this.#enter(step.state, candidate, takenMax);
    return candidate;
  }

  #enter(state: State, taken: number, takenMax: number): Frame<State> {
    const { certain, deadline } = this.#list.candidates();
    const candidates: number[] = [];
    for (const index of certain) if (this.#readOnly[index] === true) candidates.push(index);
    for (const index of certain) if (this.#readOnly[index] !== true) candidates.push(index);
    for (const [offset, { callOrder }] of this.#unknown.entries()) {
      if (callOrder > deadline) break;
      if (this.#memo.hasUnknown(offset)) continue;
      const twin = this.#twins[offset] as number;
      if (twin >= 0 && !this.#memo.hasUnknown(twin)) continue;
      candidates.push(this.#certain.length + offset);
    }
    const frame = { state, taken, takenMax, candidates, candidateNext: 0 };
    this.#frames.push(frame);
    return frame;
  }

  #operation(index: number): Operation<Input, Output> {
    const operation = this.#isCertain(index)
      ? this.#certain[index]
      : this.#unknown[index - this.#certain.length];
    return operation as Operation<Input, Output>;
  }

  #isCertain(index: number): boolean {
    return index < this.#certain.length;
  }

  #take(index: number): void {
    if (this.#isCertain(index)) this.#list.lift(index);
    this.#memo.flip(index);
  }

  #untake(index: number): void {
    this.#memo.flip(index);
    if (this.#isCertain(index)) this.#list.unlift(index);
  }

  #blocked(frame: Frame<State>): Violation<Input, Output> {
    const prefix = this.#frames.slice(1).map(({ taken }) => this.#operation(taken));
    const due = this.#list.firstReturned();
    const others = frame.candidates.filter((index) => index !== due);
    return {
      ok: false,
      longestPrefix: prefix,
      offending: [due, ...others].map((index) => this.#operation(index)),
      state: show(frame.state),
    };
  }
}
