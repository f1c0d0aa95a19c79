/** Seeded bugs: each is caught by the simulation, or the simulation is too weak. */
import { describe, expect, it } from "vitest";
import { bugs } from "./sim/bugs/index.ts";
import { play } from "./sim/play.ts";

describe("seeded bugs are caught", () => {
  for (const { name, text, budget, seed: known } of bugs) {
    it(`${name}: ${text}`, { timeout: 120_000 }, async () => {
      const caught = async (seed: number): Promise<boolean> =>
        (await play(seed, { bug: name })).violations.length > 0;
      if (known !== undefined && (await caught(known))) return expect(known).toBeLessThanOrEqual(budget);
      let seed = 1;
      while (seed <= budget && !(await caught(seed))) seed++;
      expect(seed, `${name} was not caught within ${budget} seeds`).toBeLessThanOrEqual(budget);
    });
  }
});
