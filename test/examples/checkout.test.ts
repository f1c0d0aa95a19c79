import { expect, it } from "vitest";
import { main } from "../../examples/checkout/checkout.ts";
import { embedded } from "../../runtime/index.ts";
import { onBothStores } from "../support/example-stores.ts";
import { temporaryPath } from "../support/temporary.ts";

onBothStores(
  () => {
    const path = temporaryPath();
    return () => embedded({ path });
  },
  (open) => {
    it("ships what is paid in time, and cancels what is not, also while no node runs", async () => {
      expect(await main(open, 200)).toEqual({
        paidInTime: "shipped",
        paidTooLate: "cancelled",
        forgotten: "cancelled",
      });
    });
  },
);
