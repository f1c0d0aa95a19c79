/** The ready-made actors, on a node in virtual time. */
import { afterEach, beforeEach, describe, expect, expectTypeOf, it } from "vitest";
import {
  type AirportEvent,
  type AirportReply,
  airport,
  CALM_AFTER_MS,
  cell,
  counter,
  meanDelayMinutes,
  type Reading,
} from "../actors/index.ts";
import { type KeyturnNode, memory, startNode } from "../runtime/index.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

let world: VirtualWorld;
let store: ReturnType<typeof memory>;
let node: KeyturnNode;

const start = (): Promise<KeyturnNode> =>
  startNode({ actors: [airport, cell, counter], store, world, name: "n", shards: 4 });

beforeEach(async () => {
  world = new VirtualWorld();
  store = memory();
  node = await start();
});

afterEach(async () => {
  await world.run(node.stop());
});

/** Stops the node, lets time pass without one, and starts another. */
async function restartAfter(ms: number): Promise<void> {
  await world.run(node.stop());
  world.wall_ms += ms;
  node = await world.run(start());
  await world.settle();
}

/** Lets the wall clock jump; the node notices within a minute. */
async function wait(ms: number): Promise<void> {
  world.wall_ms += ms;
  await world.advance(60_000);
}

describe("counter", () => {
  it("adds, and answers with the count", async () => {
    const visits = node.client.actor(counter, "page:home");
    const count = await visits.ask({ type: "add", by: 2 });
    expectTypeOf(count).toEqualTypeOf<number>();
    expect(count).toBe(2);
    expect(await visits.ask({ type: "add", by: -5 })).toBe(-3);
  });

  it("adds nothing while it is off", async () => {
    const visits = node.client.actor(counter, "page:home");
    await visits.ask({ type: "add", by: 2 });
    await visits.send({ type: "off" });
    expect(await visits.ask({ type: "add", by: 1 })).toBe(2);
    expect((await visits.get()).value).toBe("off");
    await visits.send({ type: "on" });
    expect(await visits.ask({ type: "add", by: 1 })).toBe(3);
  });
});

