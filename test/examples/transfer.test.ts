import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { account, main } from "../../examples/transfer/transfer.ts";
import { memory, startNode } from "../../runtime/index.ts";
import { onBothStores } from "../support/example-stores.ts";

onBothStores(
  () => memory,
  (open) => {
    it("neither loses nor makes money when a node dies", async () => {
      const { before, after, balances } = await main(open);
      expect(after).toBe(before);
      // Everybody could always pay, so it does not matter in which order the transfers were.
      expect(balances).toEqual({ ada: 15_200, ben: 15_000, cleo: 14_800, dan: 0 });
    });
  },
);

describe("an account", () => {
  it("refuses what is not covered, and returns what a closed account is sent", async () => {
    const node = await startNode({ actors: [account], store: memory() });
    const [ada, ben] = [node.client.actor(account, "ada"), node.client.actor(account, "ben")];
    const cents = async (ref: typeof ada): Promise<number> => (await ref.get()).context.cents;
    await ada.send({ type: "deposit", cents: 100 });
    for (const amount of [101, 0, -5]) {
      expect(await ada.ask({ type: "transfer", to: "ben", cents: amount })).toBe("not covered");
    }
    expect(await ada.ask({ type: "transfer", to: "ben", cents: 60 })).toBe("on its way");
    expect(await cents(ada)).toBe(40);
    while ((await cents(ben)) < 60) await sleep(1);

    await ben.send({ type: "close" });
    await ben.send({ type: "deposit", cents: 1_000 });
    expect(await ben.ask({ type: "transfer", to: "ada", cents: 1 })).toBe("not covered");
    expect(await ada.ask({ type: "transfer", to: "ben", cents: 40 })).toBe("on its way");
    while ((await cents(ada)) < 40) await sleep(1);
    expect([await cents(ada), await cents(ben)]).toEqual([40, 60]);
    await node.stop();
  });
});
