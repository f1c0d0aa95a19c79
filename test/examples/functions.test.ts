import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { expect, it } from "vitest";
import { deskServer } from "../../examples/functions/desk.ts";
import { main, type StartDesk } from "../../examples/functions/payments.ts";
import { embedded } from "../../runtime/index.ts";
import { onBothStores } from "../support/example-stores.ts";
import { temporaryPath } from "../support/temporary.ts";

/** The same server in this process; what is on its way when it is killed is lost too. */
const here: StartDesk = async (port = 0) => {
  const server = deskServer().listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    kill: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
};

onBothStores(
  () => {
    const path = temporaryPath();
    return () => embedded({ path });
  },
  (open) => {
    it("decides each payment once while the desk is killed, and the books of cards and shops agree", async () => {
      const { verdicts, told, spent, taken, posts, again } = await main(open, here);
      expect(verdicts.paid + verdicts.blocked + verdicts.declined).toBe(800);
      expect(verdicts.blocked).toBeGreaterThan(0);
      expect(again).toBe("paid");
      expect([spent, taken]).toEqual([told, told]);
      expect(posts).toBeLessThan(400);
    }, 30_000);
  },
);
