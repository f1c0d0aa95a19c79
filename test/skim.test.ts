/** What recovery skims of a record is what decoding it would give. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeBatch,
  decodeRecord,
  DeltaTurn,
  encodeBatch,
  encodeRecord,
  type TurnRecord,
} from "../runtime/engine/record.ts";
import { Skimmer } from "../runtime/engine/skim.ts";
import { Patch } from "../runtime/engine/state.ts";
import { blank, records } from "./support/formats.ts";

const whole = fc.oneof(
  fc.nat(200),
  fc.nat(70_000),
  fc.integer({ min: 0, max: 2 ** 32 + 5 }),
  fc.maxSafeNat(),
);
const link = fc.tuple(fc.oneof(whole, fc.constantFrom(-1, -2)), fc.nat(9_000));
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom(
    undefined,
    -1,
    -200,
    -70_000,
    -(2 ** 40),
    1.5,
    2 ** 40,
    "x".repeat(40),
    "ä".repeat(300),
    "y".repeat(70_000),
  ),
  fc.constantFrom<unknown>(
    new Map<unknown, unknown>([
      ["k", new Map([[1, new Set(["x"])]])],
      [{ a: 1 }, null],
    ]),
    new Map(Array.from({ length: 20 }, (_, n) => [n, "v"])),
    new Set(),
    Object.assign(new TypeError("failed", { cause: new Error("inner") }), { code: 1 }),
  ),
  fc.constantFrom(new Date(0), new Date(1.5), new Date(2 ** 41)),
  fc.uint8Array({ maxLength: 300 }),
  fc.array(fc.nat(9), { maxLength: 40 }),
  fc.dictionary(fc.string({ maxLength: 3 }), fc.nat(), { minKeys: 17, maxKeys: 20, noNullPrototype: true }),
);
const record: fc.Arbitrary<TurnRecord> = fc
  .record({
    kind: fc.constantFrom(0, 0, 0, 1, 2, 3),
    id: fc.oneof(fc.constantFrom("probe.a", "counter.k1"), fc.string({ minLength: 1, maxLength: 160 })),
    turn: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 2 ** 40 })),
    previous: link,
    keyframe: link,
    source: fc.constantFrom(0, 1, 2, 3),
    sourceName: fc.oneof(fc.constantFrom("abc", "abd", "session-1"), fc.string({ maxLength: 128 }), whole),
    sourceNumber: whole,
    delay: fc.nat(),
    version: fc.nat(),
    event: value,
    context: fc.option(
      fc.dictionary(fc.string({ maxLength: 4 }), value, { maxKeys: 3, noNullPrototype: true }),
    ),
    state: fc.oneof(fc.constant(null), fc.string(), fc.constant({ a: { b: "c" } })),
    timers: fc.constantFrom(null, null, null, null, [
      { id: "t", due: 5, generation: 1, event: { type: "t" } },
    ]),
    replied: fc.boolean(),
    reply: value,
    requestId: fc.constantFrom(undefined, undefined, undefined, undefined, "r1"),
  })
  .map(({ context, state, timers, ...rest }): TurnRecord => {
    const change = { context, value: state, timers, removed: null, rest: null };
    const noChange = rest.kind === 2 || rest.kind === 3;
    return {
      ...blank,
      ...(rest as Partial<TurnRecord>),
      out: [],
      emitted: [],
      refusal: undefined,
      trace: undefined,
      change: noChange ? null : change,
    } as TurnRecord;
  });

const header = {
  incarnation: "n-1",
  number: 1,
  previousSeq: 0,
  previousCrc: 0,
  time: 1,
  sealedBy: undefined,
};

function batchOf(list: readonly TurnRecord[]): ReturnType<typeof decodeBatch> {
  const parts = list.map(encodeRecord);
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  return decodeBatch(
    encodeBatch(
      header,
      parts,
      parts.map(() => 1),
      bytes,
    ),
    7,
  );
}

function compare(list: readonly TurnRecord[]): number {
  const batch = batchOf(list);
  const skimmer = new Skimmer();
  skimmer.open(batch.bytes);
  let skimmed = 0;
  for (let index = 0; index < list.length; index++) {
    const decoded = decodeRecord(batch.recordAt(index));
    const few =
      (decoded.change?.timers ?? null) !== null ||
      (decoded.change?.removed ?? null) !== null ||
      (decoded.change?.rest ?? null) !== null ||
      decoded.out.length + decoded.emitted.length > 0 ||
      decoded.requestId !== undefined ||
      decoded.trace !== undefined ||
      decoded.refusal !== undefined;
    const read = skimmer.read(batch.offsetAt(index));
    expect(read).toBe(decoded.kind === DeltaTurn && !few);
    if (!read) continue;
    skimmed++;
    const { id, turn, source, sourceName, sourceNumber } = decoded;
    expect({ ...skimmer, out: [] }).toMatchObject({
      kind: DeltaTurn,
      id,
      turn,
      source,
      sourceName,
      sourceNumber,
    });
  }
  return skimmed;
}

describe("skimming", () => {
  it("gives what decoding gives, of any record", () => {
    let skimmed = 0;
    fc.assert(
      fc.property(fc.array(record, { minLength: 1, maxLength: 8 }), (list) => {
        skimmed += compare(list);
      }),
      { numRuns: 400 },
    );
    expect(skimmed).toBeGreaterThan(100);
  });

  it("leaves what it does not read to the decoder", () => {
    compare(records);
  });
});

describe("a patch with records that wait", () => {
  const change = (context: Record<string, unknown>): TurnRecord["change"] => ({
    context,
    removed: null,
    value: null,
    rest: null,
    timers: null,
  });
  const keyframe = (turn: number): TurnRecord => ({
    ...blank,
    kind: 1,
    id: "probe.a",
    turn,
    change: {
      context: { whole: turn },
      removed: null,
      value: "on",
      rest: ["active", undefined, null],
      timers: [],
    },
  });
  const turnOf = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.dictionary(fc.constantFrom("a", "b", "c"), fc.nat(), {
        minKeys: 1,
        noNullPrototype: true,
      }),
    },
    { weight: 1, arbitrary: fc.constant("keyframe" as const) },
    { weight: 1, arbitrary: fc.constant("named" as const) },
  );

  it("is what it would be with all of them added", () => {
    fc.assert(
      fc.property(fc.array(turnOf, { minLength: 1, maxLength: 30 }), (turns) => {
        const list = turns.map((one, n): TurnRecord => {
          if (one === "keyframe") return keyframe(n + 2);
          const base = { ...blank, kind: DeltaTurn, id: "probe.a", turn: n + 2 } as TurnRecord;
          if (one === "named") return { ...base, requestId: `r${n}`, change: change({ named: n }) };
          return {
            ...base,
            requestId: undefined,
            trace: undefined,
            refusal: undefined,
            out: [],
            emitted: [],
            change: change(one),
          };
        });
        const batch = batchOf(list);
        const skimmer = new Skimmer();
        skimmer.open(batch.bytes);
        const lazy = new Patch(1);
        const eager = new Patch(1);
        for (let index = 0; index < list.length; index++) {
          const bytes = batch.recordAt(index);
          const at = [batch.seq, index] as const;
          eager.add(decodeRecord(bytes), at, 10, bytes.length);
          if (skimmer.read(batch.offsetAt(index))) lazy.defer(skimmer.id, skimmer.turn, batch, at);
          else lazy.add(decodeRecord(bytes), at, 10, bytes.length);
        }
        const base = keyframe(1);
        const start = new Patch(0);
        start.add(base, [1, 0], 10, 0);
        const from = start.applyTo("probe.a", undefined, 10);
        expect(lazy.bytes).toBe(eager.bytes);
        expect(lazy.timers).toEqual(eager.timers);
        expect(lazy.applyTo("probe.a", from, 10)).toEqual(eager.applyTo("probe.a", from, 10));
      }),
    );
  });

  it("notices a turn that is missing", () => {
    const list = [2, 4].map(
      (turn): TurnRecord => ({ ...blank, kind: DeltaTurn, id: "probe.a", turn, change: change({ a: 1 }) }),
    );
    const batch = batchOf(list);
    const patch = new Patch(1);
    patch.defer("probe.a", 2, batch, [7, 0]);
    expect(() => patch.defer("probe.a", 4, batch, [7, 1])).toThrow(/misses turns 3 to 3/);
  });
});
