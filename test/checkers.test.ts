/**
 * The checkers must bite: every check is shown good histories and bad ones.
 * Numbers in the titles are the invariants of the module under test.
 *
 * Histories are written as text, one operation after the other: "0-9 write 1"
 * was called at 0 and acknowledged at 9, "1-2 read = 1" replied 1, "3-? add 2"
 * never returned, "4-5! add 2" certainly failed.
 */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  assertLinearizable,
  type BankRead,
  checkAppendList,
  checkBank,
  checkCounter,
  checkExactlyOnce,
  checkLinearizability,
  checkSenderFifo,
  checkSetAdd,
  checkTimersOnce,
  type CounterInput,
  counterModel,
  HistoryRecorder,
  type ListInput,
  listModel,
  type Model,
  type Operation,
  type Outcome,
  type RegisterInput,
  registerModel,
  type Scalar,
  type TimerRecord,
} from "../runtime/testing/checkers/index.ts";

interface Row<Input> {
  readonly call: number;
  readonly end: number;
  readonly input: Input;
  readonly outcome: Outcome;
  readonly output: unknown;
}

/** Records rows in the order of their times; at equal times returns come first. */
function record<I>(rows: readonly Row<I>[], key = "k"): Operation<I, never>[] {
  const recorder = new HistoryRecorder<I, unknown>();
  const handles = new Map<Row<I>, { id: number }>();
  const events = rows.flatMap((row) => [
    { at: row.call, rank: 1, row },
    { at: row.end, rank: row.end > row.call ? 0 : 2, row },
  ]);
  events.sort((left, right) => left.at - right.at || left.rank - right.rank);
  for (const { at, row } of events) {
    const handle = handles.get(row);
    if (handle !== undefined) recorder[row.outcome](handle, row.output, at);
    else handles.set(row, recorder.begin("p", key, row.input, at));
  }
  return recorder.operations() as Operation<I, never>[];
}

const read = { type: "read" } as const;
const write = (value: Scalar) => ({ type: "write", value }) as const;
const cas = (expected: Scalar, value: Scalar) => ({ type: "compareAndSet", expected, value }) as const;
const add = (amount: number) => ({ type: "add", amount }) as const;
const append = (value: Scalar) => ({ type: "append", value }) as const;
const verbs: Record<string, (...values: never[]) => unknown> = { read: () => read, write, cas, add, append };

function history<I>(text: string, key?: string): Operation<I, never>[] {
  const rows = text
    .split(" | ")
    .filter((part) => part !== "")
    .map((part): Row<I> => {
      const [, call, end, isFailed, verb, values, output] =
        /^(\d+)-(\d+|\?)(!?) (\w+)((?: [^ =]+)*)(?: = (.+))?$/.exec(part) ?? [];
      const input = verbs[`${verb}`]?.(
        ...(JSON.parse(`[${values?.trim().replaceAll(" ", ",")}]`) as never[]),
      ) as I;
      const outcome = end === "?" ? "unknown" : isFailed ? "failed" : "ok";
      return {
        ...{ call: Number(call), end: Number(end === "?" ? call : end), input, outcome },
        output: JSON.parse(output ?? "null"),
      };
    });
  return record(rows, key);
}

const one = <V>(value: V, key = "k") => new Map([[key, value]]);
const register = registerModel();
const counter = counterModel();
const list = listModel();

