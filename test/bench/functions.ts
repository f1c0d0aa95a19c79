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

const ROUNDS = 9;

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
    const round_s = Math.max(0.2, seconds / ROUNDS);
    for (const load of [machines, facade, machines, facade]) await closedLoop(inFlight, round_s, load.next);
    const ratios: number[] = [];
    const total = { machine: [0, 0], facade: [0, 0] } as const satisfies Record<string, [number, number]>;
    const run = async (what: keyof typeof total): Promise<number> => {
      const load = what === "machine" ? machines : facade;
      const before = process.cpuUsage();
      const { per_s, count } = await closedLoop(inFlight, round_s, load.next);
      const { user, system } = process.cpuUsage(before);
      total[what][0] += count;
      total[what][1] += user + system;
      return per_s;
    };
    const rates = { machine: 0, facade: 0 };
    for (let n = 0; n < ROUNDS; n++) {
      // Whichever is second inherits the garbage of the other.
      const order = n % 2 === 0 ? (["machine", "facade"] as const) : (["facade", "machine"] as const);
      const now = { machine: 0, facade: 0 };
      for (const what of order) now[what] = await run(what);
      rates.machine += now.machine / ROUNDS;
      rates.facade += now.facade / ROUNDS;
      ratios.push(now.facade / now.machine);
    }
    ratios.sort((a, b) => a - b);
    const cpuOf = ([count, us]: readonly [number, number]): number => us / count;
    print({
      name: "functions",
      store: options.store,
      in_flight: inFlight,
      keys,
      per_s: Math.round(rates.facade),
      machine_per_s: Math.round(rates.machine),
      ratio: round(ratios[Math.floor(ROUNDS / 2)] as number, 3),
      ratio_to: "machine",
      // What others do on the machine disturbs it less.
      cpu_us: round(cpuOf(total.facade), 1),
      machine_cpu_us: round(cpuOf(total.machine), 1),
      cpu_ratio: round(cpuOf(total.facade) / cpuOf(total.machine), 3),
    });
  } finally {
    await node.stop();
    rmSync(path, { recursive: true, force: true });
  }
}
