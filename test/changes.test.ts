/** Watching all actors of a type. */
import type { ChangedActor } from "keyturn";
import { testRuntime, type TestRuntime, type TestRuntimeOptions } from "keyturn/testing";
import { afterEach, expect, it } from "vitest";
import { counter } from "../actors/index.ts";
import { parcel } from "./support/parcels.ts";

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

/** Reads so many changes. */
async function read(from: AsyncGenerator<ChangedActor>, count: number): Promise<ChangedActor[]> {
  const changes: ChangedActor[] = [];
  while (changes.length < count) {
    const next = await from.next();
    if (next.done === true) break;
    changes.push(next.value);
  }
  return changes;
}

it("gives what is there, then what changes, and what goes", async () => {
  const t = await start();
  await t.client.actor(parcel, "a").send({ type: "pack", owner: "ada", weight: 1 });
  const from = t.client.changes(parcel, { where: { "owner.id": "ada" } });
  expect(await read(from, 1)).toMatchObject([{ address: "parcel/a", actor: { fields: { weight: 1 } } }]);
  await t.client.actor(parcel, "b").send({ type: "pack", owner: "bob", weight: 1 });
  await t.client.actor(parcel, "a").send({ type: "pack", owner: "ada", weight: 2 });
  expect(await read(from, 1)).toMatchObject([{ address: "parcel/a", actor: { fields: { weight: 2 } } }]);
  await t.client.actor(parcel, "a").send({ type: "pack", owner: "bob", weight: 2 });
  expect(await read(from, 1)).toEqual([{ key: "a", address: "parcel/a", actor: undefined }]);
  await t.client.actor(parcel, "c").send({ type: "pack", owner: "ada", weight: 3 });
  expect(await read(from, 1)).toMatchObject([{ key: "c", actor: { turn: 1 } }]);
  await t.client.actor(parcel, "c").delete();
  expect(await read(from, 1)).toEqual([{ key: "c", address: "parcel/c", actor: undefined }]);
  await from.return(undefined);
});

it("goes on over crashes and moves, with what changed meanwhile", async () => {
  const t = await start({ nodes: 2 });
  const keys = ["a", "b", "c", "d"];
  for (const key of keys) await t.client.actor(parcel, key).send({ type: "pack", owner: "ada", weight: 0 });
  const stop = new AbortController();
  const from = t.client.changes(parcel, { initial: false, signal: stop.signal });
  const weights = new Map<string, unknown>();
  const follow = (async () => {
    for await (const { key, actor } of from) weights.set(key, actor?.fields.weight);
  })();
  for (let round = 1; round <= 6; round++) {
    if (round % 3 === 1) await t.failover();
    if (round % 3 === 2) await t.crash();
    for (const key of keys)
      await t.client.actor(parcel, key).send({ type: "pack", owner: "ada", weight: round });
    if (round === 4) await t.client.actor(parcel, "d").delete();
    await t.advance("1 minute");
  }
  await t.client.actor(parcel, "d").delete();
  await t.advance("1 minute");
  expect([...weights].sort()).toEqual([
    ["a", 6],
    ["b", 6],
    ["c", 6],
    ["d", undefined],
  ]);
  stop.abort();
  await follow;
});

it("ends when it is told to", async () => {
  const t = await start();
  const stop = new AbortController();
  const from = t.client.changes("parcel", { signal: stop.signal });
  const next = from.next();
  stop.abort();
  expect(await next).toEqual({ value: undefined, done: true });
  await expect(t.client.changes("nobody").next()).rejects.toThrow(/No actor of type "nobody"/);
});
