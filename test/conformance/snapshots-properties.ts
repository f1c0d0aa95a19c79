/** Snapshots against a model: any sequence of writes, deletions and refusals, with the index compared all along. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DueEntry, Store } from "../../runtime/ports/index.ts";
import { readOne, revisionOf, snapshot } from "./helpers.ts";
import type { Suite } from "./suite.ts";

interface Write {
  readonly key: number;
  readonly deletes: boolean;
  /** What it expects: the truth, some revision that the entry once had, or 0. */
  readonly expectation: "right" | "old" | "none";
  readonly due: number | undefined;
}

const write: fc.Arbitrary<Write> = fc.record({
  key: fc.nat(4),
  deletes: fc.boolean(),
  expectation: fc.constantFrom(
    "right" as const,
    "right" as const,
    "right" as const,
    "old" as const,
    "none" as const,
  ),
  due: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined }),
});
/** Calls, of one or more writes each, no two of one entry. */
const calls = fc.array(fc.uniqueArray(write, { minLength: 1, maxLength: 3, selector: ({ key }) => key }), {
  maxLength: 25,
});

interface Known {
  text: string | undefined;
  revision: number;
  due: number | undefined;
  readonly past: number[];
}

export function snapshotProperties({ use, runs, markers }: Suite): void {
  describe("Snapshots, against a model", () => {
    it(
      "1 to 4. one call after another",
      use(async (store) => {
        let run = 0;
        await fc.assert(
          fc.asyncProperty(calls, async (list) => {
            await compare(store, run++, list, markers);
          }),
          { numRuns: runs },
        );
      }),
    );
  });
}

async function compare(
  store: Store,
  run: number,
  list: readonly (readonly Write[])[],
  markers: boolean,
): Promise<void> {
  const shard = run;
  const known = Array.from(
    { length: 5 },
    (): Known => ({ text: undefined, revision: 0, due: undefined, past: [] }),
  );
  const idOf = (key: number): string => `r${run}.k${key}`;
  for (const [n, call] of list.entries()) {
    const wanted = call.map(({ key, deletes, expectation, due }) => {
      const entry = known[key] as Known;
      const expected =
        expectation === "right" ? entry.revision : expectation === "old" ? (entry.past[0] ?? 9) : 0;
      const text = deletes ? undefined : `${n}`;
      return {
        entry,
        write: snapshot(idOf(key), text, expected, { shard, ...(due === undefined ? {} : { due }) }),
      };
    });
    const answers = await store.snapshots.write(wanted.map((one) => one.write));
    for (const [index, { entry, write: asked }] of wanted.entries()) {
      const revision = answers[index];
      expect(revision !== undefined).toBe(asked.expected === entry.revision);
      if (revision === undefined) continue;
      const gone = asked.value === undefined;
      if (gone && !markers) expect(revision).toBe(0);
      else {
        expect(revision).toBeGreaterThan(0);
        expect(entry.past).not.toContain(revision);
        entry.past.push(revision);
      }
      entry.text = gone ? undefined : `${n}`;
      entry.revision = revision;
      entry.due = gone ? undefined : asked.due;
    }
    await compareIndex(store, shard, known, idOf);
  }
  for (const [key, { text, revision }] of known.entries()) {
    expect(await readOne(store, idOf(key))).toEqual(text === undefined ? undefined : { text, revision });
    expect(await revisionOf(store, idOf(key))).toBe(revision);
  }
}

async function compareIndex(
  store: Store,
  shard: number,
  known: readonly Known[],
  idOf: (key: number) => string,
): Promise<void> {
  const before = 5;
  const wanted = known.flatMap(({ due }, key): DueEntry[] =>
    due !== undefined && due < before ? [{ id: idOf(key), due }] : [],
  );
  const found: DueEntry[] = [];
  while (true) {
    const page = await store.snapshots.due(shard, before, 2, found.at(-1));
    found.push(...page);
    if (page.length < 2) break;
  }
  const order = (a: DueEntry, b: DueEntry): number => a.due - b.due || (a.id < b.id ? -1 : 1);
  expect(found.map(({ due }) => due)).toEqual(wanted.map(({ due }) => due).sort((a, b) => a - b));
  expect([...found].sort(order)).toEqual(wanted.sort(order));
}
