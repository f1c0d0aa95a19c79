/**
 * Checks of histories: what can be said of a run without a search.
 *
 * Owns one pure function for each promise that shows in calls and replies; each
 * lists what is wrong. Its sibling `final-checks.ts` does the same for promises
 * that show in what is left at the end. Reads `history.ts`, talks to nobody.
 *
 * Invariants
 *  1. No violation is reported that a correct run could have produced, whatever
 *     happened to its unknown operations.
 *  2. An empty list means that nothing was found, not that nothing was looked
 *     at: a key that should be in the final data and is not counts as empty.
 *  3. A violation names the values and operations that prove it.
 */

import { describeOperation, type Operation, partitionByKey, show } from "./history.ts";
import type { CounterInput, ListInput, ListOutput, Scalar } from "./models.ts";

/** Something that must not happen, happened. `key` is empty if it concerns all keys. */
export interface Violation {
  readonly check: string;
  readonly key: string;
  readonly message: string;
}

/** What was left at the end, by key. */
export type Final<Value> = ReadonlyMap<string, Value>;

export type SetInput =
  | { readonly type: "add"; readonly value: Scalar }
  | { readonly type: "append"; readonly value: Scalar }
  | { readonly type: "read" };

interface Attempts {
  acknowledged: number;
  unknown: number;
  /** Order of the earliest acknowledgement and of the earliest call. */
  acknowledgedOrder: number;
  callOrder: number;
}

/**
 * Set-add with a final read: an acknowledged value is in it (else lost), no value
 * is in it more often than it was added (duplicated), nothing is in it that was
 * never added, or only by failed operations (phantom). Reads on the way must hold
 * what was acknowledged before they began (else stale), and nothing that was not
 * yet added (phantom). Append-list histories fit too. Jepsen's `set` and `set-full`.
 */
export function checkSetAdd(
  operations: readonly Operation<SetInput>[],
  final: Final<readonly Scalar[]>,
): Violation[] {
  const violations: Violation[] = [];
  const partitions = partitionByKey(operations);
  for (const key of new Set([...partitions.keys(), ...final.keys()])) {
    const report = reporter(violations, "set-add", key);
    const partition = partitions.get(key) ?? [];
    const attempts = attemptsByValue(partition);
    const counts = countByValue(final.get(key) ?? []);
    for (const [value, { acknowledged, unknown }] of attempts) {
      const count = counts.get(value) ?? 0;
      const added = `acknowledged ${acknowledged} times, unknown ${unknown} times`;
      if (count < acknowledged) report(`lost: ${show(value)} is there ${count} times, ${added}`);
      const isDuplicated = count > acknowledged + unknown && acknowledged + unknown > 0;
      if (isDuplicated) report(`duplicated: ${show(value)} is there ${count} times, ${added}`);
    }
    for (const value of counts.keys()) {
      const { acknowledged, unknown } = attempts.get(value) ?? { acknowledged: 0, unknown: 0 };
      if (acknowledged + unknown > 0) continue;
      const why = attempts.has(value) ? "was only refused" : "was never added";
      report(`phantom: ${show(value)} is there but ${why}`);
    }
    for (const read of partition) {
      if (read.outcome !== "ok" || read.input.type !== "read") continue;
      checkSetRead(read, attempts, report);
    }
  }
  return violations;
}

function checkSetRead(
  read: Operation<SetInput>,
  attempts: ReadonlyMap<Scalar, Attempts>,
  report: (message: string) => void,
): void {
  if (!Array.isArray(read.output)) {
    report(`no set: ${describeOperation(read)}`);
    return;
  }
  const seen = new Set<Scalar>(read.output as Scalar[]);
  for (const [value, { acknowledgedOrder }] of attempts) {
    if (acknowledgedOrder >= read.callOrder || seen.has(value)) continue;
    report(`stale: ${show(value)} was acknowledged before ${describeOperation(read)}`);
  }
  for (const value of seen) {
    const callOrder = attempts.get(value)?.callOrder ?? Number.POSITIVE_INFINITY;
    if (callOrder < (read.returnOrder ?? Number.POSITIVE_INFINITY)) continue;
    report(`phantom: ${show(value)} was not added before ${describeOperation(read)}`);
  }
}

