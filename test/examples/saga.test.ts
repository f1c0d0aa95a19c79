import { expect, it } from "vitest";
import { main } from "../../examples/saga/saga.ts";
import { embedded } from "../../runtime/index.ts";
import { onBothStores } from "../support/example-stores.ts";
import { temporaryPath } from "../support/temporary.ts";

onBothStores(
  () => {
    const path = temporaryPath();
    return () => embedded({ path });
  },
  (open) => {
    it("books trips as a whole or not at all while a node dies, and its books balance", async () => {
      const { booked, undone, seats, beds, cents, had, owed } = await main(open);
      expect(booked + undone).toBe(60);
      expect(booked).toBeGreaterThan(0);
      expect(undone).toBeGreaterThan(0);
      expect([seats[0] + seats[1], beds[0] + beds[1], cents[0] + cents[1]]).toEqual([
        had.seats,
        had.beds,
        had.cents,
      ]);
      expect([seats[1], beds[1], cents[1]]).toEqual([owed.places, owed.places, owed.cents]);
    }, 30_000);
  },
);
