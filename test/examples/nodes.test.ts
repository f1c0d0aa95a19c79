import { expect, it } from "vitest";
import { main } from "../../examples/nodes/nodes.ts";
import { memory } from "../../runtime/index.ts";
import { onBothStores } from "../support/example-stores.ts";

onBothStores(
  () => memory,
  (open) => {
    it("moves about half of the shards to a second node and back, and applies every add once", async () => {
      const { steps, answered, counted } = await main(open);
      expect(steps).toEqual([[64], [expect.any(Number), expect.any(Number)], [64]]);
      const [first = 0, second = 0] = steps[1] ?? [];
      expect(first + second).toBe(64);
      expect(Math.min(first, second)).toBeGreaterThan(16);
      expect(answered).toBeGreaterThan(100);
      expect(counted).toBe(answered);
    });
  },
);
