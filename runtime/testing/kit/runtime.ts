/**
 * A runtime in memory for tests: real nodes, a real store's rules, virtual time, and the failures of a real world at the
 * call of a method.
 *
 * Owns what a test can do to it. Talks to its world (world.ts), which is a cluster of the simulator.
 *
 * Invariants:
 * 1. Calls that change the world run one after the other, in the order in which they were called.
 * 2. Each resolves when everything that follows from it is done and nothing is under way any more.
 */
import type { Client } from "../../client/client.ts";
import { type AnyActorDefinition, registryOf } from "../../engine/definition.ts";
import type { DeadLetter } from "../../ports/index.ts";
import { type Duration, durationOf } from "../../words/duration.ts";
import { KeyturnError } from "../../words/errors.ts";
import type { NodeSettings } from "../../words/limits.ts";
import type { Site } from "../simulator/cluster.ts";
import { TestFailure } from "./failure.ts";
import { TestWorld } from "./world.ts";

export interface TestRuntimeOptions {
  /** What the nodes host. */
  readonly actors: readonly AnyActorDefinition[];
  /** Decides what is drawn: names, and how long frames and store operations take. 1 by default. */
  readonly seed?: number;
  /** Nodes that share the actors; 1 by default, at most 16. */
  readonly nodes?: number;
  /** Shards of the app; 8 by default, at most 256. */
  readonly shards?: number;
  /** What the clock shows at the beginning, milliseconds since the epoch or a Date; 2030-01-01T00:00Z by default. */
  readonly at?: number | Date;
  /** Bounds of a node that differ from `nodeDefaults`. */
  readonly settings?: Partial<NodeSettings>;
}

/** A timer that stands in an actor's state. */
export interface PendingTimer {
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly due: number;
  /** Milliseconds from now. */
  readonly in_ms: number;
  readonly event: { readonly type: string };
}

/** What `timers` and `failover` need of a reference. */
export interface Addressed {
  readonly id: string;
  readonly shard: number;
  get(): Promise<unknown>;
}

const NODES_MAX = 16;
const SHARDS_MAX = 256;
const LETTERS_MAX = 10_000;
/** Time of the runtime's own that an advance lets pass at its end: some heartbeats. */
const BACKGROUND_MS = 5_000;

/**
 * Starts a runtime in memory with virtual time, for any test runner:
 *
 * ```ts
 * const t = await testRuntime({ actors: [order] });
 * await t.client.actor(order, "42").ask({ type: "place", cents: 500 });
 * await t.crash();
 * await t.advance("3 days");
 * expect((await t.client.actor(order, "42").get()).value).toBe("cancelled");
 * await t.stop();
 * ```
 *
 * Calls of the client are simply awaited: whatever they need happens by itself, in no real time. What machines see as
 * time stands still; only `advance` moves it, and timers fire at exactly the time for which they were set. Nothing is
 * read from the real clock, no real timer is set, and fake timers of a test runner are not in the way.
 *
 * The runtime's own waiting (deadlines of calls, repetitions, heartbeats, checkpoints) runs on another clock, which goes on
 * by itself while something is under way: so a call that is never answered still ends with `timeout`, and `now()` is as
 * before. What custom actions do in the real world (a request over the network, a promise) takes its real time, and
 * nothing here waits for it. Promises that actors invoke are waited for, in real time; both clocks stand still meanwhile.
 *
 * @throws KeyturnError `invalid_options`
 */
export async function testRuntime(options: TestRuntimeOptions): Promise<TestRuntime> {
  if (typeof options !== "object" || options === null)
    throw new KeyturnError("invalid_options", "testRuntime takes { actors: [order] }.");
  const { actors, seed = 1, nodes = 1, shards = 8, at = Date.UTC(2030, 0, 1), settings = {} } = options;
  checkActors(actors);
  checkWhole("The seed", seed, 0, Number.MAX_SAFE_INTEGER);
  checkWhole("The number of nodes", nodes, 1, NODES_MAX);
  checkWhole("The number of shards", shards, 1, SHARDS_MAX);
  const wall_ms = at instanceof Date ? at.getTime() : at;
  checkWhole("The time to begin at", wall_ms, 0, 8.64e15);
  const world = new TestWorld({ actors, seed, nodes, shards, wall_ms, settings });
  try {
    await world.started();
  } catch (error) {
    world.driver.end();
    throw error;
  }
  return new TestRuntime(world);
}

/** Nodes in memory and in virtual time, for one test. Made by `testRuntime(options)`. */
export class TestRuntime {
  /** Reaches every actor; goes through all crashes. */
  readonly client: Client;
  readonly #world: TestWorld;
  /** The last call that changes the world. */
  #last: Promise<unknown> = Promise.resolve();
  #stopped = false;

  /** @internal */
  constructor(world: TestWorld) {
    this.#world = world;
    this.client = world.client;
  }

  /** What the clocks show: milliseconds since the epoch. Moves by `advance` only. */
  now(): number {
    return this.#world.wall_ms;
  }

  /**
   * Things that went wrong and that no caller is told of: a custom action that threw after its turn was committed, a
   * shard that was stopped. A healthy test ends with none.
   */
  get reports(): readonly string[] {
    return this.#world.reports;
  }

