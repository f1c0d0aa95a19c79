/** Pinned snapshots of a store, whatever is written, expires, crashes and is trimmed from the journal meanwhile. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { Pinned } from "../runtime/kv/pinned.ts";
import { Client } from "../runtime/client/client.ts";
import { KeepPolicy } from "../runtime/engine/keep.ts";
import { type Keep, type KeyturnNode, memory, startNode, trimJournal } from "../runtime/index.ts";
import { collected } from "./support/collected.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const SHARDS = 2;

/** What is overdue comes late. */
const settings = { overdue_ms: 1, overduePerSecond: 1 };

/** A node that is killed and started again, a client beside it, and a wall clock that is moved by hand. */
class Scene {
  readonly world = new VirtualWorld();
  readonly #store = memory();
  readonly #client = new Client(this.#store, this.world, SHARDS);
  readonly films = this.#client.store<number>("films");
  readonly #others = this.#client.store<number>("others");
  #nodes = 0;
  #node: KeyturnNode | undefined;

  async start(): Promise<void> {
    const { world } = this;
    const name = `n${++this.#nodes}`;
    const node = startNode({ actors: [], store: this.#store, shards: SHARDS, name, world, settings });
    this.#node = await world.run(node);
  }

  kill(): void {
    this.#node?.kill();
    this.#node = undefined;
  }

  /** Lets time pass, with nobody awake before its end. */
  async pass(ms: number): Promise<void> {
    this.world.wall_ms += ms;
    // What is due is looked for once a minute at least.
    await this.world.advance(MINUTE);
  }

  /** Trims to an hour, the least. A lane's last entry stays: so that it is none of interest. */
  async trim(keep: Keep = { age: "1 hour" }): Promise<void> {
    const { world } = this;
    await world.run(this.#others.put("any", 1));
    await world.run(this.#node?.checkpoint() ?? Promise.resolve());
    await world.run(trimJournal({ store: this.#store, keep, world }));
  }

  run<T>(promise: Promise<T>): Promise<T> {
    return this.world.run(promise);
  }
}

const name = fc.constantFrom("a", "b", "c");
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("put" as const), name, value: fc.nat(99) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("expiring" as const),
      name,
      value: fc.constantFrom(1_000, 2 * MINUTE, 20 * MINUTE, 3 * HOUR),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("add" as const), name, value: fc.nat(9) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("delete" as const), name, value: fc.constant(0) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("pass" as const),
      name,
      value: fc.constantFrom(1_000, 4 * MINUTE, 6 * MINUTE, 40 * MINUTE, 3 * HOUR, 25 * HOUR),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom("pin" as const, "trim" as const, "crash" as const, "downtime" as const),
      name,
      value: fc.constant(0),
    }),
  },
);

it("a pinned snapshot shows for an hour what was there when it was taken", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 30 }), async (steps) => {
      const scene = new Scene();
      await scene.start();
      let pins: { pinned: Pinned<string, number>; wanted: unknown }[] = [];
      for (const { do: what, name: key, value } of steps) {
        const { films } = scene;
        if (what === "put") await scene.run(films.put(key, value));
        else if (what === "expiring") await scene.run(films.put(key, value, { ttl: value }));
        else if (what === "add") await scene.run(films.add(key, value));
        else if (what === "delete") await scene.run(films.delete(key));
        else if (what === "pass") await scene.pass(value);
        else if (what === "trim") await scene.trim();
        else if (what === "crash" || what === "downtime") {
          scene.kill();
          if (what === "downtime") scene.world.wall_ms += 3 * HOUR;
          await scene.start();
          // Before what is overdue has come.
          if (what === "downtime") await scene.trim();
        } else {
          const wanted = await scene.run(collected(films.all()));
          const pinned = await scene.run(films.snapshot());
          // What expired at this very moment is in one of them only.
          if (JSON.stringify(await scene.run(collected(films.all()))) === JSON.stringify(wanted))
            pins.push({ pinned, wanted });
        }
        pins = pins.filter(({ pinned }) => scene.world.now() - pinned.time < HOUR);
        for (const { pinned, wanted } of pins) expect(await scene.run(collected(pinned))).toEqual(wanted);
      }
      scene.kill();
    }),
    { numRuns: 120 },
  );
}, 600_000);

it("a key that was not there and is deleted once more was not there", async () => {
  const scene = new Scene();
  await scene.start();
  for (const key of ["never", "deleted"]) await scene.run(scene.films.delete(key));
  await scene.run(scene.films.put("deleted", 1));
  await scene.run(scene.films.delete("deleted"));
  await scene.pass(3 * HOUR);
  await scene.trim();
  const pinned = await scene.run(scene.films.snapshot());
  for (const key of ["never", "deleted"]) await scene.run(scene.films.delete(key));
  expect(await scene.run(collected(pinned))).toEqual([]);
  scene.kill();
});

it("what expired late, after a downtime, is told as it was", async () => {
  const scene = new Scene();
  await scene.start();
  const names = Array.from({ length: 20 }, (_, n) => `k${n}`);
  for (const key of names) await scene.run(scene.films.put(key, 1, { ttl: 1_000 }));
  await scene.trim();
  scene.kill();
  scene.world.wall_ms += 3 * HOUR;
  await scene.start();
  await scene.trim();
  const wanted = await scene.run(collected(scene.films.all()));
  const pinned = await scene.run(scene.films.snapshot());
  expect(wanted.length).toBeGreaterThan(10);
  await scene.pass(1_000);
  expect(await scene.run(collected(scene.films.all()))).toEqual([]);
  expect(await scene.run(collected(pinned))).toEqual(wanted);
  scene.kill();
});

it("says that it has expired where all that could tell is trimmed", async () => {
  const scene = new Scene();
  await scene.start();
  await scene.run(scene.films.put("a", 1));
  const pinned = await scene.run(scene.films.snapshot());
  await scene.run(scene.films.put("a", 2));
  // Less than anybody may keep: as if clocks were hours apart.
  await scene.trim(new KeepPolicy(undefined, 0, 0) as unknown as Keep);
  await expect(scene.run(collected(pinned))).rejects.toMatchObject({ code: "snapshot_expired" });
  scene.kill();
});
