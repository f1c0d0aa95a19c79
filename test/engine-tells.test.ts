/** Contract 3 and 6: what actors tell each other is applied exactly once, in order per sender, however often it is sent. */
import { describe, expect, it } from "vitest";
import type { Frame } from "../runtime/words/frames.ts";
import { limits } from "../runtime/words/limits.ts";
import { keyIn, type Rig, rig } from "./support/probe.ts";

async function seen(r: Rig, key: string): Promise<readonly string[]> {
  return (await r.world.run(r.node.client.actor(r.probe, key).get())).context.seen;
}

const numbers = (from: string, count: number): string[] =>
  Array.from({ length: count }, (_, n) => `${from}${n + 1}`);

interface Path extends Rig {
  readonly from: string;
  readonly to: string;
  tellMany(count: number, name?: string): Promise<void>;
}

/** Two actors of different shards. */
async function path(r: Rig): Promise<Path> {
  const [from, to] = [keyIn(r.node, r.probe, 0), keyIn(r.node, r.probe, 1)];
  const tellMany = (count: number, name = "x"): Promise<void> =>
    r.world.run(
      r.node.client.actor(r.probe, from).send({ type: "tellMany", to: [`probe/${to}`], from: name, count }),
    );
  return { ...r, from, to, tellMany };
}

const isTold = (_subject: string, frame: Frame): boolean => frame.kind === "told";
const isAck = (_subject: string, frame: Frame): boolean => frame.kind === "ack";

describe("on one node", () => {
  it("arrive once, in order, within a shard, between shards and to oneself", async () => {
    const r = await rig();
    const from = keyIn(r.node, r.probe, 0);
    const targets = [
      from,
      keyIn(r.node, r.probe, 0, "other"),
      keyIn(r.node, r.probe, 1),
      keyIn(r.node, r.probe, 2),
    ];
    await r.world.run(
      r.node.client.actor(r.probe, from).send({
        type: "tellMany",
        to: targets.map((key) => `probe/${key}`),
        from: "x",
        count: 50,
      }),
    );
    await r.world.advance(1_000);
    for (const key of targets) expect(await seen(r, key)).toEqual(numbers("x", 50));
  });

  it("contract 6: of many turns of one sender arrive in the order of the turns", async () => {
    const p = await path(await rig());
    for (let n = 0; n < 20; n++)
      void p.node.client
        .actor(p.probe, p.from)
        .send({ type: "tellMany", to: [`probe/${p.to}`], from: `${n}.`, count: 5 });
    await p.world.advance(2_000);
    expect(await seen(p, p.to)).toEqual(Array.from({ length: 20 }, (_, n) => numbers(`${n}.`, 5)).flat());
  });

  it("outbox 1: more than a window of them arrive all the same, a window at a time", async () => {
    const p = await path(await rig());
    p.store.loses = isAck;
    await p.tellMany(limits.tellsPerTurn, "a");
    await p.tellMany(limits.tellsPerTurn, "b");
    await p.world.settle();
    const sent = (): number =>
      Math.max(
        ...p.store.frames.map(({ frame }) =>
          frame.kind === "told" ? frame.first + frame.messages.length - 1 : 0,
        ),
      );
    expect(sent()).toBe(limits.outboxWindow);
    p.store.loses = () => false;
    await p.world.advance(5_000);
    expect(await seen(p, p.to)).toEqual([
      ...numbers("a", limits.tellsPerTurn),
      ...numbers("b", limits.tellsPerTurn),
    ]);
  });

  it("wait, in order, while their actor is loaded; other actors of the shard wait behind them", async () => {
    const p = await path(await rig());
    const other = keyIn(p.node, p.probe, 1, "other");
    await p.world.run(p.node.client.actor(p.probe, other).send({ type: "add", by: 1 }));
    p.store.snapshotReadGate.close();
    void p.node.client.actor(p.probe, p.from).send({
      type: "tellMany",
      to: [`probe/${p.to}`, `probe/${other}`],
      from: "x",
      count: 10,
    });
    await p.world.advance(2_000);
    p.store.snapshotReadGate.open();
    await p.world.advance(2_000);
    expect([await seen(p, p.to), await seen(p, other)]).toEqual([numbers("x", 10), numbers("x", 10)]);
  });
});

