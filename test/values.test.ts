/** What may be kept: the check that freezes, and the codec under it. */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decode, encode } from "../runtime/words/codec.ts";
import { limits } from "../runtime/words/limits.ts";
import { seal, sizeOf, ValueFault } from "../runtime/words/values.ts";
import { isFrozen, storable, unstorable } from "./support/values.ts";

/** The path in the fault that a value is refused with. */
function faultOf(value: unknown, known?: unknown): string {
  try {
    seal(value, "event", known);
  } catch (error) {
    if (error instanceof ValueFault) return error.path;
    throw error;
  }
  return "accepted";
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let at = 0; at < depth; at++) value = at % 2 === 0 ? [value] : { in: value };
  return value;
}

describe("seal", () => {
  it("values 1: what it accepts is deeply frozen", () => {
    fc.assert(
      fc.property(storable, (value) => {
        seal(value, "value");
        expect(isFrozen(value)).toBe(true);
      }),
    );
  });

  it("values 4: what it accepts survives being stored, unchanged", () => {
    fc.assert(
      fc.property(storable, (value) => {
        const before = Uint8Array.from(encode(value));
        seal(value, "value");
        const back = decode(encode(value));
        expect(isDeepStrictEqual(back, value)).toBe(true);
        // What is encoded before anything is frozen, and after it was stored, is the same: nothing was changed.
        expect(Buffer.compare(encode(value), before)).toBe(0);
        seal(back, "value");
        expect(isFrozen(back)).toBe(true);
        expect(Buffer.compare(encode(back), before)).toBe(0);
      }),
      { numRuns: 3_000 },
    );
  });

  it("refuses what cannot be stored, at any depth, and names the place", () => {
    fc.assert(
      fc.property(
        unstorable,
        fc.array(fc.oneof(fc.nat({ max: 3 }), fc.constantFrom("a", "b")), { maxLength: 6 }),
        (bad, path) => {
          let value: unknown = bad;
          let name = "";
          for (const step of path) {
            value =
              typeof step === "number"
                ? [...new Array<number>(step).fill(0), value]
                : { other: 1, [step]: value };
            name = (typeof step === "number" ? `[${step}]` : `.${step}`) + name;
          }
          expect(faultOf(value)).toBe(`event${name}`);
          expect(() => seal(value, "event")).toThrow(/event/);
        },
      ),
    );
  });

  it("refuses cycles, and nesting beyond the limit", () => {
    const circle: unknown[] = [];
    circle.push({ back: circle });
    expect(faultOf(circle)).toMatch(/^event\[0\]\.back/);
    expect(faultOf(nested(limits.valueDepth))).toBe("accepted");
    expect(faultOf(nested(limits.valueDepth + 1))).toMatch(/^event/);
  });

  it("refuses more values than the limit, in one list or in all", () => {
    expect(faultOf(new Array<number>(limits.valueNodes + 1).fill(0))).toBe("event");
    const half = (): number[] => new Array<number>(limits.valueNodes / 2 + 1).fill(0);
    expect(faultOf([half(), half()])).toBe("event[1]");
    expect(faultOf(new Array<number>(limits.valueNodes).fill(0))).toBe("accepted");
  });

  it("a caller's frozen value is walked all the same: freezing hides nothing", () => {
    expect(faultOf(Object.freeze({ f: Object.freeze([() => 1]) }))).toBe("event.f[0]");
    const inner = { n: 1 };
    seal(Object.freeze([inner]), "event");
    expect(Object.isFrozen(inner)).toBe(true);
  });

  it("values 2: what is shared with a known value is not walked again, wherever a list has grown", () => {
    const items = [{ n: 1 }, { n: 2 }, { n: 3 }];
    const known = { items, rest: { deep: { a: 1 } } };
    const whole = seal(known, "event");
    const grown = [
      { ...known, items: [...items, { n: 4 }] },
      { ...known, items: [{ n: 0 }, ...items] },
      { ...known, items: items.slice(1) },
    ];
    for (const value of grown) expect(seal(value, "event", known)).toBeLessThan(whole + 10);
    // Beside what is shared everything is looked at, frozen or not.
    const hidden = Object.freeze({ f: () => 1 });
    expect(faultOf({ ...known, more: hidden }, known)).toBe("event.more.f");
    expect(faultOf({ ...known, items: [...items, hidden] }, known)).toBe("event.items[3].f");
    const loose = { n: 1 };
    seal({ ...known, more: Object.freeze([loose]) }, "event", known);
    expect(Object.isFrozen(loose)).toBe(true);
  });

  it("a class that looks plain is none; an object without a prototype is plain", () => {
    class Plain {}
    expect(faultOf(new Plain())).toBe("event");
    expect(() => seal(new Plain(), "event")).toThrow("an instance of Plain");
    expect(faultOf(Object.assign(Object.create(null), { a: 1 }))).toBe("accepted");
    expect(faultOf({ constructor: 1, toString: 2, hasOwnProperty: 3 })).toBe("accepted");
  });

  it("values 3: says how large a value may be at most when it is encoded, and not by much", () => {
    const large = fc.oneof(
      fc.string({ unit: "binary", minLength: 30, maxLength: 400 }).filter((s) => !/\p{Surrogate}/u.test(s)),
      fc.uint8Array({ maxLength: 400 }),
      fc.array(storable, { maxLength: 40 }),
    );
    fc.assert(
      fc.property(fc.oneof(storable, large), (v) => {
        const { length } = encode(v);
        const bound = seal(v, "value");
        expect(length).toBeLessThanOrEqual(limits.estimateFactor * bound);
        expect(length).toBeLessThanOrEqual(sizeOf(v));
        // Every value takes a byte at least, and is taken for nine at most, or fifteen of a Date's six.
        for (const estimate of [bound, sizeOf(v)]) expect(estimate).toBeLessThanOrEqual(9 * length + 9);
      }),
      { numRuns: 2_000 },
    );
  });

  it("a long path is cut short in the message", () => {
    const value = { ["x".repeat(5_000)]: () => 1 };
    expect(faultOf(value).length).toBeLessThan(200);
  });

  it("a getter that throws is the caller's error, not a fault", () => {
    const value = {
      get broken(): number {
        throw new Error("mine");
      },
    };
    expect(() => seal(value, "event")).toThrow("mine");
  });
});

describe("codec 1: encoded values", () => {
  it("are self-contained: each alone gives its value, whatever was encoded before", () => {
    fc.assert(
      fc.property(fc.array(storable, { minLength: 1, maxLength: 10 }), (values) => {
        const bytes = values.map((value) => Uint8Array.from(encode(value)));
        expect(isDeepStrictEqual(bytes.reverse().map(decode), [...values].reverse())).toBe(true);
      }),
    );
  });

  it("stay as they are when more is encoded", () => {
    const first = encode({ a: 1 });
    const copy = Uint8Array.from(first);
    for (let n = 0; n < 10_000; n++) encode({ n, text: "x".repeat(100) });
    expect(Buffer.compare(first, copy)).toBe(0);
  });

  it("bytes within are a copy, and a Uint8Array whatever they came in", () => {
    for (const bytes of [new Uint8Array([1, 2, 3]), Buffer.from([1, 2, 3])]) {
      const encoded = encode({ bytes });
      const { bytes: back } = decode(encoded) as { bytes: Uint8Array };
      expect(back.constructor).toBe(Uint8Array);
      encoded.fill(0);
      expect([...back]).toEqual([1, 2, 3]);
    }
  });
});
