/** The delays that actors wait for: listed and cancelled, of one actor and of a type. */
import { testRuntime, type TestRuntime, type TestRuntimeOptions } from "keyturn/testing";
import { afterEach, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { parcel } from "./support/parcels.ts";
import { failure, rig } from "./support/probe.ts";
import { collected } from "./support/collected.ts";

const running: TestRuntime[] = [];

async function start(options: Partial<TestRuntimeOptions> = {}): Promise<TestRuntime> {
  const t = await testRuntime({ actors: [parcel, counter], ...options });
  running.push(t);
  return t;
}

afterEach(async () => {
  for (const t of running.splice(0)) {
    expect(t.reports).toEqual([]);
    await t.stop();
  }
});

it("an actor's delays are listed, earliest first, with those of its children", async () => {
  const t = await start();
  const ref = t.client.actor(parcel, "p");
  expect(await ref.timers()).toEqual([]);
  const begun = t.now();
  await ref.send({ type: "send" });
  await ref.send({ type: "remind", in_ms: 1_000 });
  const after = "xstate.after.60000.(machine).under way.moving";
  const seen = await ref.timers();
  expect(seen.map(({ id, event }) => [id, event])).toEqual([
    ["reminder", { type: "reminder" }],
    [after, { type: after }],
  ]);
  expect(seen[0]?.due).toBeGreaterThanOrEqual(begun + 1_000);
  await t.advance("2 minutes");
  expect(await ref.timers()).toEqual([
    expect.objectContaining({ id: "xstate.after.500000.(machine).searching", child: "search" }),
  ]);
});

it("a cancelled delay does not come, whatever happens", async () => {
  const t = await start();
  const ref = t.client.actor(parcel, "p");
  await ref.send({ type: "remind", in_ms: 5_000 });
  await ref.send({ type: "send" });
  const { turn } = await ref.get();
  expect(await ref.cancelTimer("reminder")).toBe(true);
  expect((await ref.get()).turn).toBe(turn + 1);
  expect(await ref.cancelTimer("reminder")).toBe(false);
  expect(await ref.cancelTimer({ id: "xstate.after.60000.(machine).under way.moving", child: "x" })).toBe(
    false,
  );
  await t.crash();
  await t.advance("10 seconds");
  await t.failover();
  expect((await ref.get()).context.note).toBeUndefined();
  await t.advance("2 minutes");
  expect((await ref.get()).value).toEqual({ "under way": "late" });
  const [child] = await ref.timers();
  expect(await ref.cancelTimer(child as { id: string })).toBe(true);
  await t.advance("1 hour");
  expect((await ref.get()).children?.search?.value).toBe("searching");
  const cancelled = (await collected(ref.history())).filter(
    ({ event }) => event.type === "xstate.keyturn.cancelled",
  );
  expect(cancelled).toHaveLength(2);
});

it("a cancel is answered once, also when its frames come twice", async () => {
  const t = await start();
  const ref = t.client.actor(parcel, "p");
  await ref.send({ type: "remind", in_ms: 5_000 });
  const { turn } = await ref.get();
  t.deliveredTwice();
  expect(await ref.cancelTimer("reminder")).toBe(true);
  expect((await ref.get()).turn).toBe(turn + 1);
});

it("neither work nor the end of a life is a delay", async () => {
  const { defineActor } = await import("keyturn");
  const mortal = defineActor({ type: "mortal", machine: counter.machine, idleAfter: "1 day" });
  const t = await start({ actors: [mortal] });
  const ref = t.client.actor(mortal, "m");
  await ref.send({ type: "add", by: 1 });
  expect(await ref.timers()).toEqual([]);
  expect(await ref.cancelTimer("xstate.keyturn.expire")).toBe(false);
  await t.advance("2 days");
  expect((await ref.get()).turn).toBe(0);
});

it("those of a type are listed by key, also of actors that nobody has loaded, and cancelled", async () => {
  const t = await start();
  const keys = Array.from({ length: 30 }, (_, n) => `p${String(n).padStart(2, "0")}`);
  await Promise.all(
    keys.map(async (key, n) => {
      const ref = t.client.actor(parcel, key);
      await ref.send({ type: "remind", in_ms: (n + 1) * 60_000 });
      if (n < 3) await ref.send({ type: "send" });
    }),
  );
  await t.crash();
  const all = await collected(t.client.timers(parcel));
  expect(all).toHaveLength(33);
  expect(new Set(all.map(({ key }) => key))).toEqual(new Set(keys));
  const soon = await collected(
    t.client.timers("parcel", { id: "reminder", dueBefore: t.now() + 10 * 60_000 }),
  );
  expect(soon.map(({ key }) => key)).toEqual(keys.slice(0, soon.length));
  expect(soon.length).toBeGreaterThan(5);
  expect(await collected(t.client.timers(parcel, { limit: 2, state: "open" }))).toHaveLength(2);
  expect(await t.client.cancelTimers(parcel, { id: "reminder" })).toBe(30);
  expect(await collected(t.client.timers(parcel))).toHaveLength(3);
  expect(await t.client.cancelTimers(parcel)).toBe(3);
  await t.advance("1 hour");
  expect(await t.client.count(parcel, { where: { note: "reminded" } })).toEqual({ total: 0, states: {} });
  expect(await t.client.count(parcel, { state: "under way.moving" })).toMatchObject({ total: 3 });
});

it("what is no name of a timer is refused", async () => {
  const t = await start();
  const ref = t.client.actor(parcel, "p");
  for (const name of [7 as never, "\ud83d", { id: "send", child: "\ud83d" }])
    await expect(ref.cancelTimer(name)).rejects.toThrow(/A timer is named by its id/);
});

it("a cancellation that fails while more timers are looked for is told to whoever called, and to nobody else", async () => {
  const r = await rig({ shards: 1 });
  for (let n = 0; n < 40; n++)
    await r.world.run(r.node.client.actor(r.probe, `k${n}`).send({ type: "later", ms: 1e6 }));
  const unhandled: unknown[] = [];
  const note = (error: unknown): void => void unhandled.push(error);
  process.on("unhandledRejection", note);
  // The first page comes. Of what follows, cancellations are given up long before the next page is.
  let pages = 0;
  r.store.loses = (_subject, frame) => frame.kind === "request" && pages++ > 0;
  const failed = failure(r.node.client.cancelTimers(r.probe));
  await r.world.advance(30_000);
  // Node tells of them at the end of a turn of the event loop.
  await new Promise((resolve) => setImmediate(resolve));
  await r.world.advance(60_000);
  process.off("unhandledRejection", note);
  expect([(await failed).code, unhandled]).toEqual(["timeout", []]);
});