describe("history recorder", () => {
  it("1: orders events at the same time by record order", () => {
    const recorder = new HistoryRecorder<RegisterInput, Scalar>();
    recorder.ok(recorder.begin("a", "k", write(1), 5), null, 5);
    recorder.ok(recorder.begin("b", "k", read, 5), null, 5);
    expect(recorder.operations().flatMap((o) => [o.callOrder, o.returnOrder])).toEqual([0, 1, 2, 3]);
    expect(checkLinearizability(recorder.operations(), register).ok).toBe(false);
  });

  it("2: refuses time that goes backwards, and NaN", () => {
    const recorder = new HistoryRecorder();
    recorder.begin("a", "k", read, 5);
    expect(() => recorder.begin("a", "k", read, 4)).toThrow(RangeError);
    expect(() => recorder.begin("a", "k", read, Number.NaN)).toThrow(RangeError);
  });

  it("3, 4: settles once; what is open or unknown has no return; an absent reply is null", () => {
    const recorder = new HistoryRecorder({ operationsMax: 3 });
    const handles = [0, 0, 0].map((at) => recorder.begin("a", "k", read, at)) as [{ id: 0 }, { id: 1 }];
    recorder.ok(handles[0], undefined, 1);
    recorder.unknown(handles[1], "timeout", 2);
    expect(() => recorder.failed(handles[0], "late", 2)).toThrow("already settled");
    expect(() => recorder.begin("a", "k", read, 3)).toThrow("limited to 3");
    const open = { outcome: "unknown", output: undefined, return: undefined, returnOrder: undefined };
    const [first, ...others] = recorder.operations();
    expect(first).toMatchObject({ outcome: "ok", output: null, return: 1 });
    expect(others).toMatchObject([{ ...open, detail: "timeout" }, open]);
  });
});

