/** Maps, Sets and Errors as values: what is kept of them, and what of them is refused. */
import { isDeepStrictEqual } from "node:util";
import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import { decode, encode } from "../runtime/words/codec.ts";
import { decodeForeign } from "../runtime/words/foreign.ts";
import { limits } from "../runtime/words/limits.ts";
import { OPAQUE, sawOpaque, seal, sizeOf, ValueFault } from "../runtime/words/values.ts";
import { hex, MAX, outcome } from "./support/foreign.ts";
import { isFrozen } from "./support/values.ts";

function faultOf(value: unknown, known?: unknown): string {
  try {
    seal(value, "event", known);
  } catch (error) {
    if (error instanceof ValueFault) return error.path;
    throw error;
  }
  return "accepted";
}

/** What becomes of a value that is stored, and of one that comes from outside. */
function stored<T>(value: T): T[] {
  seal(value, "event");
  const bytes = Uint8Array.from(encode(value));
  return [decode(bytes) as T, decodeForeign(bytes, MAX) as T];
}

describe("a Map or Set", () => {
  const map = (): Map<unknown, unknown> =>
    new Map<unknown, unknown>([
      ["b", { n: 1 }],
      ["a", new Set([1, new Map([[null, undefined]])])],
      [{ key: [1] }, new Date(5)],
      [Number.NaN, 2n],
    ]);

  it("comes back as one, in its order, whatever is in it", () => {
    for (const back of stored({ map: map(), set: new Set(["z", "a", new Set([[1]])]) })) {
      expect(isDeepStrictEqual(back, { map: map(), set: new Set(["z", "a", new Set([[1]])]) })).toBe(true);
      expect([...back.map.keys()].slice(0, 2)).toEqual(["b", "a"]);
      expect([...back.set].slice(0, 2)).toEqual(["z", "a"]);
      expect([back.map.constructor, back.set.constructor]).toEqual([Map, Set]);
      seal(back, "event");
      expect(isFrozen(back)).toBe(true);
    }
    for (const back of stored(new Map(Array.from({ length: 70_000 }, (_, n) => [n, `v${n}`]))))
      expect([back.size, back.get(69_999)]).toEqual([70_000, "v69999"]);
  });

  it("cannot be changed once it is sealed, equals one that is not, and is copied like any", () => {
    const kept = map();
    seal(kept, "event");
    const set = new Set([1]);
    seal(set, "event");
    for (const change of [
      () => kept.set("c", 1),
      () => kept.delete("a"),
      () => kept.clear(),
      () => set.add(2),
      () => set.delete(1),
      () => set.clear(),
    ])
      expect(change).toThrow(/^Cannot assign to read only property.*Make a new one/);
    expect([kept.size, set.size]).toEqual([4, 1]);
    expect(kept).toEqual(map());
    expect(new Map(kept).set("c", 1).size).toBe(5);
    expect(structuredClone(set).add(2).size).toBe(2);
  });

  it("is looked at deeply: keys, values and members, each with its place", () => {
    expect(faultOf(new Map([["k", [() => 1]]]))).toBe("event.get(k)[0]");
    expect(faultOf(new Map([[{ f: () => 1 }, 1]]))).toBe("event.get(#0).f");
    expect(faultOf({ set: new Set([1, Symbol("s")]) })).toBe("event.set.member(1)");
    const circle = new Map<string, unknown>();
    circle.set("self", circle);
    expect(faultOf(circle)).toMatch(/^event\.get\(self\)/);
    const ring = new Set<unknown>();
    ring.add([ring]);
    expect(faultOf(ring)).toMatch(/^event\.member/);
    let deep: unknown = 1;
    for (let n = 0; n < limits.valueDepth; n++) deep = n % 2 === 0 ? new Set([deep]) : new Map([[1, deep]]);
    expect(faultOf(deep)).toBe("accepted");
    expect(faultOf([deep])).toMatch(/^event\[0\]/);
    const half = new Map(Array.from({ length: limits.valueNodes / 2 }, (_, n) => [n, n]));
    expect(faultOf(half)).toBe("accepted");
    expect(faultOf([half])).toBe("event[0]");
    expect(faultOf(new Set(Array.from({ length: limits.valueNodes + 1 }, (_, n) => n)))).toBe("event");
  });

  it("that was sealed before is not walked again, nor what a new one shares with it", () => {
    const big = Array.from({ length: 100 }, (_, n) => ({ n, text: "some text" }));
    const known = { map: new Map(big.map((one) => [one.n, one])), set: new Set(big) };
    const whole = seal(known, "event");
    expect(seal({ ...known, more: 1 }, "event", known)).toBeLessThan(100);
    const next = {
      map: new Map<number, unknown>([...known.map, [-1, big]]),
      set: new Set([...known.set, 1]),
    };
    expect(seal(next, "event", known)).toBeLessThan(whole * 1.2);
    expect(faultOf({ map: new Map<unknown, unknown>([...known.map, ["f", () => 1]]) }, known)).toBe(
      "event.map.get(f)",
    );
  });

  it("frozen by a library that guards it too is taken, one that is only frozen is not", () => {
    const never = (): never => {
      throw new Error("frozen");
    };
    const theirs = Object.assign(new Map([[1, 2]]), { set: never, add: never, clear: never, delete: never });
    for (const back of stored({ theirs: Object.freeze(theirs) })) expect(back.theirs.get(1)).toBe(2);
    expect(() => seal(Object.freeze(new Map()), "event")).toThrow("does not hold its entries");
  });
});

