/** The client of pages, over a real server, through a network that fails. It needs only `fetch`, which Node has too. */
import { type ChangedActor, createClient, isKeyturnError } from "keyturn/browser";
import { describe, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { served } from "./support/http.ts";
import { parcel } from "./support/parcels.ts";
import { diary, actors, SOON, clientOf, behindProxy } from "./support/browser-client.ts";

describe("calls", () => {
  it("ask, send, create, read, delete, as in Node", async () => {
    const { server, node } = await served(actors);
    const client = clientOf({ url: `${server.url}/` });
    const home = client.actor(counter, "home");
    expect(await home.ask({ type: "add", by: 2 })).toBe(2);
    await home.send({ type: "off" });
    const state = await home.get();
    expect(state).toMatchObject({ value: "off", context: { count: 2 }, turn: 2, status: "active" });
    // Without a reply it is the state, with one that is null it is null.
    expect(await home.ask({ type: "on" })).toMatchObject({ value: "on", turn: 3 });
    expect(await client.actor(diary, "a").ask({ type: "nothing" })).toBeNull();
    expect(await client.actor(diary, "a").call({ type: "nothing" })).toMatchObject({
      replied: true,
      value: null,
    });
    const turns = [];
    for await (const turn of home.history({ order: "oldest" })) turns.push(turn.event.type);
    expect(turns).toEqual(["add", "off", "on"]);
    expect((await home.historyPage({ limit: 1 })).turns).toMatchObject([{ turn: 3 }]);
    await home.delete();
    expect((await node.client.actor(counter, "home").get()).turn).toBe(0);
    expect(await client.actor("parcel/new").create()).toMatchObject({ turn: 1 });
    await expect(client.actor("parcel/new").create()).rejects.toMatchObject({ code: "already_exists" });
    for (const key of ["a/b c", "..", ".", "ä€😀", "%2F"]) {
      expect(await client.actor(counter, key).ask({ type: "add", by: 1 })).toBe(1);
      expect((await client.actor(counter, key).get()).turn).toBe(1);
    }
  });

  it("carry what JSON has no form for, both ways", async () => {
    const { server } = await served(actors);
    const note = {
      at: new Date(5),
      bytes: new Uint8Array([0, 255]),
      big: 2n ** 60n,
      map: new Map([["a", new Set([1])]]),
      not: Number.NaN,
    };
    const a = clientOf({ url: server.url }).actor(diary, "a");
    await a.send({ type: "note", note });
    expect((await a.get()).context.notes).toEqual([note]);
  });

  it("are refused with the error that the server has, or here, before anything is sent", async () => {
    const { server } = await served(actors);
    const client = clientOf({ url: server.url });
    const wrong = client.actor(counter, "a").ask({ type: "add", by: "x" as never });
    await expect(wrong).rejects.toMatchObject({
      name: "KeyturnError",
      code: "invalid_event",
      outcome: "rejected",
      retryable: false,
    });
    await expect(wrong.catch((error: unknown) => isKeyturnError(error, "invalid_event"))).resolves.toBe(true);
    await expect(client.actor(diary, "a").send({ type: "fail" })).rejects.toMatchObject({
      code: "machine_failed",
    });
    await expect(client.actor("nobody/a").get()).rejects.toMatchObject({ code: "unknown_type" });
    for (const bad of [{ timeout_ms: 0 }, { requestId: "with space" }, { requestId: "x".repeat(200) }])
      await expect(client.actor(counter, "a").send({ type: "on" }, bad)).rejects.toMatchObject({
        code: "invalid_options",
      });
    for (const address of ["a", "", "1/a", "counter/", `counter/${"x".repeat(200)}`, "counter/\ud800"])
      expect(() => client.actor(address)).toThrow(expect.objectContaining({ code: "invalid_address" }));
    const self: Record<string, unknown> = {};
    self.self = self;
    await expect(client.actor(diary, "a").send({ type: "note", note: self })).rejects.toMatchObject({
      code: "invalid_event",
    });
    for (const options of [{}, { url: "x" }, { url: "ftp://x" }, { url: server.url, token: 5 as never }])
      expect(() => createClient(options)).toThrow(expect.objectContaining({ code: "invalid_options" }));
  });

  it("of one actor stay in their order, however many there are at once", async () => {
    const { server, client } = await behindProxy();
    const a = client.actor(diary, "a");
    const notes = Array.from({ length: 200 }, (_, n) => n);
    const answers = await Promise.all(notes.map((note) => a.ask({ type: "note", note })));
    expect(answers).toEqual(notes.map((note) => note + 1));
    const read = a.get();
    const last = a.ask({ type: "note", note: "last" });
    expect((await read).context.notes).toEqual(notes);
    expect(await last).toBe(201);
    expect((await a.get()).turn).toBe(201);
    expect(server.streams).toBe(0);
  });

  it("happen once and in order, whatever becomes of their answers", async () => {
    const { proxy, client, node } = await behindProxy();
    const a = client.actor(diary, "a");
    const notes: number[] = [];
    // One goes by itself, several go as a batch.
    for (const together of [1, 6, 1, 40]) {
      // What is asked arrives, and what is answered is lost.
      proxy.cut(["down"]);
      const asked = Array.from({ length: together }, () => {
        notes.push(notes.length);
        return a.ask({ type: "note", note: notes.length - 1 }, { timeout_ms: 60_000 });
      });
      const applied = notes.length - together + Math.min(together, 16);
      await expect.poll(async () => (await node.client.actor(diary, "a").get()).turn).toBe(applied);
      proxy.heal("reset");
      expect(await Promise.all(asked)).toEqual(notes.slice(-together).map((note) => note + 1));
    }
    expect((await node.client.actor(diary, "a").get()).context.notes).toEqual(notes);
  });

  it("end with a time-out, an abort or the client, and say what is known of them", async () => {
    const { proxy } = await behindProxy();
    let sent = 0;
    const counted: typeof fetch = (input, init) => {
      sent++;
      return fetch(input, init);
    };
    const client = clientOf({ url: `http://${proxy.addresses[0]}`, fetch: counted });
    const a = client.actor(diary, "a");
    await a.send({ type: "note", note: 0 });
    proxy.cut();
    const late = a.send({ type: "note", note: 1 }, { timeout_ms: 300 });
    const behind = a.send({ type: "note", note: 2 }, { timeout_ms: 100 });
    await expect(behind).rejects.toMatchObject({ outcome: "unknown" });
    await expect(late).rejects.toMatchObject({ outcome: "unknown", requestId: expect.any(String) });
    const stop = new AbortController();
    const reason = new Error("The view is gone.");
    const aborted = a.ask({ type: "note", note: 3 }, { signal: stop.signal });
    stop.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    await expect(a.get({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    sent = 0;
    const open = a.send({ type: "note", note: 4 });
    const reading = a.historyPage();
    const watching = a.watch().next();
    await expect.poll(() => sent).toBe(3);
    const behindIt = a.send({ type: "note", note: 5 });
    client.close();
    await expect(behindIt).rejects.toMatchObject({ code: "client_ended", outcome: "notApplied" });
    await expect(open).rejects.toMatchObject({ code: "client_closed", outcome: "unknown" });
    await expect(reading).rejects.toMatchObject({ code: "client_closed" });
    await expect(watching).rejects.toMatchObject({ code: "client_closed" });
    await expect(a.get()).rejects.toMatchObject({ code: "client_ended", outcome: "notApplied" });
    expect(a.watched().state).toBeUndefined();
  });

  it("wait for their turn, and say that they were not sent", async () => {
    const { proxy, client } = await behindProxy();
    const a = client.actor(diary, "a");
    proxy.cut();
    const first = a.send({ type: "note", note: 1 }, { timeout_ms: 5_000 });
    await expect.poll(() => proxy.connections).toBe(1);
    const second = a.send({ type: "note", note: 2 }, { timeout_ms: 100 });
    await expect(second).rejects.toMatchObject({ code: "overloaded", outcome: "notApplied" });
    proxy.heal("reset");
    await first;
    expect((await a.get()).context.notes).toEqual([1]);
  });

  it("are answered again under an id of one's own", async () => {
    const { server } = await served(actors);
    const [one, other] = [clientOf({ url: server.url }), clientOf({ url: server.url })];
    const requestId = "order-1";
    expect(await one.actor(diary, "a").ask({ type: "note", note: 1 }, { requestId })).toBe(1);
    expect(await other.actor(diary, "a").ask({ type: "note", note: 1 }, { requestId })).toBe(1);
  });

  it("find and count", async () => {
    const { server, node } = await served(actors);
    const client = clientOf({ url: server.url });
    for (let n = 0; n < 130; n++)
      await node.client
        .actor(parcel, `p${String(n).padStart(3, "0")}`)
        .send({ type: "pack", owner: n % 2 ? "ada" : "bob", weight: n });
    const keys: string[] = [];
    for await (const { key } of client.find(parcel, { where: { "owner.id": "ada", weight: { gte: 10 } } }))
      keys.push(key);
    expect(keys).toHaveLength(60);
    expect(keys[0]).toBe("p011");
    const page = await client.findPage("parcel", { prefix: "p1", limit: 3 });
    expect(page).toMatchObject({ actors: [{ key: "p100" }, { key: "p101" }, { key: "p102" }], next: "p102" });
    const limited = [];
    for await (const { key } of client.find(parcel, { limit: 105 })) limited.push(key);
    expect(limited).toHaveLength(105);
    expect(await client.count(parcel, { state: "open" })).toEqual({ total: 130, states: { open: 130 } });
    await expect(client.count(parcel, { where: { nothing: 1 } })).rejects.toMatchObject({
      code: "invalid_options",
    });
  });
});

describe("changes", () => {
  it("are told as they come, behind a break too, and end with their signal or the client", async () => {
    const { client, proxy, node, server } = await behindProxy();
    const pack = (key: string, weight: number) =>
      node.client.actor(parcel, key).send({ type: "pack", owner: "ada", weight });
    await pack("old", 9);
    let resets = 0;
    const stop = new AbortController();
    const query = { where: { "owner.id": "ada" }, signal: stop.signal, onReset: () => resets++ };
    const changes = client.changes(parcel, query);
    const all: string[] = [];
    const weightOf = async (): Promise<string> => {
      const { value } = (await changes.next()) as { value: ChangedActor };
      all.push(`${value.key} ${value.actor?.fields.weight}`);
      return all.at(-1) as string;
    };
    /** What was told just before a break may be told again. */
    const next = async (wanted: string): Promise<void> => {
      const told = [await weightOf()];
      while (told.at(-1) !== wanted) told.push(await weightOf());
      expect(told.length).toBeLessThanOrEqual(3);
    };
    await next("old 9");
    await pack("a", 1);
    await next("a 1");
    await pack("b", 2);
    await next("b 2");
    for (let weight = 3; weight < 6; weight++) {
      proxy.reset();
      await pack("a", weight);
      await next(`a ${weight}`);
    }
    await node.client.actor(parcel, "b").delete();
    await next("b undefined");

    // What was known is not told with every break.
    expect(all.filter((one) => one === "old 9")).toHaveLength(1);
    expect(resets).toBe(0);
    const last = changes.next();
    stop.abort();
    expect(await last).toMatchObject({ done: true });
    await expect.poll(() => server.streams, SOON).toBe(0);
    const other = client.changes("parcel", { initial: false }).next();
    await expect.poll(() => server.streams, SOON).toBe(1);
    client.close();
    await expect(other).rejects.toMatchObject({ code: "client_closed" });
    await expect(client.changes("parcel").next()).rejects.toMatchObject({ code: "client_closed" });
  });

  it("are refused by name", async () => {
    const { client } = await behindProxy();
    await expect(client.changes("nobody").next()).rejects.toMatchObject({ code: "unknown_type" });
    await expect(client.changes(parcel, { where: { nothing: 1 } }).next()).rejects.toMatchObject({
      code: "invalid_options",
    });
  });
});
