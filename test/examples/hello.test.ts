import { expect, it } from "vitest";
import { main } from "../../examples/hello/hello.ts";
import { embedded } from "../../runtime/index.ts";
import { onBothStores } from "../support/example-stores.ts";
import { temporaryPath } from "../support/temporary.ts";

onBothStores(
  () => {
    const path = temporaryPath();
    return () => embedded({ path });
  },
  (open) => {
    it("goes on counting where the last run ended", async () => {
      expect(await main(open)).toBe("Hello Ada, you are number 1.");
      expect(await main(open)).toBe("Hello Ada, you are number 2.");
    });
  },
);
