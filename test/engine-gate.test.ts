/** Contract 1, 2 and 5, and the invariants of the engine's loop: what an append decides, and what waits for it. */
import { describe, expect, it } from "vitest";
import { type AppendFault, FaultStore } from "./support/fault-store.ts";
import { failure, keyIn, probeOf, type Rig, rig } from "./support/probe.ts";

/** Notes when a promise is settled, and how. */
function noted<T>(promise: Promise<T>): { state: string; value: T | undefined } {
  const note: { state: string; value: T | undefined } = { state: "open", value: undefined };
  promise.then(
    (value) => Object.assign(note, { state: "resolved", value }),
    (error: { code?: string }) => Object.assign(note, { state: error.code ?? String(error) }),
  );
  return note;
}

async function counter(r: Rig, key = "a"): Promise<number> {
  return (await r.world.run(r.node.client.actor(r.probe, key).get())).context.count;
}

describe("contract 5: nothing leaves before the append is answered", () => {
  async function held(hook?: (what: string) => void): Promise<Rig> {
    const r = await rig({ probe: probeOf(hook) });
    await r.world.run(r.node.client.actor(r.probe, "a").send({ type: "add", by: 1 }));
    r.store.appendGate.close();
    return r;
  }

  it("no reply, neither of ask nor of send", async () => {
    const r = await held();
    const ref = r.node.client.actor(r.probe, "a");
    const ask = noted(ref.ask({ type: "add", by: 1 }));
    const send = noted(ref.send({ type: "add", by: 1 }));
    await r.world.advance(1_000);
    expect([ask.state, send.state]).toEqual(["open", "open"]);
    r.store.appendGate.open();
    await r.world.settle();
    expect([ask.state, ask.value, send.state]).toEqual(["resolved", 2, "resolved"]);
  });

  it("no read of a state that is in flight; other actors are read meanwhile", async () => {
    const r = await held();
    const ref = r.node.client.actor(r.probe, "a");
    void ref.send({ type: "add", by: 1 });
    await r.world.settle();
    const read = noted(ref.get());
    const other = noted(r.node.client.actor(r.probe, "b").get());
    await r.world.settle();
    expect([read.state, other.state]).toEqual(["open", "resolved"]);
    r.store.appendGate.open();
    await r.world.settle();
    expect(read.value?.context.count).toBe(2);
  });

  it("no watch update", async () => {
    const r = await held();
    const ref = r.node.client.actor(r.probe, "a");
    const watch = ref.watch();
    expect((await r.world.run(watch.next())).value).toMatchObject({ turn: 1 });
    const next = noted(watch.next());
    void ref.send({ type: "add", by: 1 });
    await r.world.advance(1_000);
    expect(next.state).toBe("open");
    r.store.appendGate.open();
    await r.world.settle();
    expect(next.value?.value).toMatchObject({ turn: 2 });
  });

  it("no message told to another actor", async () => {
    const r = await held();
    void r.node.client.actor(r.probe, "a").send({ type: "tell", to: "probe/b", event: { type: "idle" } });
    await r.world.advance(5_000);
    expect(r.store.frames.filter(({ frame }) => frame.kind === "told")).toEqual([]);
    r.store.appendGate.open();
    await r.world.advance(1_000);
    expect((await r.world.run(r.node.client.actor(r.probe, "b").get())).turn).toBe(1);
  });

  it("no timer fires", async () => {
    const r = await held();
    const ref = r.node.client.actor(r.probe, "a");
    void ref.send({ type: "later", ms: 100 });
    await r.world.advance(5_000);
    expect(r.store.appends).toBe(2);
    r.store.appendGate.open();
    await r.world.advance(1_000);
    expect((await r.world.run(ref.get())).context.ticks).toBe(1);
  });

  it("contract 4: no custom action runs", async () => {
    const done: string[] = [];
    const r = await held((what) => done.push(what));
    void r.node.client.actor(r.probe, "a").ask({ type: "act", what: "mail" });
    await r.world.advance(1_000);
    expect(done).toEqual([]);
    r.store.appendGate.open();
    await r.world.settle();
    expect(done).toEqual(["mail"]);
  });

  it("no rejection that follows from a state in flight", async () => {
    const r = await held();
    const ref = r.node.client.actor(r.probe, "a");
    void ref.send({ type: "add", by: 1 });
    await r.world.settle();
    const refused = noted(ref.ask({ type: "addUpTo", by: 1, limit: 2 }));
    const plain = noted(ref.ask({ type: "fail" }));
    await r.world.advance(1_000);
    expect([refused.state, plain.state]).toEqual(["open", "open"]);
    r.store.appendGate.open();
    await r.world.settle();
    expect([refused.state, plain.state]).toEqual(["machine_failed", "machine_failed"]);
  });

  it("no answer to a repeated request id whose turn is in flight", async () => {
    const r = await held();
    const ref = r.node.client.actor(r.probe, "a");
    const first = noted(ref.ask({ type: "add", by: 1 }, { requestId: "x" }));
    await r.world.settle();
    const second = noted(ref.ask({ type: "add", by: 1 }, { requestId: "x" }));
    await r.world.advance(1_000);
    expect([first.state, second.state]).toEqual(["open", "open"]);
    r.store.appendGate.open();
    await r.world.settle();
    expect([first.value, second.value]).toEqual([2, 2]);
  });

  it("no deletion is confirmed", async () => {
    const r = await held();
    const ref = r.node.client.actor(r.probe, "a");
    const gone = noted(ref.delete());
    const after = noted(ref.get());
    await r.world.advance(1_000);
    expect([gone.state, after.state]).toEqual(["open", "open"]);
    r.store.appendGate.open();
    await r.world.settle();
    expect([gone.state, after.value?.turn]).toEqual(["resolved", 0]);
  });
});

