/**
 * Configurations: the bookkeeping of the linearizability search.
 *
 * Owns two structures: the list of events whose operations are not yet placed,
 * and the memory of configurations already visited. Used by `linearizability.ts`
 * alone; knows nothing of models.
 *
 * Invariants
 *  1. The list holds call and return of exactly the operations that are not
 *     lifted, in the order of the history, and `unlift` undoes the last `lift`.
 *  2. The memory never drops a configuration that could reach more than one it
 *     has: same ok operations, same state, and a superset of the unknown ones.
 */

import type { Operation } from "./history.ts";

/**
 * Calls and returns as a doubly linked list in arrays. Of n operations, node 0
 * is the head, 1 + i the call of operation i, 1 + n + i its return, and the last
 * one the end. A lifted node keeps its own links, which is what undoes it.
 */
export class EventList {
  readonly #count: number;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #returnOrders: Float64Array;

  /**
   * `operations` in call order, all returned. Throws a `RangeError` if one has
   * no return after its call.
   */
  constructor(operations: readonly Operation[]) {
    const count = operations.length;
    const end = 2 * count + 1;
    const orders = new Float64Array(end + 1);
    this.#count = count;
    this.#returnOrders = new Float64Array(count);
    for (const [index, { id, callOrder, returnOrder }] of operations.entries()) {
      if (returnOrder === undefined || !(returnOrder > callOrder)) {
        throw new RangeError(`operation #${id} is ok but has no return after its call`);
      }
      orders[1 + index] = callOrder;
      orders[1 + count + index] = returnOrder;
      this.#returnOrders[index] = returnOrder;
    }
    const events = Int32Array.from({ length: 2 * count }, (_, index) => index + 1);
    events.sort((left, right) => at(orders, left) - at(orders, right));
    this.#next = new Int32Array(end + 1);
    this.#previous = new Int32Array(end + 1);
    let last = 0;
    for (const event of [...events, end]) {
      this.#next[last] = event;
      this.#previous[event] = last;
      last = event;
    }
  }

  /** The operation of the first call in the list; the number of operations if empty. */
  firstOperation(): number {
    // A return never comes before its own call, so the list starts with a call.
    const first = at(this.#next, 0);
    return first > this.#count ? this.#count : first - 1;
  }

  /** The operation of the first return: the one that has to be placed first. */
  firstReturned(): number {
    let node = at(this.#next, 0);
    while (this.#isCall(node)) node = at(this.#next, node);
    return node - 1 - this.#count;
  }

  /**
   * The operations that may be placed next, which are those called before the
   * first return, and the order of that return, infinite if the list is empty.
   */
  candidates(): { readonly certain: number[]; readonly deadline: number } {
    const certain: number[] = [];
    let node = at(this.#next, 0);
    for (; this.#isCall(node); node = at(this.#next, node)) certain.push(node - 1);
    const deadline = this.#returnOrders[node - 1 - this.#count] ?? Number.POSITIVE_INFINITY;
    return { certain, deadline };
  }

  lift(operation: number): void {
    this.#unlink(1 + operation);
    this.#unlink(1 + this.#count + operation);
  }

  unlift(operation: number): void {
    this.#relink(1 + this.#count + operation);
    this.#relink(1 + operation);
  }

  #isCall(node: number): boolean {
    return node <= this.#count && node > 0;
  }

  #unlink(node: number): void {
    this.#next[at(this.#previous, node)] = at(this.#next, node);
    this.#previous[at(this.#next, node)] = at(this.#previous, node);
  }

  #relink(node: number): void {
    this.#next[at(this.#previous, node)] = node;
    this.#previous[at(this.#next, node)] = node;
  }
}

/** Unknown sets remembered for one set of ok operations and one state. */
const unknownSetsMax = 64;

/**
 * The set of operations placed so far, as two bitsets (ok and unknown), and all
 * the sets it has been in, by state.
 */
export class Memo {
  readonly #certainCount: number;
  readonly #certain: Uint16Array;
  readonly #unknown: Uint32Array;
  readonly #stateIds = new Map<string, number>();
  /** By ok operations and state: unknown sets, none of which contains another. */
  readonly #visited = new Map<string, Uint32Array[]>();

  constructor(certainCount: number, unknownCount: number) {
    this.#certainCount = certainCount;
    // 16 bits a word: one character of the key each.
    this.#certain = new Uint16Array((certainCount >> 4) + 1);
    this.#unknown = new Uint32Array((unknownCount + 31) >> 5);
  }

  /** Adds or removes one operation; unknown ones come after the ok ones. */
  flip(operation: number): void {
    const unknown = operation - this.#certainCount;
    if (unknown < 0) {
      this.#certain[operation >> 4] = at(this.#certain, operation >> 4) ^ (1 << (operation & 15));
    } else {
      this.#unknown[unknown >> 5] = at(this.#unknown, unknown >> 5) ^ (1 << (unknown & 31));
    }
  }

  hasUnknown(unknown: number): boolean {
    return (at(this.#unknown, unknown >> 5) & (1 << (unknown & 31))) !== 0;
  }

  /**
   * Remembers the current set in a state; false if one at least as able was
   * visited. `base` is the first ok operation not in the set and `top` the last
   * one in it: all the bits outside are known, so long histories have short keys.
   */
  add(base: number, top: number, stateKey: string): boolean {
    let stateId = this.#stateIds.get(stateKey);
    if (stateId === undefined) {
      stateId = this.#stateIds.size;
      this.#stateIds.set(stateKey, stateId);
    }
    let key = `${base},${stateId},`;
    for (let word = base >> 4; word <= top >> 4; word++) {
      key += String.fromCharCode(at(this.#certain, word));
    }
    const seen = this.#visited.get(key);
    if (seen === undefined) {
      this.#visited.set(key, [this.#unknown.slice()]);
      return true;
    }
    if (seen.some((set) => isSubset(set, this.#unknown))) return false;
    const kept = seen.filter((set) => !isSubset(this.#unknown, set));
    kept.push(this.#unknown.slice());
    // Forgetting one costs a second visit at worst; comparing with thousands at
    // every step would cost more.
    if (kept.length > unknownSetsMax) kept.shift();
    this.#visited.set(key, kept);
    return true;
  }
}

/**
 * For each input the index of the previous equal one, or -1. Equal inputs do the
 * same thing, so their operations can stand in for one another.
 */
export function previousTwins(inputs: readonly unknown[]): number[] {
  const lastOfClass: number[] = [];
  return inputs.map((input, index) => {
    const found = lastOfClass.findIndex((last) => isSameData(inputs[last], input));
    if (found < 0) {
      lastOfClass.push(index);
      return -1;
    }
    const previous = lastOfClass[found] as number;
    lastOfClass[found] = index;
    return previous;
  });
}

/** Equality of plain data. When in doubt, false: that costs time, not truth. */
function isSameData(left: unknown, right: unknown): boolean {
  if (Object.is(left, right)) return true;
  if (!isPlain(left) || !isPlain(right) || Array.isArray(left) !== Array.isArray(right)) {
    return false;
  }
  const names = Object.keys(left);
  return (
    names.length === Object.keys(right).length &&
    names.every((name) => Object.hasOwn(right, name) && isSameData(left[name], right[name]))
  );
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === Array.prototype || prototype === null;
}

function isSubset(inner: Uint32Array, outer: Uint32Array): boolean {
  return inner.every((word, index) => (word & ~at(outer, index)) === 0);
}

/** Indexes here come from the structures themselves, so they are in bounds. */
function at(array: Int32Array | Uint32Array | Uint16Array | Float64Array, index: number): number {
  return array[index] as number;
}
