/** Durations: every form that is accepted, and what is refused. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DURATION_MAX_MS, durationOf, durationText } from "../runtime/words/duration.ts";
import { isKeyturnError } from "../runtime/words/errors.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

describe("a duration", () => {
  it.each<[number | string, number]>([
    [0, 0],
    [250, 250],
    ["0 ms", 0],
    ["250 ms", 250],
    ["250ms", 250],
    ["1 s", 1_000],
    ["1.5 s", 1_500],
    ["1.1s", 1_100],
    ["90 sec", 90_000],
    ["5 min", 300_000],
    ["5m", 300_000],
    ["1h 30m", 1.5 * HOUR],
    ["1h30m", 1.5 * HOUR],
    ["1 hour, 30 minutes", 1.5 * HOUR],
    ["30m 1h", 1.5 * HOUR],
    ["3 days", 3 * DAY],
    ["1 day", DAY],
    ["0.5 d", 12 * HOUR],
    ["2 weeks", 14 * DAY],
    ["2W", 14 * DAY],
    ["  1 Week 2 Days  ", 9 * DAY],
    ["0.001 s", 1],
    [DURATION_MAX_MS, DURATION_MAX_MS],
    ["36525 days", DURATION_MAX_MS],
  ])("%j is %d ms", (given, ms) => {
    expect(durationOf(given)).toBe(ms);
  });

  it.each<[unknown]>([
    [""],
    ["  "],
    ["3"],
    ["days"],
    ["3 fortnights"],
    ["1 month"],
    ["1 year"],
    ["-1 s"],
    ["+1 s"],
    ["1e3 ms"],
    ["1h 30h"],
    ["1 s and 2 ms"],
    ["1,5 s"],
    ["1 s,"],
    ["0.5 ms"],
    ["1 constructor"],
    ["36526 days"],
    [`${"1".repeat(90)} ms`],
    ["1 ms".repeat(1_000)],
    [-1],
    [0.5],
    [Number.NaN],
    [Number.POSITIVE_INFINITY],
    [DURATION_MAX_MS + 1],
    [undefined],
    [null],
    [true],
    [{}],
  ])(
    "refuses %j",
    (given) => {
      let refused: unknown;
      try {
        durationOf(given, "The time to pay");
      } catch (error) {
        refused = error;
      }
      expect(isKeyturnError(refused, "invalid_options")).toBe(true);
      expect((refused as Error).message).toMatch(/^The time to pay is .*3 days/s);
    },
    1_000,
  );

  it("written for people is read back", () => {
    expect(durationText(0)).toBe("0 ms");
    expect(durationText(3 * DAY + 2 * HOUR + 5)).toBe("3 d 2 h 5 ms");
    fc.assert(
      fc.property(fc.integer({ min: 0, max: DURATION_MAX_MS }), (ms) => {
        expect(durationOf(durationText(ms))).toBe(ms);
      }),
    );
  });
});
