/** Values as JSON, both ways. */
import fc from "fast-check";
import { fromJson, toJson } from "keyturn/http";
import { expect, it } from "vitest";
import { seal, ValueFault } from "../runtime/words/values.ts";
import { storable } from "./support/values.ts";

const through = (value: unknown): unknown => fromJson(JSON.parse(JSON.stringify(toJson(value))), "value");

it("brings every value back as it was", () => {
  fc.assert(
    fc.property(storable, (value) => {
      seal(value, "value");
      expect(through(value)).toEqual(value);
    }),
    { numRuns: 500 },
  );
});

it("takes plain JSON for itself, and does not copy it", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      fc.pre(!JSON.stringify(value).includes("__proto__"));
      if (!/"~/.test(JSON.stringify(value))) expect(fromJson(value, "value")).toBe(value);
      expect(through(value)).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
  const plain = { a: [1, { b: "c" }], $set: { d: null }, "~dates": 1 };
  expect(toJson(plain)).toBe(plain);
  expect(fromJson(plain, "value")).toBe(plain);
});

it("keeps an object of one's own that looks like one of these", () => {
  for (const value of [
    { "~date": "x" },
    { "~~date": 1 },
    { "~map": [{ "~set": new Set([1]) }] },
    { "~date": "x", more: 1 },
  ])
    expect(through(value)).toEqual(value);
  expect(toJson({ "~date": "x" })).toEqual({ "~~date": "x" });
  expect(toJson({ "~date": "x", more: 1 })).toEqual({ "~date": "x", more: 1 });
});

it("is a value or a fault, whatever the JSON is", () => {
  const tags = ["~date", "~bytes", "~bigint", "~map", "~set", "~error", "~number", "~undefined", "~~set"];
  const texts = fc.constantFrom(
    "",
    "2026-01-01",
    "2026-01-01T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "AQ==",
    "A",
    "NaN",
    "12",
    "1.5",
  );
  const any = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.oneof(texts, fc.integer(), fc.constantFrom(null, true)),
      fc.array(tie("value"), { maxLength: 3 }),
      fc.tuple(fc.constantFrom(...tags), tie("value")).map(([tag, value]) => ({ [tag]: value })),
      fc.dictionary(fc.constantFrom("name", "message", "cause", "properties", "kind", "stack"), tie("value")),
    ),
  })).value;
  fc.assert(
    fc.property(any, (json) => {
      let value: unknown;
      try {
        value = fromJson(json, "event");
      } catch (fault) {
        expect(fault).toBeInstanceOf(ValueFault);
        expect((fault as ValueFault).message).toMatch(/^event/);
        return;
      }
      seal(value, "event");
      const again = through(value);
      expect(toJson(again)).toEqual(toJson(value));
      // Of Errors, names and messages that are objects are compared by identity there.
      if (!/"(name|message)":[[{]/.test(JSON.stringify(json))) expect(again).toEqual(value);
    }),
    { numRuns: 1_000 },
  );
});

it("keeps a name and a message of an Error that are no texts", () => {
  const error = through(fromJson({ "~error": { name: [1], message: { a: 2 } } }, "event")) as Error;
  expect(error).toBeInstanceOf(Error);
  expect(error.name).toEqual([1]);
  expect(error.message).toEqual({ a: 2 });
});

it("says where a fault is", () => {
  const fault = (json: unknown): string => {
    try {
      fromJson(json, "event");
    } catch (error) {
      return (error as Error).message;
    }
    return "none";
  };
  expect(fault({ a: [1, { b: { "~date": "soon" } }] })).toMatch(/^event\.a\[1\]\.b\["~date"\] is not a date/);
  expect(fault({ "~map": [[1]] })).toMatch(/is not a list of pairs/);
  expect(fault(JSON.parse('{"a":{"__proto__":1}}'))).toBe("event.a has a property named __proto__.");
  expect(fault({ "~error": { kind: "Exception" } })).toMatch(/kind is no kind of Error/);
});
