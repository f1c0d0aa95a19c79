/**
 * States that follow each other, with everything that is equal shared: a component that shows a part of a state is not
 * drawn again while that part is the same. What comes out is frozen.
 *
 * Owns that walk over plain objects and lists; whatever else a value holds is new each time.
 */

/** A value equal to `next`, made of as much of `known` as is equal. */
export function shared(known: unknown, next: unknown): unknown {
  if (Object.is(known, next) || typeof next !== "object" || next === null) return next;
  if (Array.isArray(next)) return sharedList(Array.isArray(known) ? known : [], next);
  if (Object.getPrototypeOf(next) !== Object.prototype) return next;
  const isRecord = typeof known === "object" && known !== null && !Array.isArray(known);
  return sharedRecord(isRecord ? (known as Fields) : undefined, next as Fields);
}

type Fields = Readonly<Record<string, unknown>>;

function sharedList(known: readonly unknown[], next: readonly unknown[]): readonly unknown[] {
  let isSame = known.length === next.length;
  const list = next.map((value, at) => {
    const one = shared(known[at], value);
    if (!Object.is(one, known[at])) isSame = false;
    return one;
  });
  return isSame && Object.isFrozen(known) ? known : Object.freeze(list);
}

function sharedRecord(known: Fields | undefined, next: Fields): Fields {
  const names = Object.keys(next);
  let isSame = known !== undefined && Object.keys(known).length === names.length && Object.isFrozen(known);
  const record: Record<string, unknown> = {};
  for (const name of names) {
    const before = known !== undefined && Object.hasOwn(known, name) ? known[name] : undefined;
    const one = shared(before, next[name]);
    record[name] = one;
    if (!(known !== undefined && Object.hasOwn(known, name) && Object.is(one, before))) isSame = false;
  }
  return isSame ? (known as Fields) : Object.freeze(record);
}