function attemptsByValue(operations: readonly Operation<SetInput>[]): Map<Scalar, Attempts> {
  const attempts = new Map<Scalar, Attempts>();
  for (const { input, outcome, callOrder, returnOrder } of operations) {
    if (input.type === "read") continue;
    const entry = attempts.get(input.value) ?? {
      acknowledged: 0,
      unknown: 0,
      acknowledgedOrder: Number.POSITIVE_INFINITY,
      callOrder: Number.POSITIVE_INFINITY,
    };
    attempts.set(input.value, entry);
    if (outcome === "failed") continue;
    entry.callOrder = Math.min(entry.callOrder, callOrder);
    if (outcome === "unknown") entry.unknown++;
    else {
      entry.acknowledged++;
      const order = returnOrder ?? Number.POSITIVE_INFINITY;
      entry.acknowledgedOrder = Math.min(entry.acknowledgedOrder, order);
    }
  }
  return attempts;
}

/**
 * Counter: the final total is what was acknowledged, give or take the unknown
 * additions; every reply lies between the least and the most that can have been
 * applied at that moment; where all additions have one sign, no two of them reply
 * with the same total. Compares with a tolerance of nothing: use whole numbers.
 */
export function checkCounter(
  operations: readonly Operation<CounterInput, number>[],
  final: Final<number>,
  initial = 0,
): Violation[] {
  const violations: Violation[] = [];
  const partitions = partitionByKey(operations);
  for (const key of new Set([...partitions.keys(), ...final.keys()])) {
    const report = reporter(violations, "counter", key);
    const partition = (partitions.get(key) ?? []).filter(({ outcome }) => outcome !== "failed");
    checkCounterReplies(partition, initial, report);
    checkCounterUnique(partition, report);
    let acknowledged = initial;
    let unknownLow = 0;
    let unknownHigh = 0;
    for (const operation of partition) {
      const amount = amountOf(operation);
      if (operation.outcome === "ok") acknowledged += amount;
      else if (amount < 0) unknownLow += amount;
      else unknownHigh += amount;
    }
    const total = final.get(key) ?? initial;
    const low = acknowledged + unknownLow;
    const high = acknowledged + unknownHigh;
    // Negated, so that NaN is a violation.
    if (!(total >= low && total <= high)) {
      report(`final total ${total}, acknowledged ${acknowledged}, possible ${low} to ${high}`);
    }
  }
  return violations;
}

/**
 * One pass over calls and returns. What returned before an operation was called
 * is in its reply for certain; what was called before it returned may be.
 */
function checkCounterReplies(
  operations: readonly Operation<CounterInput, number>[],
  initial: number,
  report: (message: string) => void,
): void {
  const events = operations.flatMap((operation) => {
    const call = { order: operation.callOrder, operation, isCall: true };
    if (operation.outcome !== "ok" || operation.returnOrder === undefined) return [call];
    return [call, { order: operation.returnOrder, operation, isCall: false }];
  });
  events.sort((left, right) => left.order - right.order);
  const called = { low: 0, high: 0 };
  const returned = { low: 0, high: 0 };
  const returnedAtCall = new Map<number, { low: number; high: number }>();
  for (const { operation, isCall } of events) {
    const amount = amountOf(operation);
    const side = amount < 0 ? "low" : "high";
    if (isCall) {
      called[side] += amount;
      returnedAtCall.set(operation.id, { ...returned });
      continue;
    }
    const certain = returnedAtCall.get(operation.id) as { low: number; high: number };
    returned[side] += amount;
    // Its own addition is in its reply, not merely possible.
    const own = { low: Math.min(0, amount), high: Math.max(0, amount) };
    const low = initial + certain.high + called.low + own.high;
    const high = initial + certain.low + called.high + own.low;
    const reply = operation.output;
    if (typeof reply === "number" && reply >= low && reply <= high) continue;
    report(`reply outside ${low} to ${high}: ${describeOperation(operation)}`);
  }
}

