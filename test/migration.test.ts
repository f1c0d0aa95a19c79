/** Migrations: what older versions stored, as the new machine has it; once, in order, and never half. */
import { readFileSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { assign, createMachine, raise, setup } from "xstate";
import { MachineHost } from "../runtime/engine/machine.ts";
import { migrate, type Migration, type Migrations } from "../runtime/engine/migration.ts";
import {
  DeltaTurn,
  decodeBatch,
  decodeRecord,
  KeyframeTurn,
  type TurnRecord,
} from "../runtime/engine/record.ts";
import { type ActorData, decodeSnapshot, encodeSnapshot } from "../runtime/engine/state.ts";
import {
  type ActorDefinition,
  type AnyActorDefinition,
  defineActor,
  type HistoryTurn,
} from "../runtime/index.ts";
import type { FaultStore } from "./support/fault-store.ts";
import { codeOf } from "./support/formats.ts";
import { orderNow, orderV1, toV3 } from "./support/orders.ts";
import { failure, type Rig, rig } from "./support/probe.ts";

const orderV3 = orderNow(3, toV3);
const put = (sku: string, price: number) => ({ type: "put", sku, price }) as const;

/** A node that hosts one definition, on the store and in the time of one that was killed. */
function next(
  before: Pick<Rig, "store" | "world">,
  actors: readonly AnyActorDefinition[],
  name: string,
): Promise<Rig> {
  return rig({ world: before.world, store: before.store, actors, name });
}

/** Every record of an actor in the journal, in order. */
async function recordsOf(store: FaultStore, id: string): Promise<TurnRecord[]> {
  const records: TurnRecord[] = [];
  for (let seq = 1; ; seq++) {
    const bytes = await store.inner.journal.get(seq);
    if (bytes === undefined) return records;
    const batch = decodeBatch(bytes, seq);
    for (let index = 0; index < batch.count; index++) {
      const record = decodeRecord(batch.recordAt(index));
      if (record.id === id) records.push(record);
    }
  }
}

async function storedOf(store: FaultStore, id: string): Promise<ActorData | undefined> {
  const [entry] = await store.inner.snapshots.read([id]);
  return entry?.value === undefined ? undefined : decodeSnapshot(id, entry.value);
}

async function historyOf(r: Rig, definition: ActorDefinition, key: string, order: "oldest" | "newest") {
  const read = async (): Promise<HistoryTurn[]> => {
    const turns: HistoryTurn[] = [];
    for await (const turn of r.node.client.actor(definition, key).history({ order })) turns.push(turn);
    return turns;
  };
  return await r.world.run(read());
}

describe("defineActor", () => {
  const machine = setup({}).createMachine({});
  it.each<[unknown, RegExp]>([
    [[], /an object with a function for each version/],
    ["1", /an object with a function/],
    [null, /an object with a function/],
    [{ 0: () => undefined }, /from version "0"; with version 3 they begin with 1 to 2/],
    [{ 3: () => undefined }, /from version "3"; with version 3 they begin with 1 to 2/],
    [{ "1.5": () => undefined }, /from version "1.5"/],
    [{ "01": () => undefined }, /from version "01"/],
    [{ first: () => undefined }, /from version "first"/],
    [{ 1: { value: "a" } }, /from version 1 is no function/],
  ])("refuses migrations that are %j", (migrations, text) => {
    const define = () =>
      defineActor({ type: "t", version: 3, machine, migrations: migrations as Migrations });
    expect(codeOf(define)).toBe("invalid_options");
    expect(define).toThrow(text);
  });

  it("says that a version has to be raised", () => {
    expect(() => defineActor({ type: "t", machine, migrations: { 1: (state) => state } })).toThrow(
      /with version 1 they begin with none: raise the version/,
    );
  });
});

/** What older versions stored, as files that are never written anew by a change of the program. */
describe("fixtures", () => {
  const at = { requests: [], turn: 3, last: [7, 0], keyframe: [5, 1] } as const;
  const timer = { id: "xstate.after.1000.order.open.pending", due: 1_900_000_001_000, generation: 1 };
  const cases: Record<string, { stored: ActorData; becomes: ActorData["machine"] }> = {
    "migration-order-1-pending": {
      stored: {
        ...at,
        version: 1,
        timers: [{ ...timer, event: { type: timer.id } }],
        machine: {
          value: { open: "pending" },
          context: { items: ["tea", "milk"], total: 7 },
          status: "active",
          output: undefined,
          history: undefined,
        },
      },
      becomes: {
        value: { active: { waiting: "payment" } },
        context: { lines: [{ sku: "tea" }, { sku: "milk" }], cents: 700, note: "" },
        status: "active",
        output: undefined,
        history: undefined,
      },
    },
    "migration-order-1-held": {
      stored: {
        ...at,
        version: 1,
        timers: [],
        machine: {
          value: "held",
          context: { items: [], total: 0 },
          status: "active",
          output: undefined,
          history: { "order.open.before": ["order.open.pending"] },
        },
      },
      becomes: {
        value: "held",
        context: { lines: [], cents: 0, note: "" },
        status: "active",
        output: undefined,
        history: { "order.active.before": ["order.active.waiting.payment"] },
      },
    },
    "migration-order-2-paid": {
      stored: {
        ...at,
        version: 2,
        timers: [],
        machine: {
          value: { active: "paid" },
          context: { lines: [{ sku: "jam" }], cents: 350 },
          status: "active",
          output: undefined,
          history: { "order.gone": ["order.active.paid"], "order.active.before": ["order.held"] },
        },
      },
      becomes: {
        value: { active: "paid" },
        context: { lines: [{ sku: "jam" }], cents: 350, note: "" },
        status: "active",
        output: undefined,
        history: undefined,
      },
    },
  };

  it.each(Object.keys(cases))("golden: %s is read, migrated and restored", (name) => {
    const path = new URL(`golden/${name}.hex`, import.meta.url);
    const { stored, becomes } = cases[name] as (typeof cases)[string];
    if (process.env.UPDATE_GOLDEN === "1") {
      const hex = Buffer.from(encodeSnapshot("order.a", stored)).toString("hex");
      writeFileSync(path, `${(hex.match(/.{1,64}/g) ?? []).join("\n")}\n`);
    }
    const bytes = new Uint8Array(Buffer.from(readFileSync(path, "utf8").replace(/\s/g, ""), "hex"));
    const data = decodeSnapshot("order.a", bytes);
    expect(data).toStrictEqual(stored);
    const now = migrate(orderV3, data);
    expect(now).toStrictEqual({ ...stored, version: 3, machine: becomes });
    expect(new MachineHost("order", orderV3.machine).restore(now.machine).value).toEqual(becomes.value);
    // What is new already is left alone.
    expect(migrate(orderV3, now)).toBe(now);
  });
});

describe("a migration that goes wrong", () => {
  const state = { value: "on", context: { n: 1, list: [1] }, status: "active" as const, output: undefined };
  const data: ActorData = {
    machine: { ...state, history: undefined },
    timers: [],
    requests: [],
    turn: 1,
    version: 1,
    last: [1, 0],
    keyframe: [1, 0],
  };
  const machine = setup({ types: { context: {} as { n: number; list: number[] } } }).createMachine({
    context: { n: 0, list: [] },
    initial: "on",
    states: { on: {}, off: {} },
  });
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  const bad: Record<string, [migration: (state: never) => unknown, text: RegExp]> = {
    throws: [
      () => {
        throw new Error("no idea what this was");
      },
      /"t" from version 1 to 2 failed: it threw: no idea what this was/,
    ],
    "throws no error": [
      () => {
        // biome-ignore lint/style/useThrowOnlyError: a user's code may throw anything
        throw "x";
      },
      /it threw: x/,
    ],
    "changes its state in place": [
      ((s: { context: { list: number[] } }) => {
        s.context.list.push(2);
        return s;
      }) as never,
      /it threw: .*The state is frozen: return a new one/,
    ],
    "is asynchronous": [async (s) => s, /it is asynchronous/],
    "is asynchronous and fails": [
      async () => {
        throw new Error("later");
      },
      /it is asynchronous/,
    ],
    "returns nothing": [() => undefined, /it returned undefined, not \{ value, context/],
    "returns a text": [() => "on", /it returned "on", not/],
    "returns a list": [() => [], /it returned an array, not/],
    "returns an instance": [() => new Map(), /it returned an instance of Map, not/],
    "forgets the value": [
      () => ({ ...state, value: undefined }),
      /the value undefined, which names no state/,
    ],
    "gives a value that is none": [
      () => ({ ...state, value: { on: 1 } }),
      /the value an object, which names/,
    ],
    "gives an empty value": [() => ({ ...state, value: "" }), /the value "", which names no state/],
    "gives a value in a circle": [() => ({ ...state, value: circle }), /the value an object, which names/],
    "forgets the context": [() => ({ ...state, context: undefined }), /returned undefined as context/],
    "gives a list as context": [() => ({ ...state, context: [] }), /returned an array as context/],
    "gives no status": [
      () => ({ value: "on", context: {} }),
      /the status undefined, not "active", "done" or "error"/,
    ],
    "gives another status": [() => ({ ...state, status: "stopped" }), /the status "stopped", not/],
    "gives a bad history": [() => ({ ...state, history: { a: "b" } }), /a history that is not lists/],
    "gives too much": [() => ({ ...state, contxt: {} }), /a state with "contxt", which no state has/],
    "keeps a function": [
      () => ({ ...state, context: { n: () => 1 } }),
      /state\.context\.n is a function, which cannot be stored/,
    ],
    "keeps an instance": [
      () => ({ ...state, context: { n: new WeakSet() } }),
      /state\.context\.n is an instance of WeakSet/,
    ],
    "gives an output that cannot be kept": [
      () => ({ ...state, status: "done", output: Symbol("x") }),
      /state\.output is a symbol/,
    ],
    "gives more than an actor may hold": [
      () => ({ ...state, context: { n: "x".repeat(800 * 1024) } }),
      /the state would take \d+ bytes, at most 786432 are allowed/,
    ],
  };

  it.each(Object.keys(bad))("refuses by name one that %s", (name) => {
    const [migration, text] = bad[name] as (typeof bad)[string];
    const definition = defineActor({
      type: "t",
      version: 2,
      machine,
      migrations: { 1: migration as unknown as Migration },
    });
    expect(codeOf(() => migrate(definition, data))).toBe("migration_failed");
    expect(() => migrate(definition, data)).toThrow(text);
  });

  it("refuses the actor and no other, applies nothing, and is mended by the next deployment", async () => {
    const r = await rig({ actors: [orderV1] });
    for (const key of ["a", "b"]) await r.world.run(r.node.client.actor(orderV1, key).send(put("tea", 1)));
    await r.world.run(r.node.checkpoint());
    r.node.kill();
    const picky: Migrations = {
      1: (state) => {
        if (state.context.items.includes("tea")) throw new Error("tea is out of stock");
        return state;
      },
    };
    const second = await next(r, [orderNow(2, picky)], "n2");
    const ref = second.node.client.actor(orderV3, "a");
    const error = await second.world.run(failure(ref.send(put("jam", 2))));
    expect(error).toMatchObject({ code: "migration_failed", outcome: "notApplied", retryable: false });
    expect(error.message).toMatch(/tea is out of stock/);
    expect((await second.world.run(failure(ref.get()))).code).toBe("migration_failed");
    // An actor that is new has nothing to migrate.
    expect(await second.world.run(second.node.client.actor(orderV3, "new").ask(put("tea", 1)))).toBe(100);
    expect((await storedOf(r.store, "order.a"))?.version).toBe(1);
    second.node.kill();
    const third = await next(r, [orderV3], "n3");
    expect(await third.world.run(third.node.client.actor(orderV3, "a").ask(put("jam", 2)))).toBe(300);
  });

  it("xstate #3091: a snapshot that the changed machine lacks is refused by name, and loaded with a migration", async () => {
    const r = await rig({ actors: [orderV1] });
    await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 1)));
    r.node.kill();
    const second = await next(r, [orderNow(3, {})], "n2");
    const error = await second.world.run(failure(second.node.client.actor(orderV3, "a").get()));
    expect(error).toMatchObject({ code: "incompatible_snapshot", outcome: "notApplied" });
    expect(error.message).toMatch(/\{"open":"pending"\} of a "order" is not a state of its machine/);
    second.node.kill();
    const third = await next(r, [orderV3], "n3");
    const state = await third.world.run(third.node.client.actor(orderV3, "a").get());
    expect(state).toMatchObject({
      value: { active: { waiting: "payment" } },
      context: { lines: [{ sku: "tea" }], cents: 100, note: "" },
      // The hour that the new machine waits has begun: that is a turn by itself.
      turn: 2,
    });
  });
});

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

