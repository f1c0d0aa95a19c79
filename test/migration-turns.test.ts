/** Turns of migrated actors: what is recorded, answered, remembered and recovered across versions; once, in order, and never half. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { assign, setup } from "xstate";
import type { Migration, Migrations } from "../runtime/engine/migration.ts";
import { DeltaTurn, KeyframeTurn } from "../runtime/engine/record.ts";
import { defineActor } from "../runtime/index.ts";
import { orderNow, orderV1 } from "./support/orders.ts";
import { failure, type Rig, rig } from "./support/probe.ts";
import { orderV3, put, next, recordsOf, storedOf, historyOf } from "./support/migrated.ts";

describe("across versions", () => {
  it("the first turn of a new version records the whole state; recovery and history go on from it", async () => {
    const r = await rig({ actors: [orderV1] });
    const old = r.node.client.actor(orderV1, "a");
    for (let n = 1; n <= 5; n++) expect(await r.world.run(old.ask(put(`s${n}`, n)))).toBe((n * (n + 1)) / 2);
    await r.world.run(old.send({ type: "pay" }));
    r.node.kill();

    const second = await next(r, [orderV3], "n2");
    const ref = second.node.client.actor(orderV3, "a");
    const read = await second.world.run(ref.get());
    expect(read).toMatchObject({ value: { active: "paid" }, context: { cents: 1_500, note: "" }, turn: 6 });
    // Nothing was written for it: not even what a checkpoint stores is of the new version.
    await second.world.run(second.node.checkpoint());
    expect(await storedOf(r.store, "order.a")).toMatchObject({
      version: 1,
      turn: 6,
      machine: { value: { open: "paid" }, context: { total: 15 } },
    });
    for (let n = 6; n <= 8; n++) await second.world.run(ref.send(put(`s${n}`, n)));
    second.node.kill();

    const records = await recordsOf(r.store, "order.a");
    expect(records.map(({ version, kind }) => [version, kind])).toEqual([
      [1, KeyframeTurn],
      ...Array.from({ length: 5 }, () => [1, DeltaTurn]),
      [3, KeyframeTurn],
      [3, DeltaTurn],
      [3, DeltaTurn],
    ]);

    // From the tail, in which both versions are, with a machine whose migrations would fail: they are not run again.
    const never: Migrations = {
      1: () => {
        throw new Error("never again");
      },
    };
    const third = await next(r, [orderNow(3, never)], "n3");
    const again = await third.world.run(third.node.client.actor(orderV3, "a").get());
    expect(again).toMatchObject({ context: { cents: 3_600, lines: { length: 8 } }, turn: 9 });

    for (const order of ["oldest", "newest"] as const) {
      const turns = await historyOf(third, orderV3, "a", order);
      if (order === "newest") turns.reverse();
      expect(turns.map(({ turn }) => turn)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
      const totals = turns.map(
        ({ context }) => (context as { total?: number; cents?: number }).total ?? context,
      );
      expect(totals.slice(0, 6)).toEqual([1, 3, 6, 10, 15, 15]);
      expect(turns.slice(6).map(({ context }) => (context as { cents: number }).cents)).toEqual([
        2_100, 2_800, 3_600,
      ]);
      expect(turns[5]?.value).toEqual({ open: "paid" });
      expect(turns[6]?.value).toEqual({ active: "paid" });
    }
  });

  it("a request that an older version answered is answered so again", async () => {
    const r = await rig({ actors: [orderV1] });
    const first = await r.world.run(
      r.node.client.actor(orderV1, "a").ask(put("tea", 4), { requestId: "once" }),
    );
    r.node.kill();
    const second = await next(r, [orderV3], "n2");
    const ref = second.node.client.actor(orderV3, "a");
    expect(await second.world.run(ref.ask(put("tea", 4), { requestId: "once" }))).toBe(first);
    await second.world.run(ref.ask(put("jam", 1), { requestId: "twice" }));
    second.node.kill();
    const third = await next(r, [orderV3], "n3");
    const later = third.node.client.actor(orderV3, "a");
    expect(await third.world.run(later.ask(put("tea", 4), { requestId: "once" }))).toBe(first);
    expect((await third.world.run(later.get())).context.cents).toBe(500);
  });

  it("what a history state remembers goes with the migration", async () => {
    const r = await rig({ actors: [orderV1] });
    await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 1)));
    await r.world.run(r.node.client.actor(orderV1, "a").send({ type: "pay" }));
    await r.world.run(r.node.client.actor(orderV1, "a").send({ type: "hold" }));
    await r.world.run(r.node.stop({ closeStore: false }));
    const second = await next(r, [orderV3], "n2");
    const ref = second.node.client.actor(orderV3, "a");
    expect((await second.world.run(ref.ask({ type: "resume" }))).value).toEqual({ active: "paid" });
  });

  it("a deleted actor begins anew, in the new version", async () => {
    const r = await rig({ actors: [orderV1] });
    await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 1)));
    r.node.kill();
    const second = await next(r, [orderV3], "n2");
    const ref = second.node.client.actor(orderV3, "a");
    await second.world.run(ref.delete());
    expect(await second.world.run(ref.ask(put("jam", 2)))).toBe(200);
    second.node.kill();
    const third = await next(r, [orderV3], "n3");
    expect((await third.world.run(third.node.client.actor(orderV3, "a").get())).turn).toBe(1);
  });

  it("an append that is refused leaves the stored version to be migrated again", async () => {
    const r = await rig({ actors: [orderV1] });
    await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 1)));
    await r.world.run(r.node.client.actor(orderV1, "a").send({ type: "pay" }));
    await r.world.run(r.node.stop({ closeStore: false }));
    const second = await next(r, [orderV3], "n2");
    const ref = second.node.client.actor(orderV3, "a");
    r.store.appendFaults.push("full");
    expect((await second.world.run(failure(ref.send(put("jam", 1))))).code).toBe("store_full");
    await second.world.advance(5_000);
    expect(await second.world.run(ref.ask(put("jam", 1)))).toBe(200);
    expect((await recordsOf(r.store, "order.a")).at(-1)).toMatchObject({
      kind: KeyframeTurn,
      version: 3,
      turn: 3,
    });
  });

  it("migrated once, whatever comes between: turns, crashes, checkpoints, little memory, new versions", async () => {
    const op = fc.constantFrom(
      "add",
      "add",
      "read",
      "read",
      "crash",
      "stop",
      "checkpoint",
      "upgrade",
      "others",
    );
    await fc.assert(
      fc.asyncProperty(fc.array(op, { minLength: 20, maxLength: 50 }), async (ops) => {
        let version = 1;
        let count = 0;
        let lives = 1;
        const took: number[] = [];
        const start = async (before: Rig | undefined): Promise<Rig> =>
          rig({
            ...(before === undefined ? {} : { world: before.world, store: before.store }),
            actors: [generations(version)],
            name: `n${lives++}`,
            settings: { activeActors: 2 },
          });
        let r = await start(undefined);
        const ref = () => r.node.client.actor(generations(version), "a");
        for (const what of ops) {
          if (what === "add") {
            count++;
            took.push(version);
            expect(await r.world.run(ref().ask({ type: "add" }))).toMatchObject({
              context: { count, made: version },
            });
          } else if (what === "read") {
            const made = took.length === 0 ? 1 : version;
            expect((await r.world.run(ref().get())).context).toEqual({
              count,
              made: took.length === 0 ? version : made,
            });
          } else if (what === "checkpoint") await r.world.run(r.node.checkpoint());
          else if (what === "others") {
            for (const key of ["x", "y", "z"])
              await r.world.run(r.node.client.actor(generations(version), key).send({ type: "add" }));
          } else {
            if (what === "stop") await r.world.run(r.node.stop({ closeStore: false }));
            else r.node.kill();
            if (what === "upgrade") version++;
            r = await start(r);
          }
        }
        const turns = await historyOf(r, generations(version), "a", "oldest");
        expect(turns.map(({ context }) => context)).toEqual(took.map((made, n) => ({ count: n + 1, made })));
        r.node.kill();
      }),
      { numRuns: 50 },
    );
  });
});

/** A counter that says which version made its context: by its migrations, one step for each version. */
function generations(version: number) {
  const step: Migration = (state) => ({
    ...state,
    context: { ...state.context, made: state.context.made + 1 },
  });
  return defineActor({
    type: "gen",
    version,
    migrations: Object.fromEntries(Array.from({ length: version - 1 }, (_, n) => [n + 1, step])),
    machine: setup({
      types: { context: {} as { count: number; made: number }, events: {} as { type: "add" } },
    }).createMachine({
      context: { count: 0, made: version },
      on: { add: { actions: assign({ count: ({ context }) => context.count + 1 }) } },
    }),
  });
}
