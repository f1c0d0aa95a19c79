/** The stores that an app may have, each new with every call; on NATS with one journal and with two, in turns. */
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { embedded, memory, nats, type Store } from "../../runtime/index.ts";
import { type NatsServer, startServer } from "./nats-server.ts";
import { temporaryPath } from "./temporary.ts";

/** @param name of the apps on the server, a number follows; the server is there while the file's tests run */
export function threeStores(name: string): readonly [string, () => Promise<Store>][] {
  let server: NatsServer;
  let apps = 0;
  beforeAll(async () => {
    server = await startServer({ durability: "process" });
  });
  afterAll(() => server.stop());
  return [
    ["memory", async () => memory()],
    ["embedded", () => embedded({ path: join(temporaryPath(), "data"), durability: "process" })],
    ["nats", () => nats({ servers: server.url, app: `${name}${++apps}`, journals: apps % 2 === 0 ? 2 : 1 })],
  ];
}
