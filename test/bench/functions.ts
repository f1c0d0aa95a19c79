/**
 * What the facade of functions costs: the same counter once as a machine and once as a function, beside each other in one
 * node, in turns. (`--keys`, `--in-flight`, `--seconds` as elsewhere.)
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assign, setup } from "xstate";
import { defineFunction, defineState, functions } from "../../runtime/functions/index.ts";
import { defineActor, type KeyturnNode, reply, startNode } from "../../runtime/index.ts";
import { type BenchOptions, closedLoop, type Operation, openStore, type Print, round } from "./harness.ts";

const ROUNDS = 5;

const machine = defineActor({
  type: "machine",
  machine: setup({
    types: {
      context: {} as { counter: number },
      events: {} as { type: "add"; value: number } | { type: "reset" },
    },
  }).createMachine({
    context: { counter: 0 },
    initial: "idle",
    states: {
      idle: {
        on: {
          add: {
            actions: [
              assign({ counter: ({ context, event }) => context.counter + event.value }),
              reply(({ context }) => context.counter),
            ],
          },
          reset: { actions: assign({ counter: 0 }) },
        },
      },
    },
  }),
  types: {} as { replies: { add: number } },
});

const counter = defineState("counter", 0);
const add = defineFunction("add", { counter }, (event: { value: number }, { counter: n }) => {
  const next = n + event.value;
  return { state: { counter: next }, result: next };
});

type Ask = (key: number) => Promise<number>;

/** Adds one to keys far apart and checks every answer. */
class Adding {
  readonly #counts: number[];
  readonly #ask: Ask;
  #at = 0;

  constructor(keys: number, ask: Ask) {
    this.#counts = new Array<number>(keys).fill(0);
    this.#ask = ask;
  }

  readonly next = (): Operation => {
    this.#at = (this.#at + 7_919) % this.#counts.length;
    const key = this.#at;
    const expected = (this.#counts[key] as number) + 1;
    this.#counts[key] = expected;
    return { answer: this.#ask(key), expected };
  };
}

function loads(node: KeyturnNode, keys: number): { machines: Adding; facade: Adding } {
  const refs = Array.from({ length: keys }, (_, key) => node.client.actor(machine, `k${key}`));
  const names = refs.map(({ key }) => key);
  const app = functions(node.client, add);
  return {
    machines: new Adding(keys, (key) => (refs[key] as (typeof refs)[0]).ask({ type: "add", value: 1 })),
    facade: new Adding(keys, (key) => app.processEvent({ key: names[key] as string, value: 1 })),
  };
}

export async function functionsBench(options: BenchOptions, print: Print): Promise<void> {
  const { inFlight = 1_024, keys = 1_000, seconds } = options;
  const path = mkdtempSync(join(tmpdir(), "keyturn-bench-"));
  const node = await startNode({ actors: [machine, add], store: await openStore(options, path) });
  try {
    const { machines, facade } = loads(node, keys);
    const round_s = Math.max(0.25, seconds / ROUNDS);
    for (const load of [machines, facade, machines, facade]) await closedLoop(inFlight, round_s / 2, load.next);
    const ratios: number[] = [];
    const rates = { machine: 0, facade: 0 };
    for (let n = 0; n < ROUNDS; n++) {
      // Whichever is first has the younger garbage of the other.
      const order = n % 2 === 0 ? ([machines, facade] as const) : ([facade, machines] as const);
      const first = (await closedLoop(inFlight, round_s, order[0].next)).per_s;
      const second = (await closedLoop(inFlight, round_s, order[1].next)).per_s;
      const [machine_per_s, facade_per_s] = n % 2 === 0 ? [first, second] : [second, first];
      rates.machine += machine_per_s / ROUNDS;
      rates.facade += facade_per_s / ROUNDS;
      ratios.push(facade_per_s / machine_per_s);
    }
    ratios.sort((a, b) => a - b);
    print({
      name: "functions",
      store: options.store,
      in_flight: inFlight,
      keys,
      per_s: Math.round(rates.facade),
      machine_per_s: Math.round(rates.machine),
      ratio: round(ratios[Math.floor(ROUNDS / 2)] as number, 3),
      ratio_min: round(ratios[0] as number, 3),
      ratio_max: round(ratios[ROUNDS - 1] as number, 3),
      ratio_to: "machine",
    });
  } finally {
    await node.stop();
    rmSync(path, { recursive: true, force: true });
  }
}
