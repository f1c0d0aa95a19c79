/**
 * History: what the clients of a run saw, in the order in which they saw it.
 *
 * Owns the shape of an operation and the recorder that builds it. The simulator
 * and the chaos tests write to it; the checkers only read. It talks to nobody.
 *
 * Invariants
 *  1. Every call and every return gets its own number from one counter, so two
 *     events at the same time are still ordered: by the order of recording.
 *  2. Time never goes backwards within one recorder, so the order of the
 *     counter is also an order of time. Checkers rely on the counter alone.
 *  3. An operation is settled at most once, and what is not settled is unknown:
 *     silence is never taken for "not applied".
 *  4. An unknown operation never returns. It may take effect at any time after
 *     its call, or not at all.
 */

/**
 * `ok`: applied, and the reply was seen. `failed`: certainly not applied, now or
 * later. `unknown`: anything else (timeout, lost connection, crashed client).
 */
export type Outcome = "ok" | "failed" | "unknown";

/** One operation of one client on one key. Times are in the unit handed in. */
export interface Operation<Input = unknown, Output = unknown> {
  /** Position in the recorder, from 0. */
  readonly id: number;
  readonly process: string;
  readonly key: string;
  readonly call: number;
  /** Position of the call among all events of the recorder. */
  readonly callOrder: number;
  /** `undefined` when the operation never returned, as for every unknown one. */
  readonly return: number | undefined;
  readonly returnOrder: number | undefined;
  readonly input: Input;
  readonly outcome: Outcome;
  /** The reply; `null` when acknowledged without a value, `undefined` unless ok. */
  readonly output: Output | null | undefined;
  /** Why an operation failed or is unknown. For people; checkers ignore it. */
  readonly detail: unknown;
}

/** What `begin` hands out and `ok`, `failed` or `unknown` take back, once. */
export interface OperationHandle {
  readonly id: number;
}

export interface HistoryRecorderOptions {
  /** Limit of operations kept; default one million. */
  readonly operationsMax?: number;
}

type Draft<Input, Output> = {
  -readonly [Field in keyof Operation<Input, Output>]: Operation<Input, Output>[Field];
} & { settled: boolean };

/**
 * Records one run. All clients of the run share one recorder, in one process:
 * that gives one counter, and makes "returned before the other was called" a
 * fact instead of a comparison of clocks.
 */
export class HistoryRecorder<Input = unknown, Output = unknown> {
  readonly #operationsMax: number;
  readonly #drafts: Draft<Input, Output>[] = [];
  #orderNext = 0;
  #timeLast = Number.NEGATIVE_INFINITY;

  constructor(options: HistoryRecorderOptions = {}) {
    this.#operationsMax = options.operationsMax ?? 1_000_000;
  }

  /** Operations begun so far, settled or not. */
  get size(): number {
    return this.#drafts.length;
  }

  /**
   * Records the call. To be called before the request leaves the client.
   * Throws a `RangeError` when `at` lies before an earlier event, or is no
   * number (use a monotonic clock), or when the limit of operations is reached.
   */
  begin(process: string, key: string, input: Input, at: number): OperationHandle {
    if (this.#drafts.length >= this.#operationsMax) {
      throw new RangeError(`history is limited to ${this.#operationsMax} operations`);
    }
    const callOrder = this.#stamp(at);
    const id = this.#drafts.length;
    this.#drafts.push({
      id,
      process,
      key,
      call: at,
      callOrder,
      return: undefined,
      returnOrder: undefined,
      input,
      outcome: "unknown",
      output: undefined,
      detail: undefined,
      settled: false,
    });
    return { id };
  }

  /**
   * The reply arrived. An absent output is kept as `null`, since `undefined`
   * means "any output" to the checkers and would accept every answer.
   */
  ok(handle: OperationHandle, output: Output | null | undefined, at: number): void {
    const draft = this.#settle(handle);
    draft.outcome = "ok";
    draft.output = output === undefined ? null : output;
    draft.returnOrder = this.#stamp(at);
    draft.return = at;
  }

  /** Certainly not applied, and never will be. `detail` is kept for people. */
  failed(handle: OperationHandle, detail: unknown, at: number): void {
    const draft = this.#settle(handle);
    draft.outcome = "failed";
    draft.detail = detail;
    draft.returnOrder = this.#stamp(at);
    draft.return = at;
  }

  /** The client gave up at `at`; the operation itself has no return (invariant 4). */
  unknown(handle: OperationHandle, detail: unknown, at: number): void {
    const draft = this.#settle(handle);
    this.#stamp(at);
    draft.detail = detail;
  }

  /** A copy of the history in call order. Operations still open are unknown. */
  operations(): Operation<Input, Output>[] {
    return this.#drafts.map(({ settled: _, ...operation }) => operation);
  }

  #settle(handle: OperationHandle): Draft<Input, Output> {
    const draft = this.#drafts[handle.id];
    if (draft === undefined) throw new RangeError(`no operation ${handle.id} was begun`);
    if (draft.settled) throw new Error(`operation ${describeOperation(draft)} is already settled`);
    draft.settled = true;
    return draft;
  }

  #stamp(at: number): number {
    // Written so that NaN is refused too.
    if (!(at >= this.#timeLast)) {
      throw new RangeError(`time went backwards: ${at} after ${this.#timeLast}`);
    }
    this.#timeLast = at;
    return this.#orderNext++;
  }
}

/** Splits a history by key; the order within a key is kept. */
export function partitionByKey<Input, Output>(
  operations: readonly Operation<Input, Output>[],
): Map<string, Operation<Input, Output>[]> {
  const partitions = new Map<string, Operation<Input, Output>[]>();
  for (const operation of operations) {
    const partition = partitions.get(operation.key);
    if (partition === undefined) partitions.set(operation.key, [operation]);
    else partition.push(operation);
  }
  return partitions;
}

/** One line for messages: `#7 client-1 "account/3" {"type":"read"} -> 5 [10..12]`. */
export function describeOperation(operation: Operation): string {
  const { id, process, key, input, outcome, output, call } = operation;
  const reply = outcome === "ok" ? show(output) : outcome;
  const end = operation.return ?? "";
  return `#${id} ${process} ${show(key)} ${show(input)} -> ${reply} [${call}..${end}]`;
}

/** Text of a recorded value for messages. Never throws, and never floods a log. */
export function show(value: unknown): string {
  const textLengthMax = 200;
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    // Cycles and bigints have no JSON; a message must not hide the violation.
    text = String(value);
  }
  return text.length <= textLengthMax ? text : `${text.slice(0, textLengthMax)}...`;
}