describe("the loop", () => {
  it("engine 2: one append is in flight at a time; the next batch is stepped on top of it", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    r.store.appendGate.close();
    const asks: Promise<number>[] = [];
    for (let n = 0; n < 10; n++) {
      asks.push(ref.ask({ type: "add", by: 1 }));
      await r.world.settle();
    }
    expect([r.store.appends, r.store.inFlight]).toEqual([1, 1]);
    r.store.appendGate.open();
    expect(await r.world.run(Promise.all(asks))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect([r.store.appends, r.store.inFlightMax]).toEqual([2, 1]);
  });

  it("all shards and actors of a node share one append", async () => {
    const r = await rig();
    const asks = Array.from({ length: 64 }, (_, n) =>
      r.node.client.actor(r.probe, `k${n}`).ask({ type: "add", by: 1 }),
    );
    await r.world.run(Promise.all(asks));
    expect(
      new Set(Array.from({ length: 64 }, (_, n) => r.node.client.actor(r.probe, `k${n}`).shard)).size,
    ).toBe(4);
    expect(r.store.appends).toBe(1);
  });

  it("a batch that is full makes the next message wait, not fail", async () => {
    const r = await rig();
    const sends = Array.from({ length: 20 }, (_, n) =>
      r.node.client.actor(r.probe, `k${n}`).send({ type: "grow", bytes: 200_000 }),
    );
    await r.world.run(Promise.all(sends));
    expect(r.store.appends).toBeGreaterThan(3);
    for (let n = 0; n < 20; n++) {
      const state = await r.world.run(r.node.client.actor(r.probe, `k${n}`).get());
      expect(state.context.blob).toHaveLength(200_000);
    }
  });

  it("contract 7: without the lease a read waits for an append that proves the node is not fenced", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "add", by: 1 }));
    const { appends } = r.store;
    expect(await counter(r)).toBe(1);
    expect(r.store.appends).toBe(appends);
    r.node.incarnation.membership.end();
    expect(await counter(r)).toBe(1);
    expect(r.store.appends).toBe(appends + 1);
  });
});

describe("contract 2: an append that is refused", () => {
  it("fences the node; it comes back under a new incarnation, and every request is applied once", async () => {
    const r = await rig();
    const before = r.node.incarnation.name;
    const refs = Array.from({ length: 8 }, (_, n) => r.node.client.actor(r.probe, `k${n}`));
    r.store.appendFaults.push("conflict");
    const asks = refs.map((ref) => ref.ask({ type: "add", by: 1 }));
    expect(await r.world.run(Promise.all(asks))).toEqual(refs.map(() => 1));
    expect(r.node.incarnation.name).not.toBe(before);
    expect(r.told).toContain(`fenced ${before}`);
    for (let n = 0; n < 8; n++) expect(await counter(r, `k${n}`)).toBe(1);
  });

  it("drops what was stepped on top of it too, and nobody sees any of it", async () => {
    const done: string[] = [];
    const r = await rig({ probe: probeOf((what) => done.push(what)) });
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "add", by: 5 }));
    r.store.appendFaults.push("conflict");
    r.store.appendGate.close();
    const first = ref.ask({ type: "add", by: 1 });
    await r.world.settle();
    const second = ref.ask({ type: "act", what: "once" });
    await r.world.settle();
    r.store.appendGate.open();
    expect(await r.world.run(Promise.all([first, second]))).toEqual([6, "done"]);
    expect(done).toEqual(["once"]);
    expect(await counter(r)).toBe(6);
  });

  it("the sealed lane takes nothing any more", async () => {
    const r = await rig();
    const lane = r.node.incarnation.name;
    await r.world.run(r.node.client.actor(r.probe, "a").send({ type: "add", by: 1 }));
    r.store.appendFaults.push("conflict");
    await r.world.run(r.node.client.actor(r.probe, "a").send({ type: "add", by: 1 }));
    expect(await r.store.inner.journal.append(lane, 1, new Uint8Array(8))).toEqual({ kind: "conflict" });
  });
});