describe("linearizability", () => {
  it.each([
    ["empty", "", true],
    ["concurrent write seen early", "0-9 write 1 | 1-2 read = 1", true],
    ["concurrent write not yet seen", "0-9 write 1 | 1-2 read = null", true],
    ["seen, then not", "0-9 write 1 | 1-2 read = 1 | 3-4 read = null", false],
    ["stale read", "0-1 write 1 | 2-3 write 2 | 4-5 read = 1", false],
    ["value never written", "0-1 write 1 | 0-5 read = 7", false],
    ["read without reply", "0-1 write 1 | 2-3 read", false],
    ["lost update", "0-9 cas null 1 = true | 0-9 cas null 2 = true", false],
    ["one update refused", "0-9 cas null 1 = true | 0-9 cas null 2 = false", true],
    ["1: failed write not read", "0-1! write 1 | 2-3 read = null", true],
    ["1: failed write read", "0-1! write 1 | 2-3 read = 1", false],
    ["3: unknown write never applied", "0-? write 1 | 5-6 read = null", true],
    ["3: applied late", "0-? write 1 | 5-6 read = null | 7-8 read = 1", true],
    ["3: applied before its call", "0-1 read = 1 | 2-? write 1", false],
    ["3: applied twice", "0-? write 1 | 2-3 read = 1 | 4-5 write 2 | 6-7 read = 1", false],
    ["3: two, each once", "0-? write 1 | 0-? write 1 | 2-3 read = 1 | 4-5 write 2 | 6-7 read = 1", true],
    ["3: one now, one later", "0-? write 1 | 0-? write 2 | 2-3 read = 2 | 4-5 write 3 | 6-7 read = 1", true],
    ["3: which one now", "0-? write 1 | 0-? cas null 1 | 2-3 read = 1 | 4-5 write 2 | 6-7 read = 1", true],
  ])("register: %s", (_, text, expected) => {
    expect(checkLinearizability(history<RegisterInput>(text), register).ok).toBe(expected);
  });

  it.each([
    ["both applied", "0-9 add 1 = 1 | 0-9 add 1 = 2 | 10-11 read = 2", true],
    ["lost update", "0-9 add 1 = 1 | 0-9 add 1 = 1", false],
    ["duplicate apply", "0-1 add 1 = 1 | 2-3 read = 2", false],
    ["3: unknown not applied", "0-? add 1 | 5-6 read = 0", true],
    ["3: unknown applied", "0-? add 1 | 5-6 read = 1", true],
    ["3: unknown applied twice", "0-? add 1 | 5-6 read = 2", false],
  ])("counter: %s", (_, text, expected) => {
    expect(checkLinearizability(history<CounterInput>(text), counter).ok).toBe(expected);
  });

  it.each([
    ["order and length", '0-9 append "a" | 0-9 append "b" = 1 | 10-11 read = ["b","a"]', true],
    ["length against order", '0-9 append "a" | 0-9 append "b" = 1 | 10-11 read = ["a","b"]', false],
    ["lost append", '0-9 append "a" | 0-9 append "b" = 1 | 10-11 read = ["b"]', false],
    ["3: applied late", "0-? append 1 | 2-3 read = [] | 4-5 read = [1]", true],
    ["3: applied twice", "0-? append 1 | 2-3 read = [1,1]", false],
    ["3: shows in a length", "0-? append 1 | 2-3 append 2 = 2 | 4-5 read = [1,2]", true],
    ["3: shows only in a length", "0-? append 1 | 2-3 append 2 = 2", true],
  ])("list: %s", (_, text, expected) => {
    expect(checkLinearizability(history<ListInput>(text), list).ok).toBe(expected);
  });

  it("names key, prefix and offending operations, and decides keys alone", () => {
    const bad = history<RegisterInput>("0-1 write 1 | 2-3 read = 1 | 4-5 read = 9 | 4-6 write 2");
    const operations = [...history<RegisterInput>("0-9 read = null", "other"), ...bad];
    const result = checkLinearizability(operations, register);
    if (result.ok !== false) throw new Error("not caught");
    expect(result.key).toBe("k");
    expect(result.longestPrefix.map((o) => o.input)).toEqual([write(1), read, write(2)]);
    expect(result.offending.map((o) => o.output)).toEqual([9]);
    expect(result.message).toContain('register "k" is not linearizable: after 3 operations in state 2');
    expect(() => assertLinearizable(operations, register)).toThrow(result.message);
  });

  it("4: a spent budget is undecided, never ok, and a violation outweighs it", () => {
    const writes = [1, 2, 3, 4, 5].map((value) => `0-9 write ${value}`).join(" | ");
    const operations = history<RegisterInput>(`${writes} | 10-11 read = 9`);
    const result = checkLinearizability(operations, register, { stepsMax: 10 });
    expect(result).toMatchObject({ ok: "undecided", keys: ["k"], steps: 10 });
    expect(() => assertLinearizable(operations, register, { stepsMax: 10 })).toThrow("undecided");
    const also = [...operations, ...history<RegisterInput>("0-1 read = 1", "z")];
    expect(checkLinearizability(also, register, { stepsMax: 10 })).toMatchObject({ ok: false, key: "z" });
  });

  it("5: is iterative and cheap: 5,000 operations, and 30 unknown ones", () => {
    const long = Array.from({ length: 5000 }, (_, at) => `${at}-${at + 9} add 1 = ${at + 1}`).join(" | ");
    expect(checkLinearizability(history<CounterInput>(long), counter)).toMatchObject({ ok: true });
    const lost = `${"0-? add 1 | ".repeat(30)}2-3 read = 31`;
    const result = checkLinearizability(history<CounterInput>(lost), counter);
    expect(result.ok).toBe(false);
    expect(result.steps).toBeLessThan(200);
  });

  it("remembers what is taken beyond the word of the last operation", () => {
    const front = "0-0 read = null | ".repeat(14);
    const writes = "1-9 write 4 | 1-9 write 5 | 1-9 write 6 | 1-9 write 7";
    const seen = "2-3 read = 7 | 4-5 read = 5 | 6-7 read = 6 | 8-8 read = 4";
    const operations = history<RegisterInput>(`${front}${writes} | ${seen}`);
    expect(checkLinearizability(operations, register)).toMatchObject({ ok: true });
  });

  it("does not trust a history made by hand: no return throws, no output is null", () => {
    const change = (field: string) =>
      history<RegisterInput>("0-1 write 1 | 2-3 read = 1").map((o) => ({ ...o, [field]: undefined }));
    expect(() => checkLinearizability(change("returnOrder"), register)).toThrow(RangeError);
    expect(checkLinearizability(change("output"), register).ok).toBe(false);
  });
});

/** Tries every order, with no cleverness at all. */
function bruteForce<S, I, O>(operations: readonly Operation<I, O>[], model: Model<S, I, O>): boolean {
  const place = (state: S, left: readonly Operation<I, O>[]): boolean => {
    if (left.every(({ outcome }) => outcome !== "ok")) return true;
    return left.some((next) => {
      const isLate = left.some((o) => o.outcome === "ok" && Number(o.returnOrder) < next.callOrder);
      if (isLate || next.outcome === "failed") return false;
      const step = model.step(state, next.input, next.output);
      const rest = left.filter((o) => o !== next);
      return step.ok && place(step.state, rest);
    });
  };
  return place(model.init(), operations);
}

