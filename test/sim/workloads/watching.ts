/**
 * Watching: who watches the actors of a type (`changes`) ends up with what they are. Actors count, begin anew, come and
 * go; each client has several watches, with a filter and without, also such that are ended and go on behind their mark.
 * No actor goes back in what one watch is told of it, and when all is at rest each watch knows the last of every actor.
 * Run by its name only.
 */
import { assign, setup } from "xstate";
import type { ChangedActor, ChangesQuery } from "../../../runtime/client/changes.ts";
import type { Client } from "../../../runtime/client/client.ts";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

const machine = setup({
  types: { context: {} as { count: number }, events: {} as { type: "add" } | { type: "reset" } },
}).createMachine({
  context: { count: 0 },
  on: {
    add: { actions: assign({ count: ({ context }) => context.count + 1 }) },
    reset: { actions: assign({ count: 0 }) },
  },
});

const watched = defineActor({ type: "simWatched", machine, index: ["count"] });

type Filter = Pick<ChangesQuery, "where" | "from" | "to">;
const filters: readonly Filter[] = [{}, {}, { where: { count: { gte: 2 } } }, { from: "c2", to: "p" }];

/** As long as a question is held, and its answer may be lost, twice over. */
const LEARNS_MS = 100_000;

/** What one watch was told. */
class Watcher {
  readonly known = new Map<string, number>();
  /** Found before what was behind a mark was forgotten, and not since: they may have gone unseen. */
  readonly doubtful = new Set<string>();
  readonly #client: Client;
  readonly #filter: Filter;
  readonly #violations: string[];
  #mark: string | undefined;
  #stop = new AbortController();

  constructor(client: Client, filter: Filter, violations: string[]) {
    this.#client = client;
    this.#filter = filter;
    this.#violations = violations;
  }

  begin(): void {
    const stop = new AbortController();
    this.#stop = stop;
    this.#follow(stop.signal).catch((error: unknown) => this.#violations.push(`a watch ended: ${error}`));
  }

  end(): void {
    this.#stop.abort();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const onMark = (mark: string): void => {
      if (!signal.aborted) this.#mark = mark;
    };
    const onReset = (): void => {
      for (const key of this.known.keys()) this.doubtful.add(key);
    };
    const query: ChangesQuery = { ...this.#filter, signal, since: this.#mark, onMark, onReset };
    // Without a mark nothing that was told before is told to be gone.
    if (this.#mark === undefined) onReset();
    for await (const change of this.#client.changes(watched, query)) {
      if (signal.aborted) return;
      this.#take(change);
    }
  }

  #take({ key, actor }: ChangedActor): void {
    const before = this.known.get(key);
    this.doubtful.delete(key);
    if (actor === undefined) this.known.delete(key);
    else this.known.set(key, actor.turn);
    // Those that come and go begin anew.
    if (key.startsWith("c") && actor !== undefined && before !== undefined && actor.turn < before)
      this.#violations.push(`${key} was told at turn ${actor.turn} after turn ${before}`);
  }

  /** Where what is known is not what there is; undefined if it is. */
  async differs(observer: Client): Promise<string | undefined> {
    const turns = new Map<string, number>();
    for await (const { key, turn } of observer.find(watched, { ...this.#filter, timeout_ms: 20_000 }))
      turns.set(key, turn);
    for (const [key, turn] of turns)
      if (this.known.get(key) !== turn) return `${key} is at turn ${turn}, known is ${this.known.get(key)}`;
    for (const key of this.known.keys())
      if (!turns.has(key) && !this.doubtful.has(key)) return `${key} is not there, but known`;
    return undefined;
  }
}

export const watchingWorkload: Workload = {
  name: "watching",
  actors: [watched],
  begin(context) {
    const { random, clients } = context;
    const violations: string[] = [];
    const clientOf = (at: number): Client => clients[at % clients.length] as Client;
    const keys = Array.from({ length: random.whole(1, 6) }, (_, at) => `c${at}`);
    const watchers = Array.from(
      { length: random.whole(2, 6) },
      (_, at) => new Watcher(clientOf(at), random.pick(filters), violations),
    );

    const write = (at: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const options = { timeout_ms: context.timeout_ms() };
        if (random.chance(0.3)) {
          const ref = clientOf(at).actor(watched, `p${random.whole(0, 3)}`);
          await resultOf(random.chance(0.5) ? ref.send({ type: "add" }, options) : ref.delete(options));
        } else {
          const type = random.chance(0.2) ? "reset" : "add";
          await resultOf(clientOf(at).actor(watched, random.pick(keys)).send({ type }, options));
        }
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };

    const watch = (watcher: Watcher) => async (): Promise<void> => {
      await context.sleep(random.logarithmic(0.1, 300));
      watcher.begin();
      const ends = random.chance(0.5);
      while (ends && !context.ending) {
        await context.sleep(random.logarithmic(1, 2_000));
        watcher.end();
        await context.sleep(random.logarithmic(0.1, 300));
        watcher.begin();
      }
    };
    return {
      processes: [
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => write(at)),
        ...watchers.map((watcher) => watch(watcher)),
      ],
      async finish() {
        const until = context.now() + LEARNS_MS;
        for (const watcher of watchers) {
          let difference: string | undefined;
          while (true) {
            difference = await insist(context, () => watcher.differs(context.observer));
            if (difference === undefined || context.now() >= until) break;
            await context.sleep(500);
          }
          if (difference !== undefined) violations.push(difference);
          watcher.end();
        }
      },
      check: () => violations,
    };
  },
};
