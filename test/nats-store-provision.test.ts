/** Making an app's streams, and what is said of how durable commits are. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type NatsOptions, nats, provisionNats, startNode } from "../runtime/index.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";
import { failure, probeOf } from "./support/probe.ts";

let fast: NatsServer;
let safe: NatsServer;

beforeAll(async () => {
  fast = await startServer({ durability: "process" });
  safe = await startServer({ durability: "fsync" });
}, 60_000);

afterAll(async () => {
  await fast.stop();
  await safe.stop();
});

describe("Provisioning", () => {
  const settings = { shards: 8, format: 1 };
  const streams = (app: string): string[] =>
    [`${app}_journal`, `KV_${app}_snapshots`, `KV_${app}_shards`, `KV_${app}_nodes`, `${app}_dead`].sort();

  it("makes everything once, says so, and changes nothing when it is done again", async () => {
    const options = { servers: fast.url, app: "once" };
    const first = await provisionNats(options, settings);
    expect(first).toMatchObject({ app: "once", settings, made: true });
    expect(first.streams.map(({ stream }) => stream).sort()).toEqual(streams("once"));
    for (const { made, replicas } of first.streams)
      expect({ made, replicas }).toEqual({ made: true, replicas: 1 });
    const before = await configs("once");
    const second = await provisionNats(options, settings);
    expect(second).toMatchObject({ app: "once", settings, made: false });
    expect(second.streams.every(({ made }) => !made)).toBe(true);
    expect(await configs("once")).toEqual(before);
  });

  it("makes what is missing of it, and nothing else", async () => {
    const options = { servers: fast.url, app: "part" };
    await provisionNats(options, settings);
    const nc = await connect({ servers: fast.url });
    await (await jetstreamManager(nc)).streams.delete("part_dead");
    await nc.close();
    const report = await provisionNats(options, settings);
    expect(report.made).toBe(false);
    expect(report.streams.filter(({ made }) => made).map(({ stream }) => stream)).toEqual(["part_dead"]);
  });

  it("ten at once: each stream and the app are made by exactly one of them, and all agree", async () => {
    const reports = await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        provisionNats({ servers: fast.url, app: "ten" }, { shards: 2 ** n, format: 1 }).catch(
          (error: unknown) => error,
        ),
      ),
    );
    const winners = reports.filter((report) => !(report instanceof Error)) as Awaited<
      ReturnType<typeof provisionNats>
    >[];
    expect(winners).toHaveLength(1);
    expect(winners[0]?.made).toBe(true);
    for (const report of reports)
      if (report instanceof Error) expect(report).toMatchObject({ code: "app_mismatch" });

    const same = await Promise.all(
      Array.from({ length: 10 }, () => provisionNats({ servers: fast.url, app: "same" }, settings)),
    );
    expect(same.filter(({ made }) => made)).toHaveLength(1);
    for (const stream of streams("same")) {
      const made = same.filter((report) => report.streams.some((one) => one.stream === stream && one.made));
      expect([stream, made.length]).toEqual([stream, 1]);
    }
  });

  it("ten nodes' stores at once on an empty server all open, and a node starts on what one of them made", async () => {
    const stores = await Promise.all(
      Array.from({ length: 10 }, () => nats({ servers: fast.url, app: "nodes" })),
    );
    for (const store of stores.slice(1)) await store.close();
    const node = await startNode({ actors: [probeOf()], store: stores[0] as (typeof stores)[0], shards: 4 });
    expect(await node.client.actor("probe/k").ask({ type: "add", by: 2 })).toBe(2);
    await node.stop();
  });

  it("settings are written once, whoever comes first; a provisioned app starts without permission to make", async () => {
    await provisionNats({ servers: fast.url, app: "apart" }, { shards: 16, format: 1 });
    const store = nats({ servers: fast.url, app: "apart", provision: false });
    const node = await startNode({ actors: [probeOf()], store });
    expect(node.shardsOfApp).toBe(16);
    await node.stop();
  });

  async function configs(app: string): Promise<unknown[]> {
    const nc = await connect({ servers: fast.url });
    const manager = await jetstreamManager(nc);
    const found: unknown[] = [];
    for (const stream of streams(app)) {
      const { config, created, state } = await manager.streams.info(stream);
      found.push({ config, created, messages: state.messages, last: state.last_seq });
    }
    await nc.close();
    return found;
  }
});

describe("How durable commits are", () => {
  const noteOf = async (options: NatsOptions): Promise<{ durability: string; note: string }> => {
    const store = await nats(options);
    const { durability, durabilityNote: note } = store;
    await store.close();
    return { durability, note };
  };

  it("the server says that it syncs always: fsync, whatever the operator says", async () => {
    for (const durability of [undefined, "fsync", "process"] as const) {
      const found = await noteOf({ servers: safe.url, monitor: safe.monitorUrl, durability });
      expect(found.durability).toBe("fsync");
      expect(found.note).toMatch(/flushed to disk before .* answered \(fsync\).*monitoring page/);
    }
  });

  it("the server says that it syncs later: process, with the interval and what to set, against the operator's word", async () => {
    const found = await noteOf({ servers: fast.url, monitor: fast.monitorUrl });
    expect(found.durability).toBe("process");
    expect(found.note).toMatch(/not a power loss.*every 120 s.*sync_interval: always/);
    const against = await noteOf({ servers: fast.url, monitor: fast.monitorUrl, durability: "fsync" });
    expect(against.durability).toBe("process");
    expect(against.note).toContain('although the operator said "fsync"');
  });

  it("the page does not answer, or says something else: the operator's word, or process", async () => {
    const odd = createServer((request, response) => {
      if (request.url === "/jsz") response.end("<html>");
    });
    await new Promise<void>((resolve) => odd.listen(0, "127.0.0.1", resolve));
    const port = (odd.address() as AddressInfo).port;
    for (const monitor of ["http://127.0.0.1:1", `http://127.0.0.1:${port}`]) {
      const unknown = await noteOf({ servers: safe.url, monitor });
      expect(unknown.durability).toBe("process");
      expect(unknown.note).toMatch(/does not tell.*Taken for "process"/);
      const word = await noteOf({ servers: safe.url, monitor, durability: "fsync" });
      expect(word.durability).toBe("fsync");
      expect(word.note).toMatch(/does not tell.*The operator says "fsync"/);
    }
    odd.close();
  });

  it("the operator's word alone is named as such", async () => {
    const fsync = await noteOf({ servers: safe.url, durability: "fsync" });
    expect(fsync.durability).toBe("fsync");
    expect(fsync.note).toMatch(/the operator says so.*not checked/);
    const process = await noteOf({ servers: safe.url, durability: "process" });
    expect(process.durability).toBe("process");
    expect(process.note).toMatch(/the operator says so/);
  });

  it("nothing at all: process, that it is not known, and what to set", async () => {
    const found = await noteOf({ servers: safe.url });
    expect(found.durability).toBe("process");
    expect(found.note).toMatch(/not known/);
    expect(found.note).toContain("sync_interval: always");
    expect(found.note).toContain('durability "fsync"');
  });

  it("a node refuses none of these: its store says what it is", async () => {
    const store = await nats({ servers: safe.url, app: "says", monitor: safe.monitorUrl });
    expect(store.description).toContain('app "says", 1 replica');
    expect(store.description).toContain(safe.version);
    await store.close();
    const error = await failure(store.directory.readShard(1));
    expect(error).toMatchObject({ code: "unreachable" });
  });
});
