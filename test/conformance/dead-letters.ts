/** The clauses of DeadLetters. */
import { describe, expect, it } from "vitest";
import type { DeadLetter, DeadLetters } from "../../runtime/ports/index.ts";
import type { Suite } from "./suite.ts";

function letter(seq: number, index = 0, more: Partial<DeadLetter> = {}): DeadLetter {
  return {
    position: seq,
    index,
    type: "counter",
    key: "page:home",
    event: { type: "add", by: seq },
    time: 1_700_000_000_000 + seq,
    code: "machine_failed",
    reason: "it threw",
    ...more,
  };
}

async function walk(deadLetters: DeadLetters, page: number): Promise<DeadLetter[]> {
  const all: DeadLetter[] = [];
  while (true) {
    const letters = await deadLetters.list(page, all.at(-1));
    expect(letters.length).toBeLessThanOrEqual(page);
    all.push(...letters);
    if (letters.length < page) return all;
  }
}

export function deadLetterClauses({ use }: Suite): void {
  describe("DeadLetters", () => {
    it(
      "are listed by position and index, in pages",
      use(async ({ deadLetters }) => {
        expect(await deadLetters.list(10)).toEqual([]);
        await deadLetters.put([]);
        await deadLetters.put([letter(20), letter(3, 1), letter(3, 0), letter(100)]);
        await deadLetters.put([letter(3, 10), letter(4)]);
        const wanted = [letter(3, 0), letter(3, 1), letter(3, 10), letter(4), letter(20), letter(100)];
        for (const page of [1, 2, 4, 6, 50]) expect(await walk(deadLetters, page)).toEqual(wanted);
        expect(await deadLetters.list(10, letter(4))).toEqual([letter(20), letter(100)]);
        expect(await deadLetters.list(10, letter(5))).toEqual([letter(20), letter(100)]);
        expect(await deadLetters.list(10, letter(100))).toEqual([]);
      }),
    );

    it(
      "are there once, however often they are put",
      use(async ({ deadLetters }) => {
        await deadLetters.put([letter(1), letter(2), letter(1)]);
        await Promise.all(Array.from({ length: 5 }, () => deadLetters.put([letter(2), letter(1)])));
        expect(await deadLetters.list(10)).toEqual([letter(1), letter(2)]);
      }),
    );

    it(
      "are gone once removed, and stay so when they are put again",
      use(async ({ deadLetters }) => {
        await deadLetters.put([letter(1), letter(2), letter(2, 1), letter(3)]);
        await deadLetters.remove([]);
        await deadLetters.remove([letter(2), { position: 3, index: 0 }]);
        expect(await walk(deadLetters, 1)).toEqual([letter(1), letter(2, 1)]);
        // As a take-over does, which finds them in the tail once more.
        await deadLetters.put([letter(1), letter(2), letter(3), letter(4)]);
        await deadLetters.remove([letter(2), letter(9)]);
        expect(await walk(deadLetters, 2)).toEqual([letter(1), letter(2, 1), letter(4)]);
        // Removed and put at the same moment: the removal was first.
        await Promise.all([deadLetters.remove([letter(4)]), deadLetters.put([letter(4)])]);
        await deadLetters.remove(await deadLetters.list(10));
        expect(await deadLetters.list(10)).toEqual([]);
      }),
    );

    it(
      "keep any event",
      use(async ({ deadLetters }) => {
        const events = [
          { type: "nested", list: [1, [2.5, { deep: null }]], text: "ä€😀", yes: true },
          { type: "time", at: new Date(1_700_000_000_000) },
          { type: "large", text: "x".repeat(200_000) },
          "text",
          null,
        ];
        await deadLetters.put(events.map((event, index) => letter(1, index, { event, key: "ключ/…" })));
        const found = await deadLetters.list(10);
        expect(found.map(({ event }) => event)).toEqual(events);
        expect(found[0]?.key).toBe("ключ/…");
      }),
    );
  });
}
