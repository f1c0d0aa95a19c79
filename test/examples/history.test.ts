import { expect, it } from "vitest";
import { main } from "../../examples/history/history.ts";
import { memory } from "../../runtime/index.ts";
import { onBothStores } from "../support/example-stores.ts";

onBothStores(
  () => memory,
  (open) => {
    it("shows every turn of the past, and brings a state of it back", async () => {
      expect(await main(open)).toEqual({
        texts: ["The harbour opens at 8.", "The harbour opens at 8 and closes at 20.", "", ""],
        restored: "The harbour opens at 8 and closes at 20.",
      });
    });
  },
);