describe("delays of a new version", () => {
  const HOUR = 3_600_000;
  const waiting = { active: { waiting: "payment" } };
  const patience = "xstate.after.patience.order.active.waiting";

  async function paidLate(r: Rig): Promise<unknown> {
    return (await r.world.run(r.node.client.actor(orderV3, "a").get())).value;
  }

  it.each(["from the tail", "from a snapshot"])(
    "one that the new machine lacks is dropped, and its own begins when the actor is found, %s",
    async (where) => {
      const r = await rig({ actors: [orderV1] });
      await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 5)));
      await r.world.advance(400);
      if (where === "from the tail") r.node.kill();
      else await r.world.run(r.node.stop({ closeStore: false }));
      const second = await next(r, [orderV3], "n2");
      // Nobody sends anything: the old timer brings the actor into memory, at its time or when the lease has run out.
      await r.world.advance(599);
      expect(await recordsOf(r.store, "order.a")).toHaveLength(1);
      while ((await recordsOf(r.store, "order.a")).length < 2) await r.world.advance(1);
      const found = r.world.now();
      const [, woken] = await recordsOf(r.store, "order.a");
      expect(woken).toMatchObject({
        kind: KeyframeTurn,
        version: 3,
        turn: 2,
        refusal: undefined,
        event: { type: "xstate.keyturn.migrated" },
        change: {
          value: waiting,
          timers: [{ id: patience, generation: 1, event: { type: patience } }],
        },
      });
      const due = woken?.change?.timers?.[0]?.due as number;
      expect(due).toBeGreaterThan(found + HOUR + 490);
      expect(due).toBeLessThanOrEqual(found + HOUR + 500);
      second.node.kill();
      const third = await next(r, [orderV3], "n3");
      await r.world.advance(due - 1 - r.world.now());
      expect(await paidLate(third)).toEqual(waiting);
      await r.world.advance(1);
      expect(await paidLate(third)).toEqual({ active: "late" });
      const turns = await historyOf(third, orderV3, "a", "oldest");
      expect(turns.map(({ event }) => event.type)).toEqual(["put", "xstate.keyturn.migrated", patience]);
    },
  );

  it("begins with the first message, which is then the turn that records it", async () => {
    const r = await rig({ actors: [orderV1] });
    await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 5)));
    await r.world.run(r.node.stop({ closeStore: false }));
    const second = await next(r, [orderV3], "n2");
    await second.world.run(second.node.client.actor(orderV3, "a").ask(put("jam", 1)));
    await r.world.advance(10);
    const [, first, ...more] = await recordsOf(r.store, "order.a");
    expect(first).toMatchObject({
      kind: KeyframeTurn,
      version: 3,
      turn: 2,
      change: { timers: [{ id: patience }] },
    });
    expect(more).toEqual([]);
  });

  it("is not lost by a node that dies before it is recorded, however often", async () => {
    const r = await rig({ actors: [orderV1] });
    await r.world.run(r.node.client.actor(orderV1, "a").send(put("tea", 5)));
    await r.world.run(r.node.stop({ closeStore: false }));
    let last: Rig = r;
    for (let life = 2; life < 6; life++) {
      last = await next(r, [orderV3], `n${life}`);
      const lane = last.node.incarnation.name;
      r.store.concerns = (name) => name === lane;
      r.store.appendGate.close();
      await r.world.advance(10_000);
      // It waits for its commit; the shards' entries are written meanwhile.
      expect(r.store.appendGate.waiting).toBe(1);
      await Promise.race([r.world.run(last.node.checkpoint()), r.world.advance(10)]);
      last.node.kill();
      r.store.appendFaults.push("unknown-lost");
      r.store.appendGate.open();
      await r.world.settle();
      r.store.appendFaults.length = 0;
    }
    expect(await recordsOf(r.store, "order.a")).toHaveLength(1);
    last = await next(r, [orderV3], "n9");
    await r.world.advance(10_000);
    expect(await recordsOf(r.store, "order.a")).toHaveLength(2);
    await r.world.advance(HOUR + 500);
    expect(await paidLate(last)).toEqual({ active: "late" });
  });

  it("those that both machines have go on, and timers that are no delays of states stay", async () => {
    const machine = setup({ types: { events: {} as { type: "go" } | { type: "tick" } } }).createMachine({
      id: "m",
      initial: "a",
      states: { a: { after: { 20000: "b" } }, b: { after: { 50: "c" } }, c: {} },
      on: { go: { actions: raise({ type: "tick" }, { delay: 17_000, id: "mine" }) }, tick: {} },
    });
    const v1 = defineActor({ type: "m", machine });
    const v2 = defineActor({ type: "m", machine, version: 2 });
    const r = await rig({ actors: [v1] });
    const begun = r.world.now();
    await r.world.run(r.node.client.actor(v1, "a").send({ type: "go" }));
    await r.world.advance(300);
    r.node.kill();
    const second = await next(r, [v2], "n2");
    // Nothing begins anew, so nothing is recorded for a read.
    expect((await r.world.run(second.node.client.actor(v2, "a").get())).turn).toBe(1);
    await r.world.advance(30_000);
    const turns = await historyOf(second, v2, "a", "oldest");
    expect(turns.map(({ event, time }) => [event.type, time - begun])).toEqual([
      ["go", 0],
      ["tick", 17_000],
      ["xstate.after.20000.m.a", 20_000],
      ["xstate.after.50.m.b", 20_050],
    ]);
    const records = await recordsOf(r.store, "m.a");
    expect(records.map(({ version, kind }) => [version, kind])).toEqual([
      [1, KeyframeTurn],
      [2, KeyframeTurn],
      [2, DeltaTurn],
      [2, DeltaTurn],
    ]);
  });

  it("a new version without a migration waits too; one that is migrated to its end waits no more", async () => {
    const on = { on: { go: {} } };
    const v1 = defineActor({
      type: "m",
      machine: createMachine({
        id: "m",
        initial: "a",
        states: { a: { after: { 10000: "b" } }, b: {} },
        ...on,
      }),
    });
    const v2 = defineActor({
      type: "m",
      version: 2,
      machine: createMachine({
        id: "m",
        initial: "a",
        states: { a: { after: { 20000: "b", 30000: "b" } }, b: { type: "final" } },
        ...on,
      }),
    });
    const v3 = defineActor({
      type: "m",
      version: 3,
      machine: v2.machine,
      migrations: { 2: (state) => ({ ...state, value: "b", status: "done", output: "over" }) },
    });
    const r = await rig({ actors: [v1] });
    await r.world.run(r.node.client.actor(v1, "a").send({ type: "go" }));
    await r.world.run(r.node.stop({ closeStore: false }));
    const second = await next(r, [v2], "n2");
    await r.world.advance(5_000);
    const begun = r.world.now();
    expect(await r.world.run(second.node.client.actor(v2, "a").get())).toMatchObject({ value: "a", turn: 1 });
    await r.world.advance(10);
    expect((await recordsOf(r.store, "m.a")).at(-1)?.change?.timers).toMatchObject([
      { id: "xstate.after.20000.m.a", due: begun + 20_000 },
      { id: "xstate.after.30000.m.a", due: begun + 30_000 },
    ]);
    second.node.kill();
    const third = await next(r, [v3], "n3");
    const state = await r.world.run(third.node.client.actor(v3, "a").get());
    expect(state).toMatchObject({ value: "b", status: "done", output: "over", turn: 2 });
    await r.world.advance(60_000);
    expect(await recordsOf(r.store, "m.a")).toHaveLength(2);
  });

  it("a timer that fails first of all in the new version is recorded with the whole state", async () => {
    const of = (version: number) =>
      defineActor({
        type: "m",
        version,
        migrations: version === 1 ? {} : { 1: (state) => ({ ...state, context: { made: 2 } }) },
        machine: setup({
          types: { context: {} as { made: number }, events: {} as { type: "go" } | { type: "fail" } },
        }).createMachine({
          id: "m",
          context: { made: version },
          on: {
            go: { actions: raise({ type: "fail" }, { delay: 500 }) },
            fail: {
              actions: assign(() => {
                throw new Error("no such luck");
              }),
            },
          },
        }),
      });
    const r = await rig({ actors: [of(1)] });
    await r.world.run(r.node.client.actor(of(1), "a").send({ type: "go" }));
    r.node.kill();
    await next(r, [of(2)], "n2");
    await r.world.advance(10_000);
    expect((await recordsOf(r.store, "m.a")).at(-1)).toMatchObject({
      kind: KeyframeTurn,
      version: 2,
      turn: 2,
      refusal: ["machine_failed", expect.stringMatching("no such luck")],
      change: { context: { made: 2 }, timers: null },
    });
  });

  it.each<[string, () => number, RegExp]>([
    [
      "throws",
      () => {
        throw new Error("no clock");
      },
      /xstate\.after\.soon\.m\.a of a migrated actor cannot begin: it threw: no clock/,
    ],
    ["gives no time", () => Number.NaN, /cannot begin: NaN ms is not a time/],
    ["gives a past", () => -1, /cannot begin: -1 ms is not a time/],
  ])("one that %s refuses the actor", async (_what, soon, text) => {
    const on = { on: { go: {} } };
    const v1 = defineActor({
      type: "m",
      machine: createMachine({ id: "m", initial: "a", states: { a: {} }, ...on }),
    });
    const v2 = defineActor({
      type: "m",
      version: 2,
      machine: setup({ delays: { soon } }).createMachine({
        id: "m",
        initial: "a",
        states: { a: { after: { soon: "b" } }, b: {} },
        ...on,
      }),
    });
    const r = await rig({ actors: [v1] });
    await r.world.run(r.node.client.actor(v1, "a").send({ type: "go" }));
    r.node.kill();
    const second = await next(r, [v2], "n2");
    const error = await r.world.run(failure(second.node.client.actor(v2, "a").get()));
    expect(error.code).toBe("migration_failed");
    expect(error.message).toMatch(text);
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
