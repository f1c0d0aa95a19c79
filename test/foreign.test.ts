/** Security 1: values from outside are refused by name, quickly, and without taking memory; nothing else happens. */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import { encode } from "../runtime/words/codec.ts";
import { decodeForeign } from "../runtime/words/foreign.ts";
import { limits } from "../runtime/words/limits.ts";
import { hex, MAX, outcome } from "./support/foreign.ts";
import { storable } from "./support/values.ts";

describe("decodeForeign", () => {
  it("takes everything that encode makes of storable values", () => {
    fc.assert(
      fc.property(storable, (value) => {
        expect(isDeepStrictEqual(decodeForeign(Uint8Array.from(encode(value)), MAX), value)).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });

  it("of random bytes gives a value or invalid_frame, nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        outcome(() => decodeForeign(bytes, MAX));
      }),
      { numRuns: 20_000 },
    );
  });

  it("of an encoded value with some bytes changed gives a value or invalid_frame, nothing else", () => {
    const change = fc.record({ at: fc.nat(), byte: fc.nat({ max: 255 }) });
    fc.assert(
      fc.property(storable, fc.array(change, { minLength: 1, maxLength: 4 }), (value, changes) => {
        const bytes = Uint8Array.from(encode(value));
        for (const { at, byte } of changes) bytes[at % bytes.length] = byte;
        outcome(() => decodeForeign(bytes, MAX));
      }),
      { numRuns: 10_000 },
    );
  });

  it("of an encoded value cut short anywhere, or with something behind it, is invalid_frame", () => {
    fc.assert(
      fc.property(storable, (value) => {
        const bytes = Uint8Array.from(encode(value));
        for (let length = 0; length < bytes.length; length++) {
          expect(outcome(() => decodeForeign(bytes.subarray(0, length), MAX))).not.toBe("accepted");
        }
        expect(outcome(() => decodeForeign(Uint8Array.from([...bytes, 0]), MAX))).toContain(
          "follow the value",
        );
      }),
    );
  });

  it.each([
    ["nothing at all", ""],
    ["the head that is never used", "c1"],
    ["an array that declares four billion values (msgpackr #199)", "dd ffffffff"],
    ["a map that declares four billion", "df ffffffff"],
    ["a map whose doubled count overflows", "df 80000001 00"],
    ["a text that declares four gigabytes", "db ffffffff"],
    ["bytes that declare four gigabytes", "c6 ffffffff"],
    ["an extension that declares four gigabytes", "c9 ffffffff 01"],
    ["an array of 65,535 that is not there", "dc ffff"],
    ["a record definition (msgpackr 0x72)", "d4 72 40 92 a1 61 a1 62 01 02"],
    ["a record definition of two bytes", "d5 72 00 40 91 a1 61 01"],
    ["bundled texts (0x62)", "d6 62 00000000"],
    ["a RegExp (0x78)", "d4 78 00 92 a1 78 a0"],
    ["an Error (0x65)", "d4 65 00 93 a5 45 72 72 6f 72 a1 78 c0"],
    ["a structured-clone pointer (0x70)", "d6 70 00000000"],
    ["a typed array (0x74)", "c7 05 74 06 00 00 00 00"],
    ["an extension of one's own", "d4 05 00"],
    ["a timestamp of an odd size", "d4 ff 00"],
    ["a map whose key is an array", "81 90 01"],
    ["a map whose key is a map", "81 80 01"],
  ])("refuses %s", (_what, bytes) => {
    expect(outcome(() => decodeForeign(hex(bytes), MAX))).not.toBe("accepted");
  });

  it("reads integers that msgpackr takes for record definitions elsewhere as what they are", () => {
    for (let byte = 0x40; byte <= 0x7f; byte++) expect(decodeForeign(new Uint8Array([byte]), 1)).toBe(byte);
    const records = new Packr({ useRecords: true, structures: [] });
    const packed = Uint8Array.from(records.pack([{ a: 1 }, { a: 2 }]));
    expect(outcome(() => decodeForeign(packed, MAX))).not.toBe("accepted");
    expect(outcome(() => decodeForeign(hex("d4 72 40 91 a1 78 01"), MAX))).not.toBe("accepted");
    expect(decodeForeign(hex("40"), MAX)).toBe(0x40);
  });

  it("refuses a property that names the prototype, and makes plain objects", () => {
    expect(outcome(() => decodeForeign(hex("81 a9 5f5f70726f746f5f5f 81 a1 78 01"), MAX))).toContain(
      "__proto__",
    );
    const value = decodeForeign(hex("81 ab 636f6e7374727563746f72 01"), MAX) as object;
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect(Object.entries(value)).toEqual([["constructor", 1]]);
  });

  it("refuses nesting beyond the limit, 72 KB of it without overflowing the stack (msgpackr #200)", () => {
    const deepest = new Uint8Array(limits.valueDepth + 1).fill(0x91);
    deepest[limits.valueDepth] = 0xc0;
    expect(outcome(() => decodeForeign(deepest, MAX))).toBe("accepted");
    for (const head of [[0x91], [0x81, 0xa0]]) {
      for (const size of [72_000, MAX]) {
        const bytes = new Uint8Array(Buffer.alloc(size, Uint8Array.from(head)));
        expect(outcome(() => decodeForeign(bytes, MAX))).toContain("nests deeper");
      }
    }
  });

  it("refuses more bytes than it is told to take, before looking at them", () => {
    expect(outcome(() => decodeForeign(new Uint8Array(101), 100))).toContain("over the limit of 100");
  });

  it("refuses quickly and takes no memory: a thousand hostile heads", () => {
    const hostile = [
      hex("dd ffffffff"),
      hex("df 7fffffff"),
      hex("dd 00100000"),
      hex("db 7fffffff"),
      new Uint8Array(64_000).fill(0x91),
      new Uint8Array(64_000).fill(0xdd),
    ];
    const started = performance.now();
    const before = process.memoryUsage();
    for (let n = 0; n < 200; n++)
      for (const bytes of hostile) expect(outcome(() => decodeForeign(bytes, MAX))).not.toBe("accepted");
    const after = process.memoryUsage();
    expect(after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers).toBeLessThan(
      64 * (1 << 20),
    );
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});
