/** State 1 and 2: the laws of patches, against a model that applies one record after the other. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { FamilyChange, PackedChild } from "../runtime/engine/machine/family.ts";
import {
  type Change,
  decodeRecord,
  DeleteTurn,
  DeltaTurn,
  encodeRecord,
  KeyframeTurn,
  type Link,
  NoLink,
  type TurnRecord,
} from "../runtime/engine/record.ts";
import { type ActorData, decodeSnapshot, encodeSnapshot, Patch } from "../runtime/engine/state.ts";

const ID = "probe.a";
const REQUESTS = 3;

/** What one turn does, before it is known what it is applied to. */
interface Op {
  readonly kind: "turn" | "keyframe" | "delete";
  readonly set: Record<string, unknown>;
  readonly unset: readonly string[];
  readonly value: string | undefined;
  readonly rest: readonly [string, unknown, Record<string, readonly string[]> | null] | undefined;
  readonly timers:
    | readonly { id: string; due: number; generation: number; event: { type: string } }[]
    | undefined;
  readonly asked: boolean;
}

const key = fc.constantFrom("a", "b", "c", "d");
const op: fc.Arbitrary<Op> = fc.record({
  kind: fc.constantFrom("turn", "turn", "turn", "turn", "keyframe", "delete"),
  set: fc.dictionary(key, fc.oneof(fc.integer(), fc.constant(undefined), fc.constant({ deep: [1] })), {
    maxKeys: 3,
  }),
  unset: fc.uniqueArray(key, { maxLength: 2 }),
  value: fc.option(fc.constantFrom("on", "off"), { nil: undefined }),
  rest: fc.option(
    fc.tuple(
      fc.constantFrom("active", "done"),
      fc.constantFrom(undefined, 1, { x: 1 }),
      fc.constantFrom(null, { "m.h": ["m.a"] }),
    ),
    { nil: undefined },
  ),
  timers: fc.option(
    fc.array(
      fc.record(
        { id: key, due: fc.nat(), generation: fc.nat(), event: fc.constant({ type: "t" }) },
        { noNullPrototype: true },
      ),
      {
        maxLength: 2,
      },
    ),
    { nil: undefined },
  ),
  asked: fc.boolean(),
});

interface Step {
  readonly record: TurnRecord;
  readonly at: Link;
  readonly after: ActorData | undefined;
}

/** Applies an op to a state: the model, without patches. */
function apply(
  before: ActorData | undefined,
  { kind, set, unset, value, rest, timers, asked }: Op,
  at: Link,
): Step {
  const turn = (before?.turn ?? 0) + 1;
  const base = { ...blank, turn, requestId: asked ? `r${at[0]}` : undefined };
  if (kind === "delete") return { record: { ...base, kind: DeleteTurn }, at, after: undefined };
  const context: Record<string, unknown> = { ...before?.machine.context, ...set };
  const removed = unset.filter((name) => name in (before?.machine.context ?? {}) && !(name in set));
  for (const name of removed) delete context[name];
  const [status, output, history] = rest ?? [
    before?.machine.status ?? "active",
    before?.machine.output,
    before?.machine.history ?? null,
  ];
  const whole = before === undefined || kind === "keyframe";
  const requests = [...(before?.requests ?? []), ...(asked ? [{ requestId: `r${at[0]}`, at }] : [])];
  const after: ActorData = {
    machine: {
      value: value ?? before?.machine.value ?? "on",
      context,
      status: status as ActorData["machine"]["status"],
      output,
      history: (history as ActorData["machine"]["history"] | null) ?? undefined,
    },
    timers: timers ?? before?.timers ?? [],
    requests: requests.slice(-REQUESTS),
    turn,
    version: 1,
    last: at,
    keyframe: whole ? at : before.keyframe,
  };
  const change: Change = whole
    ? {
        context,
        removed: null,
        value: after.machine.value,
        rest:
          status === "active" && history === null && output === undefined ? null : [status, output, history],
        timers: after.timers.length === 0 ? null : after.timers,
      }
    : {
        context: Object.keys(set).length === 0 ? null : set,
        removed: removed.length === 0 ? null : removed,
        value: value ?? null,
        rest: rest ?? null,
        timers: timers ?? null,
      };
  return { record: { ...base, kind: whole ? KeyframeTurn : DeltaTurn, change }, at, after };
}