type Fate = "ok" | "failed" | "lost" | "late";
type Plan<I> = readonly { readonly input: I; readonly fate: Fate }[];

/** Runs a plan against one real copy, interleaved as `schedule` says. */
function simulate<I>(plan: Plan<I>, schedule: readonly number[], apply: (input: I) => unknown) {
  const recorder = new HistoryRecorder<I, unknown>();
  const active: { input: I; fate: Fate; id: number; isApplied: boolean; output: unknown }[] = [];
  let started = 0;
  for (let at = 0; started < plan.length || active.length > 0; at++) {
    const next = active.length < 6 ? plan[started] : undefined;
    const choices = active.length + (next === undefined ? 0 : 1);
    const pick = (schedule[at % schedule.length] as number) % choices;
    if (next !== undefined && pick === active.length) {
      started++;
      const { id } = recorder.begin(`p${active.length}`, "k", next.input, at);
      active.push({ ...next, id, isApplied: false, output: undefined });
      continue;
    }
    const turn = active[pick] as (typeof active)[number];
    const isDone = turn.isApplied || turn.fate === "failed" || turn.fate === "lost";
    if (turn.fate === "late" && !turn.isApplied && turn.output === undefined) {
      recorder.unknown(turn, "timeout", at);
      turn.output = "settled";
      continue;
    }
    if (!isDone) {
      turn.output = apply(turn.input);
      turn.isApplied = true;
      if (turn.fate === "ok") continue;
    }
    active.splice(pick, 1);
    if (turn.fate === "ok") recorder.ok(turn, turn.output, at);
    if (turn.fate === "failed") recorder.failed(turn, "refused", at);
    if (turn.fate === "lost") recorder.unknown(turn, "timeout", at);
  }
  return recorder.operations() as Operation<I, never>[];
}

function atomicRegister() {
  let state: Scalar = null;
  return (input: RegisterInput): unknown => {
    if (input.type === "read") return state;
    const isSet = input.type === "write" || input.expected === state;
    if (isSet) state = input.value;
    return input.type === "write" ? null : isSet;
  };
}
function atomicCounter() {
  let total = 0;
  return (input: CounterInput): unknown => (total += input.type === "add" ? input.amount : 0);
}
function atomicList() {
  const entries: Scalar[] = [];
  return (input: ListInput): unknown => (input.type === "read" ? [...entries] : entries.push(input.value));
}

const fates = fc.constantFrom<Fate>("ok", "ok", "ok", "ok", "failed", "lost", "late");
const planOf = <I>(input: fc.Arbitrary<I>, maxLength: number): fc.Arbitrary<Plan<I>> =>
  fc.array(fc.record({ input, fate: fates }), { maxLength });
const schedules = fc.array(fc.nat(99), { minLength: 1, maxLength: 60 });
const small = fc.integer({ min: 0, max: 3 });
const reads = fc.constant(read);

