/** Contract 3 and 8: requests that are repeated, lost, late or given an id, and what a client may conclude. */
import { describe, expect, it } from "vitest";
import { setup } from "xstate";
import { createClient } from "../runtime/client/client.ts";
import { defineActor, reply } from "../runtime/index.ts";
import type { Frame } from "../runtime/words/frames.ts";
import { limits } from "../runtime/words/limits.ts";
import { failure, type Rig, rig } from "./support/probe.ts";

const add = { type: "add", by: 1 } as const;

async function turns(r: Rig, key = "a"): Promise<number> {
  return (await r.world.run(r.node.client.actor(r.probe, key).get())).turn;
}

const isReply = (_subject: string, frame: Frame): boolean => frame.kind === "reply";
const isRequest = (_subject: string, frame: Frame): boolean => frame.kind === "request";

describe("contract 3: a request id gives one turn and one reply", () => {
  it("asked again once committed", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    expect(await r.world.run(ref.ask(add, { requestId: "x" }))).toBe(1);
    await r.world.run(ref.ask(add, { requestId: "y" }));
    expect(await r.world.run(ref.ask(add, { requestId: "x" }))).toBe(1);
    expect(await turns(r)).toBe(2);
  });

  it("asked again for a reply that is the state: the state as it was then", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    const event = { type: "note", from: "n", n: 1 } as const;
    const first = await r.world.run(ref.ask(event, { requestId: "x" }));
    for (let n = 0; n < 80; n++) await r.world.run(ref.send(add));
    expect(await r.world.run(ref.ask(event, { requestId: "x" }))).toEqual(first);
  });

  it("asked again by many at once: each batch is read once, and not all of them at the same time", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    const ids = Array.from({ length: 200 }, (_, n) => `id${n}`);
    for (const requestId of ids) await r.world.run(ref.ask(add, { requestId }));
    const { journal } = r.store;
    const get = journal.get.bind(journal);
    const reads: number[] = [];
    let atOnce = 0;
    let most = 0;
    journal.get = async (seq) => {
      reads.push(seq);
      most = Math.max(most, ++atOnce);
      try {
        return await get(seq);
      } finally {
        atOnce--;
      }
    };
    const again = ids.flatMap((requestId) => [ref.ask(add, { requestId }), ref.ask(add, { requestId })]);
    const answers = await r.world.run(Promise.all(again));
    expect(answers).toEqual(ids.flatMap((_, n) => [n + 1, n + 1]));
    expect(new Set(reads).size).toBe(reads.length);
    expect(most).toBe(16);
  });

  it("asked again, one record is read, and the state is made anew only where it is the answer", async () => {
    const first = await rig();
    const { store, world, probe } = first;
    const ref = first.node.client.actor(probe, "a");
    const note = { type: "note", from: "n", n: 1 } as const;
    for (let n = 0; n < 20; n++) await world.run(ref.send(add));
    await world.run(ref.ask(add, { requestId: "replied" }));
    await world.run(ref.send(note, { requestId: "sent" }));
    const state = await world.run(ref.ask({ ...note, n: 2 }, { requestId: "state" }));
    await world.run(first.node.checkpoint());
    first.node.kill();
    const { node } = await rig({ store, world, probe, name: "n2" });
    const again = node.client.actor(probe, "a");
    await world.run(again.get());
    const { journal } = store;
    const get = journal.get.bind(journal);
    let reads = 0;
    journal.get = (seq) => {
      reads++;
      return get(seq);
    };
    const readsOf = async (answer: Promise<unknown>): Promise<[unknown, number]> => {
      const before = reads;
      return [await world.run(answer), reads - before];
    };
    expect(await readsOf(again.ask(add, { requestId: "replied" }))).toEqual([21, 1]);
    expect(await readsOf(again.send(note, { requestId: "sent" }))).toEqual([undefined, 1]);
    // Its own, and the twenty that were not looked at yet.
    expect(await readsOf(again.ask({ ...note, n: 2 }, { requestId: "state" }))).toEqual([state, 21]);
  });

  it("asked again while the journal cannot be read: the error names the id, by which it can be asked once more", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.ask(add, { requestId: "x" }));
    const { journal } = r.store;
    const get = journal.get;
    journal.get = () => Promise.reject(new Error("The disk is away."));
    const error = await r.world.run(failure(ref.ask(add, { requestId: "x" })));
    expect(error).toMatchObject({ code: "store_failed", outcome: "unknown", requestId: "x" });
    journal.get = get;
    expect(await r.world.run(ref.ask(add, { requestId: error.requestId as string }))).toBe(1);
    expect(await turns(r)).toBe(1);
  });

  it("asked from another client", async () => {
    const r = await rig();
    const other = await createClient(r.store, r.world, 4);
    expect(await r.world.run(r.node.client.actor(r.probe, "a").ask(add, { requestId: "x" }))).toBe(1);
    expect(await r.world.run(other.actor(r.probe, "a").ask(add, { requestId: "x" }))).toBe(1);
    expect(await turns(r)).toBe(1);
  });

  it("asked after the node was killed, from the tail and from a snapshot", async () => {
    for (const checkpoint of [false, true]) {
      const first = await rig();
      const { store, world, probe } = first;
      await world.run(first.node.client.actor(probe, "a").ask(add, { requestId: "x" }));
      if (checkpoint) await world.run(first.node.checkpoint());
      first.node.kill();
      const second = await rig({ store, world, probe, name: "n2" });
      expect(await world.run(second.node.client.actor(probe, "a").ask(add, { requestId: "x" }))).toBe(1);
      expect(await turns(second)).toBe(1);
    }
  });

  it("asked after the actor was passivated", async () => {
    const r = await rig({ settings: { activeActors: 2 } });
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.ask(add, { requestId: "x" }));
    for (let n = 0; n < 20; n++) await r.world.run(r.node.client.actor(r.probe, `k${n}`).send(add));
    expect(r.node.incarnation.engine.actors.has("probe.a")).toBe(false);
    expect(await r.world.run(ref.ask(add, { requestId: "x" }))).toBe(1);
  });

  it("is one id per actor", async () => {
    const r = await rig();
    await r.world.run(r.node.client.actor(r.probe, "a").ask(add, { requestId: "x" }));
    await r.world.run(r.node.client.actor(r.probe, "b").ask(add, { requestId: "x" }));
    expect([await turns(r, "a"), await turns(r, "b")]).toEqual([1, 1]);
  });

  it(`the last ${limits.requestsPerActor} ids are remembered, as documented, over restarts too`, async () => {
    const first = await rig();
    const { store, world, probe } = first;
    const ref = first.node.client.actor(probe, "a");
    for (let n = 0; n <= limits.requestsPerActor; n++) await world.run(ref.ask(add, { requestId: `id${n}` }));
    await world.run(first.node.checkpoint());
    first.node.kill();
    const second = await rig({ store, world, probe, name: "n2" });
    const again = second.node.client.actor(probe, "a");
    expect(await world.run(again.ask(add, { requestId: "id1" }))).toBe(2);
    expect(await world.run(again.ask(add, { requestId: "id0" }))).toBe(limits.requestsPerActor + 2);
  });

  it("used again for another event: refused by name, and nothing changes", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    // At once, so that the first is not committed yet.
    const [first, other] = await r.world.run(
      Promise.all([
        ref.ask(add, { requestId: "x" }),
        failure(ref.ask({ type: "add", by: 2 }, { requestId: "x" })),
      ]),
    );
    expect(first).toBe(1);
    expect(other).toMatchObject({ code: "request_id_reused", outcome: "rejected", retryable: false });
    for (const call of [
      () => ref.ask({ type: "add", by: 2 }, { requestId: "x" }),
      () => ref.send({ type: "idle" }, { requestId: "x" }),
      () => ref.create(undefined, { requestId: "x" }),
    ])
      expect(await r.world.run(failure(call()))).toMatchObject({ code: "request_id_reused" });
    // The same event is the same, in whatever order its parts stand.
    expect(await r.world.run(ref.ask({ by: 1, type: "add" }, { requestId: "x" }))).toBe(1);
    expect(await turns(r)).toBe(1);
  });

  it("used again for another event after the node was killed, from the tail and from a snapshot", async () => {
    for (const checkpoint of [false, true]) {
      const { store, world, probe, node } = await rig();
      await world.run(node.client.actor(probe, "a").ask(add, { requestId: "x" }));
      if (checkpoint) await world.run(node.checkpoint());
      node.kill();
      const heir = await rig({ store, world, probe, name: "n2" });
      const again = heir.node.client.actor(probe, "a").ask({ type: "add", by: 2 }, { requestId: "x" });
      expect(await world.run(failure(again))).toMatchObject({
        code: "request_id_reused",
        outcome: "rejected",
      });
      expect(await turns(heir)).toBe(1);
    }
  });

  it("a type says what of its events makes them the same", async () => {
    const stamped = (fingerprint: (event: { at: number }) => unknown) =>
      defineActor({
        type: "probe",
        machine: setup({ types: { events: {} as { type: "take"; what: string; at: number } } }).createMachine(
          {
            on: { take: { actions: reply(({ event }) => event.at) } },
          },
        ),
        fingerprint,
      }) as unknown as Rig["probe"];
    const ask = async (fingerprint: (event: { at: number }) => unknown, again: object) => {
      const r = await rig({ probe: stamped(fingerprint) });
      const take = (event: object) =>
        r.world.run(r.node.client.actor("probe/a").ask({ type: "take", ...event }, { requestId: "x" }));
      await take({ what: "tea", at: 1 });
      return take({ what: "tea", ...again }).catch(({ code, outcome }) => [code, outcome]);
    };
    const but = ({ at: _, ...event }: { at: number }) => event;
    expect(await ask(but, { at: 2 })).toBe(1);
    expect(await ask(but, { at: 1, what: "cake" })).toEqual(["request_id_reused", "rejected"]);
    expect(await ask(() => undefined, { what: "cake" })).toBe(1);
    const broken = () => {
      throw new Error("no print");
    };
    expect(await ask(broken, { at: 2 })).toEqual(["request_forgotten", "unknown"]);
    expect(() =>
      defineActor({ type: "probe", machine: setup({}).createMachine({}), fingerprint: 7 as never }),
    ).toThrow("is a function of an event");
  });

  it("a rejected request changed nothing; its id is free", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(failure(ref.ask({ type: "fail" }, { requestId: "x" })));
    expect(await r.world.run(ref.ask(add, { requestId: "x" }))).toBe(1);
  });
});