describe("cell", () => {
  const config = () => node.client.actor(cell, "config");

  it("is empty at version 0 until it is set", async () => {
    const reading = await config().ask({ type: "read" });
    expectTypeOf(reading).toEqualTypeOf<Reading>();
    expect(reading).toEqual({ found: false, value: undefined, version: 0 });
    expect(await config().ask({ type: "clear" })).toMatchObject({ found: false, version: 0 });
  });

  it("keeps any plain value, and counts its versions", async () => {
    const values = [{ a: [1, { b: null }] }, "text", 0, null, false, undefined];
    for (const [index, value] of values.entries()) {
      const expected = { found: true, value, version: index + 1 };
      expect(await config().ask({ type: "set", value })).toEqual(expected);
      expect(await config().ask({ type: "read" })).toEqual(expected);
    }
  });

  it("compares and sets by version", async () => {
    const answer = await config().ask({ type: "compareAndSet", version: 0, value: "a" });
    expectTypeOf(answer).toEqualTypeOf<Reading & { readonly done: boolean }>();
    expect(answer).toEqual({ done: true, found: true, value: "a", version: 1 });
    for (const version of [0, 2]) {
      const refused = await config().ask({ type: "compareAndSet", version, value: "b" });
      expect(refused).toEqual({ done: false, found: true, value: "a", version: 1 });
    }
    expect(await config().ask({ type: "compareAndSet", version: 1, value: "b" })).toMatchObject({
      done: true,
    });
    expect(await config().ask({ type: "read" })).toEqual({ found: true, value: "b", version: 2 });
  });

  it("never uses a version twice, also over a clearing", async () => {
    await config().ask({ type: "set", value: "a" });
    expect(await config().ask({ type: "clear" })).toEqual({ found: false, value: undefined, version: 2 });
    expect(await config().ask({ type: "clear" })).toMatchObject({ version: 2 });
    expect(await config().ask({ type: "compareAndSet", version: 0, value: "b" })).toMatchObject({
      done: false,
    });
    expect(await config().ask({ type: "compareAndSet", version: 1, value: "b" })).toMatchObject({
      done: false,
    });
    expect(await config().ask({ type: "compareAndSet", version: 2, value: "b" })).toMatchObject({
      version: 3,
    });
  });

  it("expires, which is a version too", async () => {
    await config().ask({ type: "set", value: "a", ttl_ms: 5_000 });
    await world.advance(4_999);
    expect(await config().ask({ type: "read" })).toMatchObject({ found: true, version: 1 });
    await world.advance(1);
    expect(await config().ask({ type: "read" })).toEqual({ found: false, value: undefined, version: 2 });
  });

  it("counts the time from the newest value", async () => {
    await config().ask({ type: "set", value: "a", ttl_ms: 5_000 });
    await world.advance(4_000);
    await config().ask({ type: "compareAndSet", version: 1, value: "b", ttl_ms: 5_000 });
    await world.advance(4_000);
    await config().ask({ type: "set", value: "c", ttl_ms: 5_000 });
    await world.advance(4_000);
    expect(await config().ask({ type: "read" })).toEqual({ found: true, value: "c", version: 3 });
    await world.advance(1_000);
    expect(await config().ask({ type: "read" })).toMatchObject({ found: false, version: 4 });
  });

  it("lasts again once a value without an expiry came, and after a clearing", async () => {
    await config().ask({ type: "set", value: "a", ttl_ms: 5_000 });
    await config().ask({ type: "set", value: "b" });
    await world.advance(10_000);
    expect(await config().ask({ type: "read" })).toMatchObject({ found: true, version: 2 });
    await config().ask({ type: "set", value: "c", ttl_ms: 5_000 });
    await config().ask({ type: "clear" });
    await world.advance(10_000);
    expect(await config().ask({ type: "read" })).toMatchObject({ found: false, version: 4 });
  });

  it("is not kept alive by reads or by what was refused", async () => {
    await config().ask({ type: "set", value: "a", ttl_ms: 5_000 });
    await world.advance(4_000);
    await config().ask({ type: "read" });
    await config().ask({ type: "compareAndSet", version: 7, value: "b", ttl_ms: 5_000 });
    await world.advance(1_000);
    expect(await config().ask({ type: "read" })).toMatchObject({ found: false });
  });

  it("expires while no node runs", async () => {
    await config().ask({ type: "set", value: "a", ttl_ms: 5_000 });
    await restartAfter(4_000);
    expect(await config().ask({ type: "read" })).toMatchObject({ found: true });
    await restartAfter(4_000);
    expect(await config().ask({ type: "read" })).toMatchObject({ found: false, version: 2 });
  });
});