  /**
   * Lets time pass: `"3 days"`, `"1h 30m"`, or milliseconds. All timers that come due meanwhile fire, in order, each at
   * its own time, with everything that follows from it; also those that are set meanwhile.
   * @throws KeyturnError `invalid_options`; TestFailure if the actors do not come to rest at some moment
   */
  advance(duration: Duration): Promise<void> {
    return this.#next(async () => {
      const end = this.now() + durationOf(duration, "The time to advance by");
      const world = this.#world;
      await world.driver.rest();
      for (let due = await world.nextDue(); due !== undefined && due <= end; due = await world.nextDue())
        await world.moveTo(due);
      await world.moveTo(end);
      const { timeline } = world;
      const until = timeline.now + Math.min(durationOf(duration), BACKGROUND_MS);
      await world.driver.until(() => timeline.now >= until);
      await world.driver.rest();
    });
  }

  /** Waits until nothing is under way: all told messages are delivered, everything due is done. No time passes. */
  settle(): Promise<void> {
    return this.#next(() => this.#world.driver.rest());
  }

  /**
   * A power loss: all nodes die at this moment and the store loses what it had not flushed. Then they start again, under
   * the same names, and recover. What was answered is there; requests on their way are repeated by the client. No time
   * passes for the actors.
   */
  crash(): Promise<void> {
    return this.#next(async () => {
      const world = this.#world;
      const sites = world.sitesUp;
      world.disk.crash(0);
      await world.kill(sites);
      for (const site of sites) world.cluster.start(site);
      await world.started();
    });
  }

  /**
   * No node runs for so long: as `crash` when everything is at rest, but the clock goes on before they start again. Timers that fell due meanwhile fire late, or what their type's `delays` says.
   * @throws KeyturnError `invalid_options`
   */
  downtime(duration: Duration): Promise<void> {
    return this.#next(async () => {
      const length_ms = durationOf(duration, "The downtime");
      const world = this.#world;
      await world.driver.rest();
      const sites = world.sitesUp;
      world.disk.crash(0);
      await world.kill(sites);
      world.wall_ms += length_ms;
      for (const site of sites) world.cluster.start(site);
      await world.started();
      await world.driver.rest();
    });
  }

  /**
   * The nodes die, one after the other, and others take over what they had: each actor is served by another node
   * afterwards. With a reference only the node dies that serves this actor. A dead node's place is taken by a new one.
   * The lease that the others would wait for passes on the runtime's own clock: no time passes for the actors.
   */
  failover(ref?: Addressed): Promise<void> {
    return this.#next(async () => {
      const world = this.#world;
      await world.driver.rest();
      const serves = ({ node }: Site): boolean =>
        ref === undefined || node?.shards.includes(ref.shard) === true;
      for (const site of world.sitesUp.filter(serves)) {
        await world.kill([site]);
        if (world.sitesUp.length > 0) await world.driver.rest();
        world.cluster.add();
        await world.started();
      }
    });
  }

  /**
   * Stops the nodes gracefully, one after the other, and starts them again.
   * @param options.actors what they host from now on: a deployment. All by default as before.
   * @throws KeyturnError `invalid_options`
   */
  restart({ actors }: { readonly actors?: readonly AnyActorDefinition[] } = {}): Promise<void> {
    return this.#next(async () => {
      const world = this.#world;
      if (actors !== undefined) {
        checkActors(actors);
        world.actors = actors;
      }
      await world.driver.rest();
      for (const site of world.sitesUp) {
        world.cluster.stop(site);
        await world.driver.until(() => site.state === "down");
        world.cluster.start(site);
        await world.started();
      }
    });
  }

  /**
   * From now on the network delivers every frame several times, some late and out of order, and repeats every write to
   * the store. Everything must still happen exactly once. `false` ends it.
   */
  deliveredTwice(on = true): void {
    this.#world.repeats = on;
  }

  /** Messages that were refused for good and had nobody waiting for the error, oldest first. */
  deadLetters(): Promise<readonly DeadLetter[]> {
    return this.#next(async () => {
      await this.#world.driver.rest();
      return this.#world.disk.memory.deadLetters.list(LETTERS_MAX);
    });
  }

  /** The timers that stand in an actor's state, earliest first. */
  timers(ref: Addressed): Promise<readonly PendingTimer[]> {
    return this.#next(async () => {
      await this.#world.driver.rest();
      // It may have left memory.
      await ref.get();
      const found = this.#world.sitesUp
        .map(({ node }) => node?.incarnation.engine.actors.get(ref.id)?.committed.timers)
        .find((timers) => timers !== undefined);
      return (found ?? [])
        .map(({ id, due, event }) => ({ id, due, in_ms: due - this.now(), event }))
        .sort((a, b) => a.due - b.due);
    });
  }

  /** @internal Lets so many events of the virtual world happen, whatever is under way. */
  pass(events: number): Promise<void> {
    const { timeline, driver } = this.#world;
    const until = timeline.count + events;
    return driver.until(() => timeline.count >= until);
  }

  /** Ends it. Calls without an answer are rejected with `client_closed`. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.client.close();
    this.#world.driver.end();
    for (const site of this.#world.cluster.sites) this.#world.cluster.crash(site);
  }

  /** Runs after all that was called before. */
  #next<T>(run: () => Promise<T>): Promise<T> {
    const next = this.#last.then(() => {
      if (this.#stopped) throw new TestFailure("This test runtime was stopped. Start another one.");
      return run();
    });
    this.#last = next.catch(() => undefined);
    return next;
  }
}

function checkActors(actors: unknown): void {
  if (!Array.isArray(actors)) {
    throw new KeyturnError(
      "invalid_options",
      "Say what the test runtime hosts: testRuntime({ actors: [order] }).",
    );
  }
  registryOf(actors as readonly AnyActorDefinition[]);
}

/** Refuses what is not a whole number within bounds. */
export function checkWhole(name: string, value: unknown, low: number, high: number): void {
  if (Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high) return;
  throw new KeyturnError(
    "invalid_options",
    `${name} is ${String(value)}; it is a whole number from ${low} to ${high}.`,
  );
}