describe("contract 8: a timeout is unknown, and can be resolved", () => {
  it("says so, with the id to ask with", async () => {
    const r = await rig();
    r.store.loses = isReply;
    const error = await r.world.run(failure(r.node.client.actor(r.probe, "a").ask(add, { timeout_ms: 500 })));
    expect(error).toMatchObject({ code: "timeout", outcome: "unknown", retryable: true });
    expect(error.requestId).toEqual(expect.any(String));
  });

  it("what was only looked at was not applied: it is to be tried again, without any id", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    r.store.loses = isReply;
    for (const look of [
      () => ref.get({ timeout_ms: 500 }),
      () => ref.timers({ timeout_ms: 500 }),
      () => r.node.client.count(r.probe, { timeout_ms: 500 }),
    ]) {
      const error = await r.world.run(failure(look()));
      expect(error).toMatchObject({ code: "timeout", retryable: true, requestId: undefined });
      expect(error.message).toMatch(/^No answer from .* in time\. Nothing was changed/);
    }
  });

  it("applied, reply lost: the id gives the reply", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    r.store.loses = isReply;
    const { requestId } = await r.world.run(failure(ref.ask(add, { timeout_ms: 500 })));
    r.store.loses = () => false;
    expect(await r.world.run(ref.ask(add, { requestId: requestId as string }))).toBe(1);
    expect(await turns(r)).toBe(1);
  });

  it("never arrived: the id sends it after all, once", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    r.store.loses = isRequest;
    const { requestId } = await r.world.run(failure(ref.ask(add, { timeout_ms: 500 })));
    r.store.loses = () => false;
    expect(await r.world.run(ref.ask(add, { requestId: requestId as string }))).toBe(1);
    expect(await turns(r)).toBe(1);
  });

  it("answered late, before it was asked for again: the late answer is kept", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    r.store.appendGate.close();
    const { requestId } = await r.world.run(failure(ref.ask(add, { timeout_ms: 500 })));
    r.store.appendGate.open();
    await r.world.advance(1_000);
    expect(await r.world.run(ref.ask(add, { requestId: requestId as string }))).toBe(1);
    expect(await turns(r)).toBe(1);
  });

  it("an id that the client knows no more is refused as unknown, never sent as a new request", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    r.store.loses = isReply;
    const { requestId } = await r.world.run(failure(ref.ask(add, { timeout_ms: 500 })));
    await r.world.advance(120_000);
    r.store.loses = () => false;
    const again = await r.world.run(failure(ref.ask(add, { requestId: requestId as string })));
    expect(again).toMatchObject({ code: "request_forgotten", outcome: "unknown", retryable: false });
    expect(await turns(r)).toBe(1);
  });

  it("an id of the caller's own resolves it from anywhere, after the node is gone too", async () => {
    const first = await rig();
    const { store, world, probe } = first;
    store.loses = isReply;
    const ask = first.node.client.actor(probe, "a").ask(add, { timeout_ms: 500, requestId: "mine" });
    expect((await world.run(failure(ask))).requestId).toBe("mine");
    first.node.kill();
    store.loses = () => false;
    const second = await rig({ store, world, probe, name: "n2" });
    expect(await world.run(second.node.client.actor(probe, "a").ask(add, { requestId: "mine" }))).toBe(1);
    expect(await turns(second)).toBe(1);
  });

  it("closing the client settles what is open as unknown, and refuses what comes after", async () => {
    const r = await rig();
    r.store.appendGate.close();
    const ask = failure(r.node.client.actor(r.probe, "a").ask(add));
    await r.world.settle();
    r.node.client.close();
    expect(await r.world.run(ask)).toMatchObject({ code: "client_closed", outcome: "unknown" });
    expect(await r.world.run(failure(r.node.client.actor(r.probe, "a").get()))).toMatchObject({
      code: "client_ended",
      outcome: "notApplied",
    });
  });
});