describe("over a network that loses frames", () => {
  it.each([
    ["messages", isTold],
    ["acknowledgements", isAck],
  ] as const)("lost %s are repeated and applied once", async (_what, lost) => {
    const p = await path(await rig());
    p.store.loses = lost;
    await p.tellMany(10);
    await p.world.advance(3_000);
    p.store.loses = () => false;
    await p.world.advance(10_000);
    expect(await seen(p, p.to)).toEqual(numbers("x", 10));
    await p.tellMany(10, "y");
    await p.world.advance(5_000);
    expect(await seen(p, p.to)).toEqual([...numbers("x", 10), ...numbers("y", 10)]);
  });

  it("every third frame lost, and every message repeated by the network", async () => {
    const p = await path(await rig());
    let n = 0;
    p.store.loses = (subject, frame) => {
      if (frame.kind !== "told" && frame.kind !== "ack") return false;
      if (n++ % 3 === 0) return true;
      p.store.inner.transport.publish(subject, frame);
      return false;
    };
    for (let turn = 0; turn < 10; turn++) {
      await p.tellMany(7, `${turn}.`);
      await p.world.advance(100);
    }
    await p.world.advance(60_000);
    expect(await seen(p, p.to)).toEqual(
      Array.from({ length: 10 }, (_, turn) => numbers(`${turn}.`, 7)).flat(),
    );
  });

  it("old frames that come again much later change nothing", async () => {
    const p = await path(await rig());
    for (let turn = 0; turn < 3; turn++) await p.tellMany(5, `${turn}.`);
    await p.world.advance(1_000);
    const before = await seen(p, p.to);
    for (const { subject, frame } of p.store.frames.filter(
      (f) => isTold(f.subject, f.frame) || isAck(f.subject, f.frame),
    ))
      p.store.inner.transport.publish(subject, frame);
    await p.world.advance(10_000);
    expect(await seen(p, p.to)).toEqual(before);
  });
});

describe("over restarts", () => {
  it("told and not delivered, they go out after a restart, from the tail and from the shard's entry", async () => {
    for (const checkpoint of [false, true]) {
      const p = await path(await rig());
      p.store.loses = isTold;
      await p.tellMany(10);
      if (checkpoint) await p.world.run(p.node.checkpoint());
      p.node.kill();
      p.store.loses = () => false;
      const second = await rig({ ...p, name: "n2" });
      await second.world.advance(15_000);
      expect(await seen(second, p.to)).toEqual(numbers("x", 10));
    }
  });

  it("delivered and not acknowledged, they are known after a restart, from the tail and from the shard's entry", async () => {
    for (const checkpoint of [false, true]) {
      const p = await path(await rig());
      p.store.loses = isAck;
      await p.tellMany(10);
      await p.world.advance(500);
      if (checkpoint) await p.world.run(p.node.checkpoint());
      p.node.kill();
      p.store.loses = () => false;
      const second = await rig({ ...p, name: "n2" });
      await second.world.advance(15_000);
      expect(await seen(second, p.to)).toEqual(numbers("x", 10));
      await second.world.run(
        second.node.client
          .actor(p.probe, p.from)
          .send({ type: "tellMany", to: [`probe/${p.to}`], from: "y", count: 3 }),
      );
      await second.world.advance(5_000);
      expect(await seen(second, p.to)).toEqual([...numbers("x", 10), ...numbers("y", 3)]);
    }
  });
});

describe("between nodes", () => {
  it("arrive once, in order, while both nodes come, go and are killed", async () => {
    const first = await rig({ name: "n1" });
    const { store, world, probe } = first;
    const nodes = new Map([["n1", first]]);
    const [from, to] = [keyIn(first.node, probe, 0), keyIn(first.node, probe, 1)];
    let count = 0;
    let n = 0;
    store.loses = (_subject, frame) => (frame.kind === "told" || frame.kind === "ack") && n++ % 5 === 0;
    const tell = async (): Promise<void> => {
      const any = [...nodes.values()][0] as Rig;
      await world.run(
        any.node.client
          .actor(probe, from)
          .send(
            { type: "tellMany", to: [`probe/${to}`], from: `${count++}.`, count: 3 },
            { timeout_ms: 60_000 },
          ),
      );
    };
    for (const step of ["+n2", "+n3", "-n1", "!n2", "+n1", "+n2", "!n3", "-n1", "+n4"]) {
      await tell();
      const name = step.slice(1);
      if (step.startsWith("+")) nodes.set(name, await rig({ store, world, probe, name }));
      else {
        const leaving = nodes.get(name) as Rig;
        nodes.delete(name);
        if (step.startsWith("-")) await world.run(leaving.node.stop({ closeStore: false }));
        else leaving.node.kill();
      }
      await tell();
      await world.advance(500);
    }
    await world.advance(60_000);
    const any = [...nodes.values()][0] as Rig;
    expect(await seen(any, to)).toEqual(
      Array.from({ length: count }, (_, at) => numbers(`${at}.`, 3)).flat(),
    );
  });
});