describe("contract 8 and lane 3: an append without an answer", () => {
  const cases: [AppendFault[], string][] = [
    [["unknown-lost"], "was lost"],
    [["unknown-kept"], "is in the journal"],
    [
      ["unknown-lost", "unknown-kept", "unknown-lost"],
      "was lost, then kept, then repeated without an answer",
    ],
  ];
  it.each(cases)("%j is repeated until it is certain, and applied once", async (faults) => {
    const r = await rig();
    const { name } = r.node.incarnation;
    const ref = r.node.client.actor(r.probe, "a");
    r.store.appendFaults.push(...faults);
    expect(await r.world.run(ref.ask({ type: "add", by: 1 }))).toBe(1);
    expect(await r.world.run(ref.ask({ type: "add", by: 1 }))).toBe(2);
    expect(r.node.incarnation.name).toBe(name);
    expect(r.store.appends).toBe(2 + faults.length);
  });

  it("is not given up when the journal cannot be read after a conflict either", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    const { read } = r.store.journal;
    let failures = 3;
    r.store.journal.read = (lane, from, to) => {
      if (failures-- > 0) throw new Error("The network is down.");
      return read(lane, from, to);
    };
    r.store.appendFaults.push("unknown-kept");
    expect(await r.world.run(ref.ask({ type: "add", by: 1 }))).toBe(1);
    expect(failures).toBeLessThan(0);
    expect(await counter(r)).toBe(1);
  });
});

describe("lane 3: a journal that takes nothing", () => {
  it("is told of with its cause, now and then, and the turn is committed when it takes something again", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    r.store.appendFaults.push(...new Array<AppendFault>(60).fill("unknown-lost"));
    const asked = ref.ask({ type: "add", by: 1 }, { timeout_ms: 120_000 });
    await r.world.advance(500);
    expect(r.told).toEqual([]);
    await r.world.advance(500);
    const line = "troubled append to the journal: Error: No answer.";
    expect(r.told).toEqual([line]);
    await r.world.advance(30_000);
    expect(r.told.length).toBeGreaterThan(3);
    expect(r.told.length).toBeLessThan(6);
    expect(new Set(r.told)).toEqual(new Set([line]));
    expect(await r.world.run(asked)).toBe(1);
  });

  it("is told of when a lane cannot be sealed, or read back after a conflict", async () => {
    const first = await rig();
    await first.world.run(first.node.client.actor(first.probe, "a").send({ type: "add", by: 1 }));
    first.node.kill();
    const sealed = new FaultStore(first.store.inner);
    sealed.appendFaults.push(...new Array<AppendFault>(9).fill("unknown-lost"));
    const second = await rig({ ...first, store: sealed, name: "n2" });
    await second.world.advance(20_000);
    expect(second.told).toContain(`troubled seal lane ${first.node.incarnation.name}: Error: No answer.`);
    expect(await counter(second)).toBe(1);
    const { read } = sealed.journal;
    let failures = 9;
    sealed.journal.read = (lane, from, to) => {
      if (failures-- > 0) throw new Error("The network is down.");
      return read(lane, from, to);
    };
    sealed.appendFaults.push("unknown-kept", ...new Array<AppendFault>(9).fill("conflict"));
    expect(
      await second.world.run(second.node.client.actor(first.probe, "a").ask({ type: "add", by: 1 })),
    ).toBe(2);
    expect(second.told).toContain("troubled append to the journal: Error: The network is down.");
  });
});