describe("an Error", () => {
  class HttpError extends RangeError {
    readonly status: number;
    override name = "HttpError";
    constructor(message: string, status: number, options?: ErrorOptions) {
      super(message, options);
      this.status = status;
    }
  }

  it("keeps its class, name, message, cause and properties, not its stack", () => {
    const cause = new TypeError("inner", { cause: { why: new Map([[1, 2]]) } });
    const error = Object.assign(new RangeError("outer", { cause }), { code: "E1", list: [1] });
    for (const back of stored(error)) {
      expect(isDeepStrictEqual(back, error)).toBe(true);
      expect(back).toBeInstanceOf(RangeError);
      expect(back.cause).toBeInstanceOf(TypeError);
      expect([back.code, back.stack]).toEqual(["E1", "RangeError: outer"]);
    }
    const many = new AggregateError([new Error("a"), 2], "both");
    for (const back of stored(many)) {
      expect(isDeepStrictEqual(back, many)).toBe(true);
      expect(back.errors[0]).toBeInstanceOf(Error);
    }
  });

  it("of a class of one's own comes back as a plain Error with its name", () => {
    for (const back of stored<Error>(new HttpError("no", 404, { cause: 1 }))) {
      expect(Object.getPrototypeOf(back)).toBe(Error.prototype);
      expect(back).toMatchObject({ name: "HttpError", message: "no", status: 404 });
      expect(back.cause).toBe(1);
    }
    for (const back of stored<Error>(new DOMException("stopped", "AbortError")))
      expect([back.name, back.message, back instanceof DOMException]).toEqual([
        "AbortError",
        "stopped",
        false,
      ]);
  });

  it("loses what is no value, and nothing of that is frozen", () => {
    const response = { headers: { a: 1 }, error: new Error("theirs"), read: () => 1 };
    const error = Object.assign(new Error("failed", { cause: () => 1 }), {
      response,
      status: 500,
      inner: Object.assign(new Error("inner"), { f: () => 1, n: 1 }),
    });
    const never = (): never => {
      throw new Error("never read");
    };
    Object.defineProperty(error, "live", { get: never, enumerable: true, configurable: true });
    seal({ error }, "event");
    expect(Object.keys(error)).toEqual(["status", "inner"]);
    expect([error.cause, Object.keys(error.inner)]).toEqual([undefined, ["n"]]);
    for (const theirs of [response, response.headers, response.error])
      expect(Object.isFrozen(theirs)).toBe(false);
    expect(isFrozen(error)).toBe(true);
    expect(error.stack).toContain("collections.test");
    for (const back of stored({ error })) expect(isDeepStrictEqual(back, { error })).toBe(true);
  });

  it("that refers to itself, once or often, loses that and takes no time", () => {
    const errors = [new Error("a"), new Error("b"), new Error("c")] as (Error & Record<string, unknown>)[];
    for (const one of errors) for (const other of errors) one[other.message] = other;
    for (const one of errors) one.again = { in: errors };
    expect(faultOf(errors)).toBe("accepted");
    expect(isFrozen(errors)).toBe(true);
    for (const back of stored(errors)) expect(isDeepStrictEqual(back, errors)).toBe(true);
    const chain = Array.from({ length: limits.valueDepth + 5 }).reduce<Error>(
      (cause) => new Error("x", { cause }),
      new Error("first"),
    );
    expect(faultOf(chain)).toBe("accepted");
  });

  it("is refused only for what cannot be taken off it", () => {
    expect(faultOf({ e: Object.freeze(Object.assign(new Error("x"), { f: () => 1 })) })).toBe("event.e.f");
    expect(faultOf([new Error("half \ud800")])).toBe("event[0].message");
  });
});

