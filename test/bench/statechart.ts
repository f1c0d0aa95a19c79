/**
 * What a whole statechart costs: three nested levels, two parallel regions, guards and an `after` that is set and
 * cancelled, beside plain `actor.send` of the same machine; and what it costs to bring a cold actor back.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assign, createActor, setup } from "xstate";
import { defineActor, type KeyturnNode, nats, reply, startNode } from "../../runtime/index.ts";
import { startServer } from "../support/nats-server.ts";
import { type BenchOptions, closedLoop, type Operation, openStore, type Print, round } from "./harness.ts";

const machine = setup({
  types: { context: {} as { n: number }, events: {} as { type: "step" } | { type: "stop" } },
  guards: { even: ({ context }) => context.n % 2 === 0, eighth: ({ context }) => context.n % 8 === 7 },
}).createMachine({
  id: "crane",
  type: "parallel",
  context: { n: 0 },
  states: {
    drive: {
      initial: "on",
      states: {
        on: {
          initial: "slow",
          states: {
            slow: {
              initial: "left",
              states: {
                left: { on: { step: { guard: "even", target: "right" } } },
                right: { on: { step: { guard: "even", target: "left" } } },
              },
            },
            fast: { on: { step: "slow" } },
          },
          // Set and cancelled whenever the drive is turned on anew.
          after: { 600000: "off" },
          on: { step: { guard: "eighth", target: "on", reenter: true } },
        },
        off: { on: { step: "on" } },
      },
    },
    lift: {
      initial: "working",
      states: {
        working: {
          initial: "counting",
          states: {
            counting: {
              on: {
                step: {
                  actions: [assign({ n: ({ context }) => context.n + 1 }), reply(({ context }) => context.n)],
                },
              },
            },
          },
        },
      },
    },
  },
});

const crane = defineActor({ type: "crane", machine, types: {} as { replies: { step: number } } });

function bareSteps(milliseconds = 500): number {
  const actor = createActor(machine).start();
  const run = (duration: number): number => {
    const start = performance.now();
    let count = 0;
    while (performance.now() - start < duration) {
      for (let n = 0; n < 500; n++) actor.send({ type: "step" });
      count += 500;
    }
    return (count / (performance.now() - start)) * 1000;
  };
  run(milliseconds / 2);
  const rate = run(milliseconds);
  if (actor.getSnapshot().context.n % 500 !== 0) throw new Error("The bare actor counted wrongly.");
  actor.stop();
  return Math.round(rate);
}

interface StepRef {
  ask(event: { type: "step" }): Promise<number>;
}

class Steps {
  readonly #counts: number[];
  readonly #refs: StepRef[];
  #at = 0;

  constructor(node: KeyturnNode, keys: number) {
    this.#counts = new Array<number>(keys).fill(0);
    this.#refs = this.#counts.map((_, key) => node.client.actor(crane, `k${key}`));
  }

  readonly next = (): Operation => {
    // Far apart and never the same order twice: a prime number of keys on.
    this.#at = (this.#at + 7_919) % this.#counts.length;
    const key = this.#at;
    const expected = (this.#counts[key] as number) + 1;
    this.#counts[key] = expected;
    return { answer: (this.#refs[key] as StepRef).ask({ type: "step" }), expected };
  };
}

/** What it costs over NATS to bring a cold actor back: a read of one that is not in memory beside a read of one that is. */
export async function natsRestore(options: BenchOptions, print: Print): Promise<void> {
  const { keys = 4_000, durability } = options;
  const server = await startServer({ durability });
  const open = (): Promise<KeyturnNode> =>
    startNode({ actors: [crane], store: nats({ servers: server.url }), name: "restore" });
  let node = await open();
  try {
    const names = Array.from({ length: keys }, (_, key) => `k${key}`);
    await Promise.all(names.map((key) => node.client.actor(crane, key).ask({ type: "step" })));
    await node.stop();
    node = await open();
    const read = async (some: readonly string[]): Promise<number[]> => {
      const times: number[] = [];
      for (const key of some) {
        const start = performance.now();
        const { context } = await node.client.actor(crane, key).get();
        times.push(performance.now() - start);
        if (context.n !== 1) throw new Error(`crane/${key} holds ${context.n}, it must be 1.`);
      }
      return times.sort((a, b) => a - b);
    };
    const half = names.slice(0, keys / 2);
    const cold = await read(half);
    const warm = await read(half);
    const start = performance.now();
    await Promise.all(names.slice(keys / 2).map((key) => node.client.actor(crane, key).get()));
    const together_us = ((performance.now() - start) * 1000) / (keys / 2);
    const at = (times: readonly number[], share: number): number =>
      round(times[Math.floor(times.length * share)] ?? 0, 3);
    print({
      name: "restore",
      store: "nats",
      durability,
      keys,
      cold_p50_ms: at(cold, 0.5),
      warm_p50_ms: at(warm, 0.5),
      restore_p50_ms: round(at(cold, 0.5) - at(warm, 0.5), 3),
      restore_p90_ms: round(at(cold, 0.9) - at(warm, 0.9), 3),
      together_us: round(together_us, 1),
    });
  } finally {
    await node.stop();
    await server.stop();
  }
}

export async function statechart(options: BenchOptions, print: Print): Promise<void> {
  const { inFlight = 1_024, keys = 1_000, seconds } = options;
  const path = mkdtempSync(join(tmpdir(), "keyturn-bench-"));
  const node = await startNode({ actors: [crane], store: openStore(options, path) });
  try {
    const steps = new Steps(node, keys);
    await closedLoop(inFlight, seconds / 2, steps.next);
    const before = bareSteps();
    const { per_s, p50_ms, p99_ms } = await closedLoop(inFlight, seconds, steps.next);
    const bare_per_s = Math.round((before + bareSteps()) / 2);
    print({
      name: "statechart",
      store: options.store,
      in_flight: inFlight,
      keys,
      per_s,
      p50_ms,
      p99_ms,
      bare_per_s,
      ratio: round(per_s / bare_per_s, 3),
      ratio_to: "bare",
    });
  } finally {
    await node.stop();
    rmSync(path, { recursive: true, force: true });
  }
}
