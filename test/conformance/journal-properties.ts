/** Journal against a model: any sequence of appends and reads, one after another and at once. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Journal } from "../../runtime/ports/index.ts";
import { bytesOf, readAll, textOf } from "./helpers.ts";
import type { Suite } from "./suite.ts";

/** What an append expects: the truth, what was true before, nothing, or anything. */
type Expectation = "right" | "stale" | "empty" | number;

interface Append {
  readonly kind: "append";
  readonly lane: number;
  readonly expectation: Expectation;
}
interface Read {
  readonly kind: "read";
  readonly lane: number;
  /** Share of the journal's length. */
  readonly from: number;
  readonly to: number;
}
type Step = Append | Read;

const lane = fc.nat(2);
const expectation: fc.Arbitrary<Expectation> = fc.oneof(
  { weight: 6, arbitrary: fc.constant("right" as const) },
  { weight: 1, arbitrary: fc.constant("stale" as const) },
  { weight: 1, arbitrary: fc.constant("empty" as const) },
  { weight: 1, arbitrary: fc.nat(50) },
);
const append = fc.record({ kind: fc.constant("append" as const), lane, expectation });
const share = fc.double({ min: -0.1, max: 1.2, noNaN: true });
const read = fc.record({ kind: fc.constant("read" as const), lane, from: share, to: share });
const steps = fc.array(fc.oneof<fc.Arbitrary<Step>[]>(append, append, read), { maxLength: 40 });

/** The journal as it should be, of lanes that belong to one run. */
class Model {
  readonly lanes: [seq: number, text: string][][] = [[], [], []];
  last = 0;

  lane(number: number): [seq: number, text: string][] {
    return this.lanes[number] as [number, string][];
  }

  lastOf(number: number): number {
    return this.lane(number).at(-1)?.[0] ?? 0;
  }

  expected({ lane: number, expectation: wanted }: Append): number {
    if (wanted === "right") return this.lastOf(number);
    if (wanted === "stale") return this.lane(number).at(-2)?.[0] ?? 0;
    return wanted === "empty" ? 0 : wanted;
  }
}

export function journalProperties({ use, runs }: Suite): void {
  describe("Journal, against a model", () => {
    it(
      "1, 3, 4. one call after another",
      use(async ({ journal }) => {
        let run = 0;
        await fc.assert(
          fc.asyncProperty(steps, async (list) => sequential(journal, `s${run++}`, list)),
          { numRuns: runs },
        );
      }),
    );

    it(
      "1, 3, 4. many appends at once",
      use(async ({ journal }) => {
        let run = 0;
        const rounds = fc.array(fc.array(append, { minLength: 1, maxLength: 12 }), { maxLength: 6 });
        await fc.assert(
          fc.asyncProperty(rounds, async (list) => concurrent(journal, `c${run++}`, list)),
          { numRuns: runs },
        );
      }),
    );
  });
}

async function sequential(journal: Journal, prefix: string, list: readonly Step[]): Promise<void> {
  const model = new Model();
  for (const [n, step] of list.entries()) {
    const name = `${prefix}.${step.lane}`;
    if (step.kind === "read") {
      const from = Math.round(step.from * model.last);
      const to = Math.round(step.to * model.last);
      const wanted = model.lane(step.lane).filter(([seq]) => seq >= from && seq <= to);
      expect(await readAll(journal, name, from, to)).toEqual(wanted);
      continue;
    }
    const expected = model.expected(step);
    const result = await journal.append(name, expected, bytesOf(`${n}`));
    expect(result.kind).toBe(expected === model.lastOf(step.lane) ? "committed" : "conflict");
    if (result.kind === "committed") {
      expect(result.seq).toBeGreaterThan(model.last);
      model.last = result.seq;
      model.lane(step.lane).push([result.seq, `${n}`]);
    }
    expect(await journal.last(name)).toBe(model.lastOf(step.lane));
  }
  await expectLanes(journal, prefix, model);
}

async function concurrent(
  journal: Journal,
  prefix: string,
  rounds: readonly (readonly Append[])[],
): Promise<void> {
  const model = new Model();
  for (const [round, appends] of rounds.entries()) {
    const before = model.lanes.map((_, number) => model.lastOf(number));
    const calls = appends.map((step, n) => {
      const expected = model.expected(step);
      const text = `${round}.${n}`;
      const answer = journal.append(`${prefix}.${step.lane}`, expected, bytesOf(text));
      return answer.then((result) => ({ result, expected, text, number: step.lane }));
    });
    const answered = await Promise.all(calls);
    for (const [number, last] of before.entries()) {
      const here = answered.filter((call) => call.number === number);
      const won = here.filter(({ result }) => result.kind === "committed");
      // Whoever expects the sequence that a winner of this round was given may win after it; it cannot know it.
      const hopeful = here.some(({ expected }) => expected === last);
      expect(won.filter(({ expected }) => expected === last)).toHaveLength(hopeful ? 1 : 0);
      expect(won.length + here.filter(({ result }) => result.kind === "conflict").length).toBe(here.length);
      for (const { result, text } of won.sort((a, b) => seqOf(a.result) - seqOf(b.result))) {
        model.lane(number).push([seqOf(result), text]);
        model.last = Math.max(model.last, seqOf(result));
      }
    }
  }
  await expectLanes(journal, prefix, model);
}

function seqOf(result: { kind: string; seq?: number }): number {
  return result.seq ?? 0;
}

async function expectLanes(journal: Journal, prefix: string, model: Model): Promise<void> {
  for (const [number, entries] of model.lanes.entries()) {
    expect(await readAll(journal, `${prefix}.${number}`)).toEqual(entries);
    for (const [seq, text] of entries) expect(textOf(await journal.get(seq))).toBe(text);
  }
}
