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

it("goes on behind a mark: with what changed and went since, and no more", async () => {
  const t = await start();
  const pack = (key: string, weight: number) =>
    t.client.actor(parcel, key).send({ type: "pack", owner: "ada", weight });
  await pack("a", 1);
  await pack("b", 1);
  let mark: string | undefined;
  let marked: () => void = () => undefined;
  const onMark = (at: string): void => {
    mark = at;
    marked();
  };
  const first = t.client.changes(parcel, { onMark });
  await read(first, 2);
  const caughtUp = new Promise<void>((resolve) => {
    marked = resolve;
  });
  const third = first.next();
  await caughtUp;
  const before = mark as unknown as string;
  await pack("c", 1);
  expect((await third).value).toMatchObject({ key: "c" });
  await first.return(undefined);
  await t.client.actor(parcel, "a").delete();
  const resets: number[] = [];
  const again = t.client.changes(parcel, { since: before, onReset: () => resets.push(1) });
  const seen = (await read(again, 2)).map(({ key, actor }) => [key, actor?.turn]);
  expect(seen.sort()).toEqual([
    ["a", undefined],
    ["c", 1],
  ]);
  await pack("d", 1);
  expect(await read(again, 1)).toMatchObject([{ key: "d" }]);
  expect(resets).toEqual([]);
  await again.return(undefined);
  // Who had the marks is gone: what is there comes again, and that is said.
  await t.crash();
  const anew = t.client.changes(parcel, { since: before, onReset: () => resets.push(1) });
  const [all] = await Promise.all([read(anew, 3), t.advance("1 minute")]);
  expect(all.map(({ key }) => key).sort()).toEqual(["b", "c", "d"]);
  expect(resets.length).toBeGreaterThan(0);
  await anew.return(undefined);
  for (const since of ["", "x", `${before},a.1`, before.replace(".", "/")])
    await expect(t.client.changes(parcel, { since }).next()).rejects.toMatchObject({
      code: "invalid_options",
    });
});