const blank: TurnRecord = {
  kind: DeltaTurn,
  id: ID,
  turn: 0,
  previous: NoLink,
  keyframe: NoLink,
  source: 0,
  sourceName: 0,
  sourceNumber: 0,
  delay: 0,
  version: 1,
  event: null,
  change: null,
  out: [],
  emitted: [],
  replied: false,
  reply: undefined,
  requestId: undefined,
  trace: undefined,
  refusal: undefined,
};

/** A life of an actor: its states, the one before the first record included, and the records between them. */
const life = fc.array(op, { minLength: 1, maxLength: 25 }).map((ops) => {
  const steps: Step[] = [];
  let state: ActorData | undefined;
  for (const each of ops) {
    const step = apply(state, each, [steps.length + 1, 0]);
    state = step.after;
    // What is applied has been through the journal.
    steps.push({ ...step, record: decodeRecord(encodeRecord(step.record)) });
  }
  return { steps, states: [undefined, ...steps.map(({ after }) => after)] };
});

const span = life.chain(({ steps, states }) =>
  fc.record({
    steps: fc.constant(steps),
    states: fc.constant(states),
    from: fc.nat({ max: steps.length - 1 }),
    length: fc.integer({ min: 1, max: steps.length }),
    base: fc.nat(),
  }),
);

function patchOf(steps: readonly Step[], from: number, to: number): Patch {
  const patch = new Patch((steps[from] as Step).record.turn - 1);
  for (const { record, at } of steps.slice(from, to)) patch.add(record, at, REQUESTS);
  return patch;
}

describe("patches", () => {
  it("state 1: added up and applied at once, records make the state that they make one by one", () => {
    fc.assert(
      fc.property(life, ({ steps, states }) => {
        expect(patchOf(steps, 0, steps.length).applyTo(ID, undefined, REQUESTS)).toStrictEqual(states.at(-1));
      }),
      { numRuns: 300 },
    );
  });

  it("state 2: applied to a state from anywhere within its span, a patch makes the same state", () => {
    fc.assert(
      fc.property(span, ({ steps, states, from, length, base }) => {
        const to = Math.min(steps.length, from + length);
        const start = states[from + (base % (to - from + 1))];
        expect(patchOf(steps, from, to).applyTo(ID, start, REQUESTS)).toStrictEqual(states[to]);
      }),
      { numRuns: 1_000 },
    );
  });

  it("state 2: applied to a stored state, it makes what is stored next", () => {
    fc.assert(
      fc.property(span, ({ steps, states, from, length }) => {
        const to = Math.min(steps.length, from + length);
        const [start, end] = [states[from], states[to]];
        const stored = start && decodeSnapshot(ID, encodeSnapshot(ID, start));
        const made = patchOf(steps, from, to).applyTo(ID, stored, REQUESTS);
        expect(made && decodeSnapshot(ID, encodeSnapshot(ID, made))).toStrictEqual(end);
      }),
    );
  });

  it("applying a patch leaves it and the state it was applied to as they were", () => {
    fc.assert(
      fc.property(life, ({ steps, states }) => {
        const patch = patchOf(steps, 0, steps.length);
        const before = structuredClone(states.at(-1));
        const first = patch.applyTo(ID, undefined, REQUESTS);
        patch.applyTo(ID, states.at(-1), REQUESTS);
        expect(states.at(-1)).toStrictEqual(before);
        expect(patch.applyTo(ID, undefined, REQUESTS)).toStrictEqual(first);
      }),
    );
  });
});