describe("other users of msgpackr in the process", () => {
  it("write and read Maps, Sets and Errors as they did", () => {
    const theirs = new Packr({ useRecords: false, moreTypes: true });
    const hexOf = (value: unknown): string => theirs.pack(value).toString("hex");
    expect(hexOf(new Error("x"))).toBe("d4650093a54572726f72a178d40000");
    expect(hexOf(new Set([1]))).toBe("d473009101");
    expect(hexOf(new Map([["a", 1]]))).toBe("81a16101");
    expect(new Packr({ useRecords: false }).pack(new Error("x")).toString("hex")).toBe(
      "93a54572726f72a178d40000",
    );
    expect((theirs.unpack(theirs.pack(new TypeError("x"))) as Error).message).toBe("x");
  });
});

describe("from outside", () => {
  it.each([
    ["a Map", "d4 6d 00 92 01 02", new Map([[1, 2]])],
    ["an empty Map", "d4 6d 00 90", new Map()],
    ["a Set", "d4 73 00 91 01", new Set([1])],
    ["an Error", "d4 66 00 93 05 c0 a1 78", new TypeError("x")],
    ["an Error with a code", "d4 66 00 94 00 c0 a1 78 81 a1 63 01", Object.assign(new Error("x"), { c: 1 })],
    ["an Error with a cause", "d4 66 00 95 00 c0 a1 78 80 81 a5 6361757365 01", new Error("x", { cause: 1 })],
  ])("takes %s", (_what, bytes, value) => {
    const got = decodeForeign(hex(bytes), MAX);
    expect(isDeepStrictEqual(got, value)).toBe(true);
    expect(isFrozen(got)).toBe(true);
    expect(isDeepStrictEqual(decode(hex(bytes)), value)).toBe(true);
  });

  it.each([
    ["a Map that declares four billion", "d4 6d 00 dd ffffffff"],
    ["a Set that declares four billion", "d4 73 00 dd ffffffff"],
    ["a Map with a key without a value", "d4 6d 00 91 01"],
    ["a Map with a key twice", "d4 6d 00 94 01 02 01 03"],
    ["a Set with a member twice", "d4 73 00 92 01 01"],
    ["a Map of something else", "d4 6d 00 81 01 02"],
    ["a mark that is not 0", "d4 6d 01 90"],
    ["a mark with nothing behind it", "d4 6d 00"],
    ["a mark with half of itself", "d4 6d"],
    ["a Set in an extension of two bytes", "d5 73 00 90"],
    ["an Error of a kind that none has", "d4 66 00 93 08 c0 c0"],
    ["an Error whose kind is a text", "d4 66 00 93 a0 c0 c0"],
    ["an Error with a number for its name", "d4 66 00 93 00 01 c0"],
    ["an Error with too few parts", "d4 66 00 92 00 c0"],
    ["an Error with too many", "d4 66 00 96 00 c0 c0 80 80 80"],
    ["an Error whose properties are a list", "d4 66 00 94 00 c0 c0 90"],
    ["an Error with a stack", "d4 66 00 94 00 c0 c0 81 a5 737461636b a1 78"],
    ["an Error that hides what none hides", "d4 66 00 95 00 c0 c0 80 81 a1 78 01"],
    ["an Error that names the prototype", "d4 66 00 94 00 c0 c0 81 a9 5f5f70726f746f5f5f 01"],
  ])("refuses %s", (_what, bytes) => {
    expect(outcome(() => decodeForeign(hex(bytes), MAX))).not.toBe("accepted");
  });

  it("refuses nesting and numbers beyond the limits, without overflowing the stack", () => {
    for (const head of ["d46d009201", "d4730091", "d466009500c0c08081a56361757365"]) {
      const one = hex(head);
      const bytes = new Uint8Array(Buffer.alloc(one.length * 40_000, one));
      expect(outcome(() => decodeForeign(bytes, MAX))).toContain("nests deeper");
    }
  });

  it("makes an Error of any properties that its own text could be asked of", () => {
    // name is an object whose toString is no function.
    const bytes = hex("d4 66 00 94 00 c0 c0 81 a4 6e616d65 81 a8 746f537472696e67 01");
    expect(outcome(() => decodeForeign(bytes, MAX))).toBe("accepted");
  });
});

describe("something opaque", () => {
  it("is a leaf: not looked into, not frozen, 64 bytes, and told of", () => {
    class Child {
      readonly [OPAQUE] = true;
      readonly run = (): number => 1;
    }
    const child = new Child();
    const plain = seal({ a: 1, b: [1] }, "event");
    expect(sawOpaque()).toBe(false);
    expect(seal({ a: 1, b: [1, child] }, "event")).toBe(plain + 64);
    expect(sawOpaque()).toBe(true);
    expect(Object.isFrozen(child)).toBe(false);
    expect(sizeOf(child)).toBe(64);
    seal({ a: 1 }, "event");
    expect(sawOpaque()).toBe(false);
  });
});
