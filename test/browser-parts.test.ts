/** Parts of the client that have rules of their own: the parser of streams, and the sharing of states. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventParser, type StreamEvent } from "../runtime/browser/sse.ts";
import { shared } from "../runtime/browser/share.ts";

describe("server-sent events", () => {
  const parse = (...pieces: string[]): StreamEvent[] => {
    const parser = new EventParser();
    return pieces.flatMap((piece) => [...parser.feed(piece)]);
  };

  it("are read as the standard has it", () => {
    expect(parse('retry: 2000\n\n:\n\nid: 1-1\nevent: state\ndata: {"a":1}\n\n')).toEqual([
      { event: "state", data: '{"a":1}', id: "1-1" },
    ]);
    expect(parse("data: one\ndata:two\ndata\ndata:  three\n\n")).toEqual([
      { event: "message", data: "one\ntwo\n\n three", id: undefined },
    ]);
    // An id goes on, an event's name does not; one with a null in it is none.
    expect(parse("id: a\nevent: x\ndata: 1\n\nid: \0b\ndata: 2\n\n")).toEqual([
      { event: "x", data: "1", id: "a" },
      { event: "message", data: "2", id: "a" },
    ]);
    expect(parse("data: 1\r\n\r\ndata: 2\r\rdata: 3\n\n").map(({ data }) => data)).toEqual(["1", "2", "3"]);
    expect(parse("event: x\n\ndata: cut off")).toEqual([]);
  });

  it("are the same however they are cut", () => {
    const line = fc.oneof(
      fc.constantFrom(
        "data: a",
        "data:",
        "data: ä€😀",
        "event: state",
        "id: 1",
        ": beat",
        "retry: 1",
        "other: x",
        "",
      ),
      fc.string({ maxLength: 8 }).map((text) => `data: ${text.replace(/[\r\n]/g, "")}`),
    );
    const ending = fc.constantFrom("\n", "\r\n", "\r");
    const stream = fc.array(fc.tuple(line, ending), { maxLength: 30 }).map((lines) => lines.flat().join(""));
    fc.assert(
      fc.property(stream, fc.array(fc.nat({ max: 200 })), (text, cuts) => {
        const at = [...new Set([0, ...cuts.map((cut) => cut % (text.length + 1)), text.length])].sort(
          (a, b) => a - b,
        );
        const pieces = at.slice(1).map((end, n) => text.slice(at[n], end));
        expect(pieces.join("")).toBe(text);
        // A last CR may be half an ending; what follows tells.
        expect(parse(...pieces, "\n:\n")).toEqual(parse(`${text}\n:\n`));
      }),
    );
  });

  it("that never end are not gathered for ever", () => {
    const parser = new EventParser();
    expect(() => {
      for (let n = 0; n < 20; n++) [...parser.feed("x".repeat(1024 * 1024))];
    }).toThrow(/does not end/);
  });
});

describe("states that follow each other", () => {
  it("share all that is equal, are equal to what came, and are frozen", () => {
    const value = fc.letrec<{ any: unknown }>((tie) => ({
      any: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom<unknown>(1, "a", null, undefined, true, Number.NaN),
        fc.array(tie("any"), { maxLength: 4 }),
        fc.dictionary(fc.constantFrom("a", "b", "c", "__proto__x"), tie("any"), { maxKeys: 3 }),
      ),
    })).any;
    fc.assert(
      fc.property(value, value, (one, other) => {
        const first = shared(undefined, structuredClone(one));
        expect(first).toEqual(one);
        expect(Object.isFrozen(first)).toBe(true);
        expect(shared(first, structuredClone(one))).toBe(first);
        const wrapped = shared(undefined, { same: structuredClone(one), other: 0 }) as { same: unknown };
        const next = shared(wrapped, { same: structuredClone(one), other }) as typeof wrapped;
        expect(next).toEqual({ same: one, other });
        expect(next.same).toBe(wrapped.same);
        expect(shared(first, structuredClone(other))).toEqual(other);
      }),
    );
    const dates = { at: new Date(1) };
    expect(shared(shared(undefined, dates), { at: new Date(1) })).toEqual({ at: new Date(1) });
  });
});