describe("gaps", () => {
  const plain: Op = {
    kind: "turn",
    set: { a: 1 },
    unset: [],
    value: undefined,
    rest: undefined,
    timers: undefined,
    asked: false,
  };
  const steps: Step[] = [];
  for (let n = 1; n <= 6; n++) steps.push(apply(steps.at(-1)?.after, plain, [n, 0]));
  const states = [undefined, ...steps.map(({ after }) => after)];
  const corrupt = expect.objectContaining({ code: "corrupt_record" });

  it("state 2: a missing record is refused when it is added", () => {
    const patch = patchOf(steps, 0, 3);
    const { record, at } = steps[4] as Step;
    expect(() => patch.add(record, at, REQUESTS)).toThrow(corrupt);
  });

  it("a repeated record is refused when it is added", () => {
    const { record, at } = steps[2] as Step;
    expect(() => patchOf(steps, 0, 3).add(record, at, REQUESTS)).toThrow(corrupt);
  });

  it("state 2: a state from before the span is refused, and none at all", () => {
    for (const base of [states[0], states[1], states[2]]) {
      expect(() => patchOf(steps, 3, 5).applyTo(ID, base, REQUESTS)).toThrow(corrupt);
    }
    expect(patchOf(steps, 3, 5).applyTo(ID, states[3], REQUESTS)).toStrictEqual(states[5]);
  });

  it("state 2: a state from behind the span is refused", () => {
    expect(() => patchOf(steps, 1, 3).applyTo(ID, states[5], REQUESTS)).toThrow(corrupt);
  });

  it("a new life needs nothing from the old one, and takes nothing of it", () => {
    const end = apply(states[6], { ...plain, kind: "delete" }, [7, 0]);
    const begin = apply(undefined, { ...plain, set: { b: 2 } }, [8, 0]);
    const patch = patchOf([...steps, end, begin], 6, 8);
    for (const base of [undefined, states[6], states[2]])
      expect(patch.applyTo(ID, base, REQUESTS)).toStrictEqual(begin.after);
    expect(patchOf([end], 0, 1).applyTo(ID, states[6], REQUESTS)).toBeUndefined();
  });
});

describe("children in a patch", () => {
  it("stand in the order in which they were made, whichever of its turns the patch starts from", () => {
    const child = (path: string, session: string): PackedChild => [path, session, "child", null, 0, {}];
    const turnOf = (turn: number, children: FamilyChange): TurnRecord => ({
      ...blank,
      id: ID,
      turn,
      change: { context: {}, removed: null, value: null, rest: null, timers: null, children },
    });
    // An actor of one path is followed by another, and then comes a third.
    const records = [
      turnOf(2, [child("b", "x2.0.t"), child("b/in", "x2.1.t")]),
      turnOf(3, ["b", "b/in", child("b", "x3.0.t"), child("b/in", "x3.1.t")]),
      turnOf(4, [child("a", "x4.0.t")]),
      turnOf(5, ["a", child("c", "x5.0.t"), child("a", "x5.1.t")]),
    ];
    const family = (patch: Patch, base: ActorData): unknown =>
      patch.applyTo(ID, base, REQUESTS)?.machine.children?.map(([path, session]) => `${path} ${session}`);
    const patch = new Patch(1);
    let state: ActorData = {
      machine: { value: "on", context: {}, status: "active", output: undefined, history: undefined },
      timers: [],
      requests: [],
      turn: 1,
      version: 1,
      last: [1, 0],
      keyframe: [1, 0],
    };
    const bases = [state];
    for (const [at, record] of records.entries()) {
      patch.add(record, [at + 2, 0], REQUESTS);
      const step = new Patch(at + 1);
      step.add(record, [at + 2, 0], REQUESTS);
      state = step.applyTo(ID, state, REQUESTS) as ActorData;
      bases.push(state);
    }
    const expected = ["b x3.0.t", "b/in x3.1.t", "c x5.0.t", "a x5.1.t"];
    for (const base of bases) expect(family(patch, base)).toEqual(expected);
  });
});
