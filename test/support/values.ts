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

/** Everything that `seal` accepts. */
export const storable: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, depthSize: "small" },
    leaf,
    fc.array(tie("value"), { maxLength: 6 }),
    fc.dictionary(name, tie("value"), { maxKeys: 6, noNullPrototype: true }),
  ),
})).value;

/** A value that `seal` refuses, wherever it stands. */
export const unstorable: fc.Arbitrary<unknown> = fc.constantFrom<unknown>(
  () => 1,
  Symbol("s"),
  new Map(),
  new Set(),
  /x/,
  new Error("x"),
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
