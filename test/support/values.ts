/** Values that may be events, contexts and replies, and such that may not. */
import fc from "fast-check";

const text = fc.string({ unit: "binary", maxLength: 12 }).filter((s) => !/\p{Surrogate}/u.test(s));
const name = fc
  .oneof(text, fc.constantFrom("constructor", "toString", "hasOwnProperty", "length", "then", ""))
  .filter((s) => s !== "__proto__");

const leaf = fc.oneof(
  text,
  fc.integer(),
  fc.maxSafeInteger(),
  // msgpack writes -0 as 0.
  fc.double().map((n) => (n === 0 ? 0 : n)),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.date({ noInvalidDate: true }),
  fc.uint8Array({ maxLength: 20 }),
  fc.constantFrom(
    null,
    undefined,
    true,
    false,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ),
);

const errorClass = fc.constantFrom(
  Error,
  EvalError,
  RangeError,
  ReferenceError,
  SyntaxError,
  TypeError,
  URIError,
);

/** Errors as they are made and thrown: with causes, with a name of their own, with a code. */
const errorOf = (value: fc.Arbitrary<unknown>): fc.Arbitrary<Error> =>
  fc
    .record(
      {
        Class: errorClass,
        message: text,
        cause: value,
        errors: fc.array(value, { maxLength: 3 }),
        name: text,
        shownName: text,
        more: fc.dictionary(
          // What is named apart; a name that is no text, two errors are compared by its identity.
          name.filter((s) => !["stack", "name", "message", "cause", "errors"].includes(s)),
          value,
          { maxKeys: 3, noNullPrototype: true },
        ),
      },
      { requiredKeys: ["Class", "message", "more"], noNullPrototype: true },
    )
    .map(({ Class, message, errors, name: named, shownName, more, ...rest }) => {
      const error =
        errors === undefined
          ? new (Class as ErrorConstructor)(message, rest)
          : new AggregateError(errors, message, rest);
      if (named !== undefined)
        Object.defineProperty(error, "name", { value: named, configurable: true, writable: true });
      else if (shownName !== undefined) error.name = shownName;
      return Object.assign(error, more);
    });

/** Everything that `seal` accepts. */
export const storable: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, depthSize: "small" },
    { arbitrary: leaf, weight: 3 },
    { arbitrary: fc.array(tie("value"), { maxLength: 6 }), weight: 3 },
    { arbitrary: fc.dictionary(name, tie("value"), { maxKeys: 6, noNullPrototype: true }), weight: 3 },
    fc.array(fc.tuple(tie("value"), tie("value")), { maxLength: 4 }).map((entries) => new Map(entries)),
    fc.array(tie("value"), { maxLength: 4 }).map((members) => new Set(members)),
    errorOf(tie("value")),
  ),
})).value;

/** Whether a value is frozen, all of it. */
export function isFrozen(value: unknown): boolean {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array || value instanceof Date)
    return true;
  const inner: unknown[] = Object.values(value);
  if (value instanceof Map) inner.push(...value.keys(), ...value.values());
  if (value instanceof Set) inner.push(...value);
  if (value instanceof Map || value instanceof Set)
    for (const change of [
      () => (value as Map<unknown, unknown>).clear(),
      () => value.delete(1),
      () => (value instanceof Map ? value.set(1, 1) : value.add(1)),
    ])
      if (!refuses(change)) return false;
  if (value instanceof Error) inner.push(value.cause, (value as { errors?: unknown }).errors);
  return Object.isFrozen(value) && inner.every(isFrozen);
}

function refuses(change: () => unknown): boolean {
  try {
    change();
  } catch (error) {
    return error instanceof TypeError;
  }
  return false;
}

/** A value that `seal` refuses, wherever it stands. */
export const unstorable: fc.Arbitrary<unknown> = fc.constantFrom<unknown>(
  () => 1,
  Symbol("s"),
  new (class extends Map {})(),
  new (class extends Set {})(),
  Object.assign(new Map(), { own: 1 }),
  Object.freeze(new Map()),
  Object.freeze(new Set()),
  Object.create(Map.prototype),
  /x/,
  new (class Thing {})(),
  new Float64Array(1),
  new ArrayBuffer(1),
  Promise.resolve(1),
  new WeakMap(),
  new Date(Number.NaN),
  2n ** 63n,
  -(2n ** 63n) - 1n,
  "\ud800",
  "x\udc00y",
  JSON.parse('{"__proto__":1}'),
  { "\ud83d": 1 },
  Object.create({ inherited: 1 }),
);