describe("contract 11: a store without room", () => {
  it("refuses with store_full, takes everything back, and works again when there is room", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "add", by: 5 }));
    r.store.appendFaults.push("full");
    const error = await r.world.run(failure(ref.ask({ type: "add", by: 1 })));
    expect(error).toMatchObject({ code: "store_full", outcome: "notApplied", retryable: true });
    expect(await counter(r)).toBe(5);
    expect((await r.world.run(failure(ref.send({ type: "add", by: 1 })))).code).toBe("store_full");
    await r.world.advance(1_000);
    expect(await r.world.run(ref.ask({ type: "add", by: 1 }))).toBe(6);
    expect(r.told).toEqual(["full"]);
  });

  it("takes back what was stepped on top, timers set and cancelled included", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "later", ms: 3_000, id: "old" }));
    r.store.appendFaults.push("full");
    r.store.appendGate.close();
    const first = noted(ref.send({ type: "forget", id: "old" }));
    await r.world.settle();
    const second = noted(ref.send({ type: "later", ms: 10, id: "new" }));
    await r.world.settle();
    r.store.appendGate.open();
    await r.world.advance(2_000);
    expect([first.state, second.state]).toEqual(["store_full", "store_full"]);
    expect((await r.world.run(ref.get())).context.ticks).toBe(0);
    await r.world.advance(2_000);
    expect((await r.world.run(ref.get())).context.ticks).toBe(1);
  });

  it("a timer whose turn was taken back fires later, once", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "later", ms: 100 }));
    r.store.appendFaults.push("full");
    await r.world.advance(500);
    expect(r.store.appendFaults).toEqual([]);
    expect((await r.world.run(ref.get())).context.ticks).toBe(0);
    await r.world.advance(5_000);
    expect((await r.world.run(ref.get())).context.ticks).toBe(1);
  });

  it("contract 3: told messages that were waiting behind it, in whatever shard, arrive later, once, in order", async () => {
    const r = await rig();
    const [from, near, far] = [0, 1, 2].map((shard) => keyIn(r.node, r.probe, shard)) as [
      string,
      string,
      string,
    ];
    const to = [`probe/${near}`, `probe/${far}`];
    const other = r.node.client.actor(r.probe, keyIn(r.node, r.probe, 3));
    for (let round = 0; round < 6; round++) {
      await r.world.run(
        r.node.client.actor(r.probe, from).send({ type: "tellMany", to, from: `${round}.`, count: 4 }),
      );
      // The told messages are in the queue, or stepped, or loading, while a batch of another shard is refused.
      r.store.appendFaults.push("full");
      const refused = noted(other.send({ type: "add", by: 1 }));
      for (let turn = 0; turn < round; turn++) await new Promise((resolve) => setImmediate(resolve));
      await r.world.advance(1_500);
      expect(refused.state).toBe("store_full");
    }
    await r.world.advance(10_000);
    const expected = [0, 1, 2, 3, 4, 5].flatMap((n) => [1, 2, 3, 4].map((m) => `${n}.${m}`));
    for (const key of [near, far]) {
      expect((await r.world.run(r.node.client.actor(r.probe, key).get())).context.seen).toEqual(expected);
    }
  });

  it("contract 3: told messages in the queue behind a full batch are sent again, though their shard had no part in it", async () => {
    const r = await rig();
    const [from, to] = [0, 1].map((shard) => keyIn(r.node, r.probe, shard)) as [string, string];
    const others = [1, 2, 3, 4, 5, 6].map((n) =>
      r.node.client.actor(r.probe, keyIn(r.node, r.probe, 3, `${n}-`)),
    );
    await r.world.run(r.node.client.actor(r.probe, to).send({ type: "idle" }));
    for (const other of others) await r.world.run(other.send({ type: "idle" }));
    r.store.loses = (_subject, frame) => frame.kind === "told";
    const tell = { type: "tellMany", to: [`probe/${to}`], from: "", count: 3 } as const;
    await r.world.run(r.node.client.actor(r.probe, from).send(tell));
    r.store.appendGate.close();
    const grown = Promise.allSettled(
      others.map(async (other, n) => {
        if (n > 0) await r.world.settle();
        await other.send({ type: "grow", bytes: 300_000 });
      }),
    );
    await r.world.settle();
    r.store.loses = () => false;
    await r.world.advance(5_000);
    expect(r.node.incarnation.engine.queued).toBeGreaterThan(3);
    r.store.appendFaults.push("full");
    r.store.appendGate.open();
    await r.world.run(grown);
    await r.world.advance(20_000);
    const { context } = await r.world.run(r.node.client.actor(r.probe, to).get());
    expect(context.seen).toEqual(["1", "2", "3"]);
  });

  it("reads are answered meanwhile", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    r.store.appendFaults.push("full");
    await r.world.run(failure(ref.send({ type: "add", by: 1 })));
    expect(await counter(r, "b")).toBe(0);
  });
});