function checkCounterUnique(
  operations: readonly Operation<CounterInput, number>[],
  report: (message: string) => void,
): void {
  const adds = operations.filter(({ input }) => input.type === "add");
  const isOneSign = adds.every((add) => amountOf(add) > 0) || adds.every((add) => amountOf(add) < 0);
  if (!isOneSign) return;
  const byTotal = new Map<number, Operation<CounterInput, number>>();
  for (const add of adds) {
    if (add.outcome !== "ok" || typeof add.output !== "number") continue;
    const other = byTotal.get(add.output);
    if (other === undefined) byTotal.set(add.output, add);
    else report(`same total twice: ${describeOperation(other)}; ${describeOperation(add)}`);
  }
}

function amountOf({ input }: Operation<CounterInput, number>): number {
  return input.type === "add" ? input.amount : 0;
}

/**
 * Append list: all reads of a key are prefixes of one another and of the final
 * list (without one, of the longest read), and a read is never shorter than one that returned before it was called.
 * Contents are the business of `checkSetAdd`. Jepsen's `append`, one key at a time.
 */
export function checkAppendList(
  operations: readonly Operation<ListInput, ListOutput>[],
  final?: Final<readonly Scalar[]>,
): Violation[] {
  const violations: Violation[] = [];
  for (const [key, partition] of partitionByKey(operations)) {
    const report = reporter(violations, "append-list", key);
    const reads = partition.filter(({ input, outcome }) => input.type === "read" && outcome === "ok");
    const list = final === undefined ? longestOf(reads) : (final.get(key) ?? []);
    // Prefixes of one list are prefixes of one another.
    for (const read of reads) {
      const seen = entriesOf(read);
      const index = seen.findIndex((value, position) => value !== list[position]);
      if (index < 0 && Array.isArray(read.output)) continue;
      const there = index < list.length ? show(list[index]) : "nothing";
      report(`no prefix of the list, which has ${there} at ${index}: ${describeOperation(read)}`);
    }
    checkNeverShorter(reads, report);
  }
  return violations;
}

function checkNeverShorter(
  reads: readonly Operation<ListInput, ListOutput>[],
  report: (message: string) => void,
): void {
  const byReturn = reads
    .filter(({ returnOrder }) => returnOrder !== undefined)
    .sort((left, right) => Number(left.returnOrder) - Number(right.returnOrder));
  const byCall = [...reads].sort((left, right) => left.callOrder - right.callOrder);
  let longest: Operation<ListInput, ListOutput> | undefined;
  let returnNext = 0;
  for (const read of byCall) {
    for (; returnNext < byReturn.length; returnNext++) {
      const earlier = byReturn[returnNext] as Operation<ListInput, ListOutput>;
      if (Number(earlier.returnOrder) >= read.callOrder) break;
      if (longest === undefined || entriesOf(earlier).length > entriesOf(longest).length) {
        longest = earlier;
      }
    }
    if (longest === undefined || entriesOf(read).length >= entriesOf(longest).length) continue;
    report(`went back: ${describeOperation(read)}, after ${describeOperation(longest)}`);
  }
}

function longestOf(reads: readonly Operation<ListInput, ListOutput>[]): readonly Scalar[] {
  let longest: readonly Scalar[] = [];
  for (const read of reads) {
    if (entriesOf(read).length > longest.length) longest = entriesOf(read);
  }
  return longest;
}

function entriesOf({ output }: Operation<ListInput, ListOutput>): readonly Scalar[] {
  return Array.isArray(output) ? output : [];
}

/** Gives every violation of one check on one key the same head. */
export function reporter(violations: Violation[], check: string, key: string): (message: string) => void {
  return (message) => {
    violations.push({ check, key, message: `${check} ${show(key)}: ${message}` });
  };
}

function countByValue<Value>(values: readonly Value[]): Map<Value, number> {
  const counts = new Map<Value, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}
