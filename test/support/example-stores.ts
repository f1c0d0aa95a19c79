/** The stores that examples are tested on: their own, and a real NATS server. */
import { afterAll, beforeAll, beforeEach, describe, vi } from "vitest";
import { natsOn, type OpenStore } from "../../examples/run.ts";
import { type NatsServer, startServer } from "./nats-server.ts";

/**
 * Runs tests once on the store that the example has by itself, and once on a NATS server.
 * @param own makes the own store, for each test anew
 * @param tests are given what opens the store
 */
export function onBothStores(own: () => OpenStore, tests: (open: OpenStore) => void): void {
  beforeEach(() => {
    vi.spyOn(console, "log").mockReturnValue(undefined);
  });

  describe("on its own store", () => {
    let store: OpenStore;
    beforeEach(() => {
      store = own();
    });
    tests(() => store());
  });

  describe("on NATS", () => {
    let server: NatsServer;
    beforeAll(async () => {
      server = await startServer();
    });
    afterAll(() => server.stop());
    tests(() => natsOn(server.url, "example")());
  });
}