function properties<S, I extends { readonly type: string }, O>(
  model: Model<S, I, O>,
  inputs: fc.Arbitrary<I>,
  atomic: () => (input: I) => unknown,
  replies: readonly unknown[],
  impossible: unknown,
): void {
  const withReply = (operations: Operation<I, never>[], id: number | undefined, reply: unknown) =>
    operations.map((o) => (o.id === id && o.outcome === "ok" ? { ...o, output: reply as never } : o));

  it(`${model.name}: an atomic copy is always linearizable, an impossible read never`, () => {
    fc.assert(
      fc.property(planOf(inputs, 40), schedules, fc.nat(), (plan, schedule, which) => {
        const operations = simulate(plan, schedule, atomic());
        expect(checkLinearizability(operations, model)).toMatchObject({ ok: true });
        const victims = operations.filter((o) => o.outcome === "ok" && o.input.type === "read");
        if (victims.length === 0) return;
        const mutated = withReply(operations, victims[which % victims.length]?.id, impossible);
        expect(checkLinearizability(mutated, model, { stepsMax: 5_000_000 }).ok).toBe(false);
      }),
      { numRuns: 300 },
    );
  });

  it(`${model.name}: agrees with brute force`, () => {
    const verdicts = { true: 0, false: 0 };
    // Reads in front put the operations across two words of the bitset.
    const front = history<I>(`0-0 read = ${JSON.stringify(model.init())} | `.repeat(14).slice(0, -3));
    const agree = (operations: Operation<I, never>[]) => {
      const expected = bruteForce(operations, model);
      expect(checkLinearizability(operations, model).ok).toBe(expected);
      const later = operations.map((o) => ({
        ...{ ...o, callOrder: o.callOrder + 28 },
        returnOrder: o.returnOrder && o.returnOrder + 28,
      }));
      expect(checkLinearizability([...front, ...later], model).ok).toBe(expected);
      verdicts[`${expected}`]++;
    };
    const output = fc.constantFrom(...replies);
    const outcome = fc.constantFrom<Outcome>("ok", "ok", "ok", "ok", "unknown", "unknown", "failed");
    const row = fc.record({ call: fc.nat(9), length: fc.nat(6), input: inputs, outcome, output });
    const rows = fc.array(row, { maxLength: 6 });
    const anything = fc.property(rows, (drawn) => {
      agree(record(drawn.map((r) => ({ ...r, end: r.call + r.length }))));
    });
    const nearly = fc.property(
      planOf(inputs, 6),
      schedules,
      fc.nat(5),
      output,
      (plan, schedule, id, reply) => {
        agree(withReply(simulate(plan, schedule, atomic()), id, reply));
      },
    );
    fc.assert(anything, { numRuns: 1500 });
    fc.assert(nearly, { numRuns: 1500 });
    expect(Math.min(verdicts.true, verdicts.false)).toBeGreaterThan(150);
  });
}

describe("linearizability, properties", () => {
  const swaps = fc.tuple(small, small).map(([expected, value]) => cas(expected, value));
  const registerInputs = fc.oneof<fc.Arbitrary<RegisterInput>[]>(reads, small.map(write), swaps);
  properties(register, registerInputs, atomicRegister, [null, 0, 1, true, false], 99);
  const counterInputs = fc.oneof<fc.Arbitrary<CounterInput>[]>(
    reads,
    fc.constantFrom(1, 1, 2, 5, -3).map(add),
  );
  properties(counter, counterInputs, atomicCounter, [0, 1, 2, 3], 0.5);
  const listInputs = fc.oneof<fc.Arbitrary<ListInput>[]>(reads, small.map(append));
  properties(list, listInputs, atomicList, [[], [0], [1], [0, 1], 1, 2, null], [99]);
});

describe("checks accept every correct run (1)", () => {
  it.each([[[1, 2]], [[-1, 3, 0]]])("counter, adding %j", (amounts) => {
    const inputs = fc.oneof<fc.Arbitrary<CounterInput>[]>(reads, fc.constantFrom(...amounts).map(add));
    const accepted = fc.property(planOf(inputs, 40), schedules, (plan, schedule) => {
      const apply = atomicCounter();
      const operations = simulate(plan, schedule, apply);
      expect(checkCounter(operations, one(Number(apply(read))))).toEqual([]);
    });
    fc.assert(accepted);
  });

  it("list and set", () => {
    const inputs = fc.oneof<fc.Arbitrary<ListInput>[]>(reads, small.map(append));
    const accepted = fc.property(planOf(inputs, 40), schedules, (plan, schedule) => {
      const apply = atomicList();
      const operations = simulate(plan, schedule, apply);
      const final = one(apply(read) as Scalar[]);
      const wrong = [
        checkAppendList(operations, final),
        checkAppendList(operations),
        checkSetAdd(operations, final),
      ];
      expect(wrong.flat()).toEqual([]);
    });
    fc.assert(accepted);
  });
});

/** A bad case gives exactly one violation, whose text holds `expected`; a good one none. */
function expectOne(violations: readonly { message: string }[], expected: string | undefined): void {
  const texts = expected === undefined ? [] : [expect.stringContaining(expected)];
  expect(violations.map(({ message }) => message)).toEqual(texts);
}

