/** The client of a page watches: one stream for all actors, over breaks and servers that go and come back. */
import { type KeyturnNode, memory, startNode, type Store } from "keyturn";
import type { ActorState } from "keyturn/browser";
import { type HttpServer, serveHttp } from "keyturn/http";
import { describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { isNewer } from "../runtime/words/newer.ts";
import { positionOf } from "../runtime/words/position.ts";
import { afterwards, served } from "./support/http.ts";
import { diary, actors, SOON, clientOf, behindProxy, until } from "./support/browser-client.ts";

describe("watching", () => {
  it("gives each state, in one stream for all actors", async () => {
    const { server, node } = await served(actors);
    const client = clientOf({ url: server.url });
    const keys = Array.from({ length: 12 }, (_, n) => `n${n}`);
    const counts = new Map<string, number>();
    const leave = keys.map((key) =>
      client.actor(counter, key).subscribe(({ state }) => counts.set(key, state?.context.count ?? -1)),
    );
    await expect.poll(() => counts.size).toBe(12);
    expect(server.streams).toBe(1);
    await node.client.actor(counter, "n3").send({ type: "add", by: 3 });
    await expect.poll(() => counts.get("n3")).toBe(3);
    // Further ones come into the same stream.
    const late = client.actor(counter, "late").watch();
    expect((await late.next()).value).toMatchObject({ turn: 0 });
    await expect.poll(() => server.streams).toBe(1);
    await node.client.actor(counter, "n4").send({ type: "add", by: 4 });
    await expect.poll(() => counts.get("n4")).toBe(4);
    await late.return(undefined);
    for (const end of leave) end();
    for (const end of leave) end();
    await expect.poll(() => server.streams, SOON).toBe(0);
  });

  it("shows what one's own calls have committed, and shares what has not changed", async () => {
    const { client } = await behindProxy();
    const a = client.actor(diary, "a");
    const leave = a.subscribe(() => undefined);
    const { state: first } = await until(a, ({ status }) => status === "live");
    await a.ask({ type: "note", note: { x: 1 } });
    const { state: second } = a.watched();
    expect(second).toMatchObject({ turn: 1, context: { notes: [{ x: 1 }] } });
    expect(second).not.toBe(first);
    expect(second?.context.same).toBe(first?.context.same);
    expect(() => (second!.context.notes as unknown[]).push(2)).toThrow(TypeError);
    leave();
  });

  it("goes on after a break, and never shows an older state", async () => {
    const { client, proxy, node } = await behindProxy();
    const a = client.actor(counter, "a");
    const b = client.actor(counter, "b");
    const seen: number[] = [];
    const statuses = new Set<string>();
    const leave = [
      a.subscribe(({ state, status }) => {
        statuses.add(status);
        if (state !== undefined) seen.push(state.turn);
      }),
      b.subscribe(() => undefined),
    ];
    await until(a, ({ status }) => status === "live");
    for (let n = 1; n <= 20; n++) {
      await node.client.actor(counter, "a").send({ type: "add", by: 1 });
      if (n % 5 !== 0) continue;
      proxy.reset();
      await until(a, ({ status }) => status === "reconnecting");
      await node.client.actor(counter, "a").send({ type: "add", by: 1 });
      await until(a, ({ status, state }) => status === "live" && state?.turn === n + n / 5);
    }
    expect(seen).toEqual([...seen].sort((x, y) => x - y));
    expect([...statuses].sort()).toEqual(["live", "reconnecting"]);
    // Nothing happened to it, and that it is as it was is known.
    expect(await until(b, ({ status }) => status === "live")).toMatchObject({ state: { turn: 0 } });
    for (const end of leave) end();
  });

  it("notices that a connection is dead though nobody says so", async () => {
    const { client, proxy, node } = await behindProxy({ limits: { heartbeat_ms: 50 } });
    const a = client.actor(counter, "a");
    const leave = a.subscribe(() => undefined);
    await until(a, ({ status }) => status === "live");
    proxy.cut();
    await node.client.actor(counter, "a").send({ type: "add", by: 1 });
    await until(a, ({ status }) => status === "reconnecting");
    expect(a.watched().state?.turn).toBe(0);
    proxy.heal("reset");
    await until(a, ({ status, state }) => status === "live" && state?.turn === 1);
    leave();
  });

  it("survives servers that go and come back, also one that has lost everything", async () => {
    let store: Store = memory();
    let node: KeyturnNode | undefined;
    let server: HttpServer | undefined;
    let port = 0;
    const start = async (): Promise<void> => {
      node = await startNode({ actors, store, shards: 8, observer: { troubled: () => undefined } });
      server = await serveHttp(node, { listen: `127.0.0.1:${port}` });
      port = server.port;
    };
    const stop = async (): Promise<void> => {
      await server?.close();
      await node?.stop();
    };
    await start();
    afterwards(stop);
    const client = clientOf({ url: (server as unknown as HttpServer).url });
    const a = client.actor(counter, "a");
    const seen: ActorState<typeof counter.machine>[] = [];
    const leave = a.subscribe(({ state }) => {
      if (state !== undefined && state !== seen.at(-1)) seen.push(state);
    });
    for (let n = 1; n <= 5; n++) await a.send({ type: "add", by: 1 });
    await until(a, ({ state, status }) => state?.turn === 5 && status === "live");
    await stop();
    await until(a, ({ status }) => status === "reconnecting");
    // What is asked meanwhile waits for the server.
    const asked = a.ask({ type: "add", by: 10 }, { timeout_ms: 60_000 });
    await start();
    expect(await asked).toBe(15);
    await until(a, ({ state, status }) => state?.turn === 6 && status === "live");
    await stop();
    store = memory();
    await until(a, ({ status }) => status === "reconnecting");
    await start();
    expect(await until(a, ({ status }) => status === "live")).toMatchObject({
      state: { turn: 0, context: { count: 0 } },
    });
    expect(seen.map(({ turn }) => turn)).toEqual([
      ...seen
        .map(({ turn }) => turn)
        .slice(0, -1)
        .sort(),
      0,
    ]);
    leave();
  });

  it("ends quietly with its signal, and with the last reader", async () => {
    const { server, client } = await behindProxy();
    const stop = new AbortController();
    const turns: number[] = [];
    for await (const { turn } of client.actor(counter, "a").watch({ signal: stop.signal })) {
      turns.push(turn);
      stop.abort();
    }
    expect(turns).toEqual([0]);
    await expect.poll(() => server.streams, SOON).toBe(0);
    const waiting = client.actor(counter, "b").watch({ signal: AbortSignal.timeout(50) });
    while ((await waiting.next()).done !== true);
    await expect.poll(() => server.streams, SOON).toBe(0);
  });

  it("knows the newer of two states", () => {
    const at = (position: number, turn: number) => ({ position, turn });
    expect(isNewer(at(5, 1), at(5, 0))).toBe(true);
    expect(isNewer(at(6, 1), at(5, 9))).toBe(true);
    // Of an actor that was deleted meanwhile.
    expect(isNewer(at(5, 9), at(6, 0))).toBe(false);
    expect(isNewer(at(5, 1), at(5, 1))).toBe(false);
    // Of other journals nothing but the turns can be compared.
    expect(isNewer(at(positionOf(1, 2), 3), at(900, 2))).toBe(true);
    expect(isNewer(at(positionOf(1, 2), 2), at(900, 3))).toBe(false);
  });
});
