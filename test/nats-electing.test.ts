/** Provisioning on a cluster that has no leader, or too few servers, at that moment: it is waited for, up to a time. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type NatsOptions, nats, provisionNats } from "../runtime/index.ts";
import { type NatsCluster, type NatsServer, startCluster } from "./support/nats-server.ts";
import { failure } from "./support/probe.ts";

const settings = { shards: 8, format: 1 };

describe("a cluster that is electing", () => {
  let cluster: NatsCluster;
  let first: NatsServer;
  let others: readonly NatsServer[];
  let apps = 0;
  let options: NatsOptions;

  beforeAll(async () => {
    cluster = await startCluster(3, { durability: "process" });
  }, 60_000);

  beforeEach(async () => {
    await cluster.ready(3);
    const leader = await cluster.leader();
    first = cluster.servers.find((server) => server !== leader) as NatsServer;
    others = cluster.servers.filter((server) => server !== first);
    // On a machine that has much else to do, an election may take longer than the default allows for.
    options = { servers: first.url, replicas: 3, app: `electing${apps++}`, timeout_ms: 20_000 };
  }, 60_000);

  afterAll(() => cluster.stop());

  /** One that says that it goes, so the others know. */
  const last = (): NatsServer => others[1] as NatsServer;
  const kill = (servers: readonly NatsServer[]): Promise<unknown> =>
    Promise.all(servers.map((server) => server.kill()));
  const restart = (servers: readonly NatsServer[]): Promise<unknown> =>
    Promise.all(servers.map((server) => server.restart()));

  it("without a leader, an app is made as soon as there is one", { timeout: 90_000 }, async () => {
    await kill(others);
    const making = provisionNats(options, settings);
    await restart(others);
    const { made, streams } = await making;
    expect(made).toBe(true);
    expect(streams.map((stream) => [stream.made, stream.replicas])).toEqual(streams.map(() => [true, 3]));
  });

  it("an app that is there is opened as soon as its streams have leaders", { timeout: 90_000 }, async () => {
    await provisionNats(options, settings);
    await kill(others);
    const opening = nats({ ...options, provision: false });
    await restart(others);
    const store = await opening;
    expect(await store.settings()).toEqual(settings);
    await store.close();
  });

  it("replicas for which a server is missing are made as soon as it is there", {
    timeout: 90_000,
  }, async () => {
    await last().kill("SIGTERM");
    const making = provisionNats(options, settings);
    await last().restart();
    expect((await making).made).toBe(true);
  });

  it("nobody comes: unreachable, with the time that was waited and what to look at", {
    timeout: 90_000,
  }, async () => {
    await kill(others);
    const error = await failure(provisionNats({ ...options, timeout_ms: 300 }, settings));
    expect(error).toMatchObject({ code: "unreachable", retryable: true });
    expect(error.message).toMatch(/within \d+(\.\d)? s/);
    expect(error.message).toContain("elected a leader");
    await restart(others);
  });

  it("more replicas than servers: waited for, and then fewer are advised", async () => {
    const error = await failure(provisionNats({ ...options, replicas: 5, timeout_ms: 300 }, settings));
    expect(error).toMatchObject({ code: "server_unsuitable", retryable: false });
    expect(error.message).toContain("fewer replicas");
  });
});