describe("checks of histories", () => {
  it.each<[string, string, Scalar[] | undefined, string | undefined]>([
    ["acknowledged and there", "0-1 append 1", [1], undefined],
    ["unknown and there", "0-? append 1", [1], undefined],
    ["unknown and absent", "0-? append 1", [], undefined],
    ["lost", "0-1 append 1", [], 'set-add "k": lost: 1 is there 0 times, acknowledged 1'],
    ["lost, key absent", "0-1 append 1", undefined, "lost: 1"],
    ["duplicated", "0-1 append 1", [1, 1], "duplicated: 1 is there 2 times"],
    ["unknown applied twice", "0-? append 1", [1, 1], "duplicated: 1"],
    ["never added", "", [1], "phantom: 1 is there but was never added"],
    ["failed but applied", "0-1! append 1", [1], "phantom: 1 is there but was only refused"],
    ["stale read", "0-1 append 1 | 2-3 read = []", [1], "stale: 1 was acknowledged before #1"],
    ["read too early", "0-1 read = [1] | 2-3 append 1", [1], "phantom: 1 was not added before #0"],
    ["read concurrent", "0-9 append 1 | 2-3 read = [1] | 4-5 read = []", [1], undefined],
    ["read of no set", "0-1 read", [], "no set: #0"],
  ])("set-add: %s", (_, text, final, expected) => {
    expectOne(checkSetAdd(history<ListInput>(text), final === undefined ? new Map() : one(final)), expected);
  });

  it.each<[string, string, number, string | undefined]>([
    ["unknown applied", "0-1 add 1 = 1 | 2-? add 2", 3, undefined],
    ["unknown not applied", "0-1 add 1 = 1 | 2-? add 2", 1, undefined],
    ["unknown applied twice", "0-1 add 1 = 1 | 2-? add 2", 5, "total 5, acknowledged 1, possible 1 to 3"],
    ["unknown subtraction", "0-1 add 1 = 1 | 2-? add -2", -1, undefined],
    ["lost", "0-1 add 1 = 1", 0, "final total 0, acknowledged 1, possible 1 to 1"],
    ["failed but applied", "0-1! add 1", 1, "final total 1"],
    ["not a number", "", Number.NaN, "final total NaN"],
    ["lost update", "0-9 add 1 = 1 | 0-9 add 1 = 1", 2, "same total twice: #0"],
    ["equal totals, both signs", "0-1 add 1 = 1 | 2-3 add -1 = 0 | 4-5 add 1 = 1", 1, undefined],
    ["stale read", "0-1 add 1 = 1 | 2-3 read = 0", 1, "reply outside 1 to 1: #1"],
    ["read ahead", "0-1 read = 1 | 2-3 add 1 = 1", 1, "reply outside 0 to 0: #0"],
    ["subtracted twice", "0-1 add -2 = -2 | 2-3 read = -4", -2, "reply outside -2 to -2: #1"],
    ["subtraction missed", "0-1 add -2 = -2 | 2-3 read = 0", -2, "reply outside -2 to -2: #1"],
    ["own addition missed", "0-1 add 2 = 0", 2, "reply outside 2 to 2: #0"],
    ["no reply", "0-1 read", 0, "reply outside 0 to 0"],
  ])("counter: %s", (_, text, final, expected) => {
    expectOne(checkCounter(history<CounterInput>(text), one(final)), expected);
  });

  it.each<[string, string, Scalar[] | undefined, string | undefined]>([
    ["prefixes", "0-1 read = [] | 2-3 read = [1] | 4-5 read = [1,2]", [1, 2, 3], undefined],
    ["other order", "0-1 read = [2,1]", [1, 2], "which has 1 at 0: #0"],
    ["longer than the final list", "0-1 read = [1,2]", [1], "which has nothing at 1: #0"],
    ["reads disagree", "0-9 read = [1,2] | 0-9 read = [2]", undefined, "which has 1 at 0: #1"],
    ["went back", "0-1 read = [1] | 2-3 read = []", [1], "went back: #1"],
    ["concurrent, shorter", "0-9 read = [1] | 2-3 read = []", [1], undefined],
  ])("append list: %s", (_, text, final, expected) => {
    expectOne(checkAppendList(history<ListInput>(text), final && one(final)), expected);
  });
});