describe("a network that loses and repeats frames", () => {
  it("contract 3: every ask is applied once and answered, whatever frame is lost", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    let n = 0;
    r.store.loses = () => n++ % 3 === 1;
    const asks: Promise<number>[] = [];
    for (let at = 0; at < 60; at++) {
      asks.push(ref.ask(add, { timeout_ms: 120_000 }));
      if (at % 7 === 0) await r.world.settle();
    }
    expect(await r.world.run(Promise.all(asks), 300_000)).toEqual(asks.map((_, at) => at + 1));
    r.store.loses = () => false;
    expect(await turns(r)).toBe(60);
  });

  it("shard 1: a frame that comes again, late or early, is not applied again", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send(add));
    await r.world.run(ref.send(add));
    const requests = r.store.frames.filter(({ frame }) => frame.kind === "request");
    for (const { subject, frame } of [...requests, ...requests.reverse()]) {
      r.store.transport.publish(subject, frame);
      await r.world.settle();
    }
    expect(await turns(r)).toBe(2);
  });

  it("a repeated request is answered from the journal after a take-over, whatever its kind", async () => {
    const first = await rig();
    const { store, world, probe } = first;
    const client = await createClient(store, world, 4);
    const [a, b] = [client.actor(probe, "a"), client.actor(probe, "b")];
    await world.run(a.send(add));
    await world.run(b.send(add));
    store.loses = isReply;
    const calls = [a.ask(add), a.send(add), a.ask({ type: "note", from: "n", n: 1 }), b.delete()];
    await world.settle();
    first.node.kill();
    store.loses = () => false;
    const second = await rig({ store, world, probe, name: "n2" });
    const [asked, sent, noted, deleted] = await world.run(Promise.all(calls));
    expect([asked, sent, deleted]).toEqual([2, undefined, undefined]);
    expect(noted).toMatchObject({ turn: 4, context: { count: 3, seen: ["n1"] } });
    expect([await turns(second, "a"), await turns(second, "b")]).toEqual([4, 0]);
  });

  it("what the dead node had taken in and not committed is sent again, in order", async () => {
    const first = await rig();
    const { store, world, probe } = first;
    const client = await createClient(store, world, 4);
    const ref = client.actor(probe, "a");
    await world.run(ref.send(add));
    store.appendFaults.push("unknown-lost");
    store.appendGate.close();
    const notes = [1, 2, 3].map((n) => client.actor(probe, "a").send({ type: "note", from: "n", n }));
    await world.settle();
    first.node.kill();
    store.appendGate.open();
    const second = await rig({ store, world, probe, name: "n2" });
    await world.run(Promise.all(notes));
    const { context } = await world.run(second.node.client.actor(probe, "a").get());
    expect(context.seen).toEqual(["n1", "n2", "n3"]);
  });
});

describe("a client that is asked for too much", () => {
  it("contract 11: refuses more open requests than the limit, and goes on when some are settled", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    r.store.appendGate.close();
    const open = Array.from({ length: limits.sessionInFlight }, () => ref.send(add));
    expect(await failure(ref.send(add))).toMatchObject({ code: "overloaded", outcome: "notApplied" });
    r.store.appendGate.open();
    await r.world.run(Promise.all(open));
    await r.world.run(ref.send(add));
    expect(await turns(r)).toBe(limits.sessionInFlight + 1);
  });

  it("a time-out beyond the limit, or none at all, is refused", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    for (const timeout_ms of [0, -1, Number.NaN, limits.deadline_ms + 1, Number.POSITIVE_INFINITY]) {
      expect((await failure(ref.ask(add, { timeout_ms }))).code).toBe("invalid_options");
    }
    for (const requestId of ["", "x".repeat(limits.requestIdBytes + 1)]) {
      expect((await failure(ref.ask(add, { requestId }))).code).toBe("invalid_options");
    }
  });
});