describe("airport", () => {
  const sfo = () => node.client.actor(airport, "SFO");
  let position: number;

  beforeEach(() => {
    position = -1;
  });

  const departed = (delay: number): AirportEvent => {
    const after = position;
    position += 2;
    return { type: "departed", delay, position, after };
  };

  const play = async (...delays: number[]): Promise<void> => {
    for (const delay of delays) expect(await sfo().ask(departed(delay))).toBe("applied");
  };

  const stateAfter = async (...delays: number[]): Promise<unknown> => {
    await play(...delays);
    return (await sfo().get()).value;
  };

  it("counts what departs and arrives, and sums the delays of departures", async () => {
    await play(10, -4);
    const reply = await sfo().ask({ type: "arrived", position: 100, after: position });
    expectTypeOf(reply).toEqualTypeOf<AirportReply>();
    expect(reply).toBe("applied");
    const { context } = await sfo().get();
    expect(context).toMatchObject({ departures: 2, arrivals: 1, delayMinutes: 6, position: 100 });
    expect(meanDelayMinutes(context)).toBe(3);
  });

  it("becomes busy and disrupted with late flights, and recovers with others", async () => {
    expect((await sfo().get()).value).toBe("quiet");
    expect(await stateAfter(14, 15)).toBe("quiet");
    expect(await stateAfter(59)).toBe("busy");
    expect(await stateAfter(60, 60)).toBe("disrupted");
    expect(await stateAfter(0, 0, 0, 0)).toBe("disrupted");
    expect(await stateAfter(0)).toBe("busy");
    expect(await stateAfter(0, 0, 0)).toBe("busy");
    expect(await stateAfter(0)).toBe("quiet");
  });

  it("calms down by one state, once nothing was late for long enough", async () => {
    expect(await stateAfter(60, 60, 60)).toBe("disrupted");
    await wait(CALM_AFTER_MS - 120_000);
    expect((await sfo().get()).value).toBe("disrupted");
    // Late again: the time begins anew. Flights in time do not matter.
    expect(await stateAfter(15)).toBe("disrupted");
    await wait(CALM_AFTER_MS - 120_000);
    expect(await stateAfter(0)).toBe("disrupted");
    await wait(120_000);
    expect((await sfo().get()).value).toBe("busy");
    await wait(CALM_AFTER_MS);
    expect(await sfo().get()).toMatchObject({ value: "quiet", context: { pressure: 0 } });
  });

  it("calms down while no node runs", async () => {
    expect(await stateAfter(60, 60)).toBe("busy");
    await restartAfter(CALM_AFTER_MS - 60_000);
    expect((await sfo().get()).value).toBe("busy");
    await restartAfter(60_000);
    expect((await sfo().get()).value).toBe("quiet");
  });

  it("applies a message once, whatever state it is in, and does not set its timer by a repetition", async () => {
    const messages = [departed(60), departed(60), departed(60), departed(20)];
    for (const message of messages) expect(await sfo().ask(message)).toBe("applied");
    const before = await sfo().get();
    expect(before.value).toBe("disrupted");
    await wait(CALM_AFTER_MS / 2);
    for (const message of messages) expect(await sfo().ask(message)).toBe("alreadyApplied");
    expect(await sfo().get()).toMatchObject({ value: before.value, context: before.context });
    await wait(CALM_AFTER_MS / 2);
    expect((await sfo().get()).value).toBe("busy");
  });

  it("refuses a message whose predecessor is missing, and takes it after that one", async () => {
    const [first, second, third] = [departed(1), departed(60), departed(60)] as const;
    expect(await sfo().ask(first)).toBe("applied");
    expect(await sfo().ask(third)).toBe("outOfOrder");
    expect((await sfo().get()).context.departures).toBe(1);
    expect(await sfo().ask(second)).toBe("applied");
    expect(await sfo().ask(third)).toBe("applied");
    expect(await sfo().ask(second)).toBe("alreadyApplied");
    expect((await sfo().get()).context).toMatchObject({ departures: 3, delayMinutes: 121 });
  });

  it("takes both messages of a flight that comes back to where it left", async () => {
    expect(await sfo().ask({ type: "departed", delay: 3, position: 0, after: -1 })).toBe("applied");
    expect(await sfo().ask({ type: "arrived", position: 1, after: 0 })).toBe("applied");
    expect((await sfo().get()).context).toMatchObject({ departures: 1, arrivals: 1 });
  });

  it("rounds its mean to two decimals, and has 0 without departures", () => {
    const mean = (departures: number, delayMinutes: number): number =>
      meanDelayMinutes({ departures, delayMinutes, arrivals: 0, pressure: 0, position: 0 });
    expect(mean(0, 0)).toBe(0);
    expect(mean(3, 10)).toBe(3.33);
    expect(mean(3, -10)).toBe(-3.33);
    expect(mean(1_000, -1)).toBe(0);
    expect(mean(8, 1)).toBe(0.13);
  });
});