describe("checks of what is left", () => {
  const sent = (text: string) =>
    one(text.split(" ").map((entry) => ({ sender: entry.slice(0, 1), sequence: Number(entry.slice(1)) })));

  it("per-sender FIFO", () => {
    expectOne(checkSenderFifo(sent("a1 b1 a2 a5 b2 b2")), undefined);
    expectOne(checkSenderFifo(sent("a1 b2 a2 b1")), '"b" sent 1 before 2, but they are at 3 and 1');
  });

  it("exactly once", () => {
    expectOne(checkExactlyOnce(sent("a1 a2"), sent("a2")), undefined);
    expectOne(checkExactlyOnce(sent("a1 a2 a1")), "is there 2 times, at [0,2]");
    expectOne(checkExactlyOnce(sent("a1"), sent("a2")), "was acknowledged and is missing");
    expectOne(checkExactlyOnce(new Map(), one(["x"])), "is missing");
    expectOne(
      checkExactlyOnce(one(["x1", "x2"]), undefined, (text) => text.slice(0, 1)),
      "2 times",
    );
  });

  const cancelled = (outcome: Outcome, at: number) => ({ cancelled: { outcome, at } });
  it.each<[string, Partial<TimerRecord>, number[], string | undefined]>([
    ["fired", {}, [10], undefined],
    ["late", {}, [90], undefined],
    ["never", {}, [], "due at 10, never fired until 100"],
    ["due near the end", { due: 96 }, [], undefined],
    ["twice", {}, [10, 11], "fired 2 times, at [10,11]"],
    ["early", {}, [9], "fired early, at [9]"],
    ["cancelled", cancelled("ok", 5), [], undefined],
    ["fired, then cancelled", cancelled("ok", 12), [10], undefined],
    ["cancelled, then fired", cancelled("ok", 5), [10], "cancelled at 5, fired at [10]"],
    ["perhaps cancelled, fired", cancelled("unknown", 5), [10], undefined],
    ["perhaps cancelled, not fired", cancelled("unknown", 5), [], undefined],
    ["not cancelled, not fired", cancelled("failed", 5), [], "never fired"],
    ["refused", { scheduled: "failed" }, [10], "was refused and fired at [10]"],
    ["perhaps scheduled", { scheduled: "unknown" }, [], undefined],
    ["perhaps scheduled, twice", { scheduled: "unknown" }, [10, 11], "fired 2 times"],
    ["another one", { timer: "u", due: 99 }, [10], '"t" fired at 10 but was never scheduled'],
  ])("timer: %s", (_, change, at, expected) => {
    const timer: TimerRecord = { key: "k", timer: "t", due: 10, scheduled: "ok", ...change };
    const firings = at.map((time) => ({ key: "k", timer: "t", at: time }));
    expectOne(checkTimersOnce([timer], firings, { end: 100, latenessMax: 5 }), expected);
    expect(() => checkTimersOnce([timer, timer], [], { end: 0 })).toThrow(RangeError);
  });

  it.each<[string, string, Partial<BankRead>, string | undefined]>([
    ["conserved", "a3 b7", {}, undefined],
    ["in transit", "a3 b5", { inTransit: 2 }, undefined],
    ["lost", "a3 b5", {}, 'bank "": money not conserved in read: 8 instead of 10'],
    ["overdrawn", "a-1 b11", {}, 'bank "a": overdrawn to -1'],
    ["missing", "a10", {}, 'bank "b": missing in read'],
    ["unknown account", "a3 b7 c0", {}, 'bank "c": no such account'],
    ["counted twice", "a2 b6 a2", {}, 'bank "a": counted twice in read'],
  ])("bank: %s", (_, text, change, expected) => {
    const balances =
      sent(text)
        .get("k")
        ?.map((e) => ({ account: e.sender, balance: e.sequence })) ?? [];
    const expectation = { total: 10, accounts: ["a", "b"] };
    expectOne(checkBank([{ label: "read", balances, ...change }], expectation), expected);
  });
});
