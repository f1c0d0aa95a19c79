/**
 * What the facade of functions costs: the same counter once as a machine and once as a function, beside each other in one
 * node, in turns; and once more with the work done after the turn, by an invoked promise and by an async function, which
 * let other events wait and answer when it has ended. (`--keys`, `--in-flight`, `--seconds` as elsewhere.)
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assign, fromPromise, setup } from "xstate";
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

interface Pending {
  readonly ticket: number;
  readonly value: number;
}

interface InvokingContext {
  readonly counter: number;
  readonly taken: number;
  readonly done: number;
  readonly running: Pending | undefined;
  readonly queue: readonly Pending[];
}

type Adds = { type: "add"; value: number };

const TIMEOUT_MS = 30_000;
const QUEUED_MAX = 64;

/** What an async function does, as somebody writes it who knows what it is for: one at a time, bounded, with a time-out. */
const invoking = defineActor({
  type: "invoking",
  machine: setup({
    types: { context: {} as InvokingContext, events: {} as Adds },
    actors: {
      add: fromPromise<number, { counter: number; value: number }>(
        async ({ input }) => input.counter + input.value,
      ),
    },
    actions: {
      take: assign(({ context, event }) => {
        const pending = { ticket: context.taken + 1, value: (event as Adds).value };
        if (context.running === undefined) return { taken: pending.ticket, running: pending };
        if (context.queue.length >= QUEUED_MAX) throw new Error("too many wait");
        return { taken: pending.ticket, queue: [...context.queue, pending] };
      }),
      next: assign(({ context }) => ({
        done: context.running?.ticket ?? 0,
        running: context.queue[0],
        queue: context.queue.slice(1),
      })),
    },
    guards: { waits: ({ context }) => context.queue.length > 0 },
  }).createMachine({
    context: { counter: 0, taken: 0, done: 0, running: undefined, queue: [] },
    initial: "idle",
    states: {
      idle: {
        on: { add: { target: "busy", actions: ["take", reply(({ context }) => context.taken)] } },
      },
      busy: {
        invoke: {
          src: "add",
          input: ({ context }) => ({ counter: context.counter, value: context.running?.value ?? 0 }),
          onDone: [
            {
              guard: "waits",
              target: "busy",
              reenter: true,
              actions: [assign({ counter: ({ event }) => event.output }), "next"],
            },
            { target: "idle", actions: [assign({ counter: ({ event }) => event.output }), "next"] },
          ],
          onError: { target: "idle", actions: "next" },
        },
        after: { [TIMEOUT_MS]: { target: "idle", actions: "next" } },
        on: { add: { actions: ["take", reply(({ context }) => context.taken)] } },
      },
    },
  }),
  types: {} as { replies: { add: number } },
});

const addLater = defineFunction(
  "addLater",
  { counter: defineState("counter", 0) },
  async (event: { value: number }, { counter: n }) => ({
    state: { counter: n + event.value },
    result: n + event.value,
  }),
);

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

interface Loads {
  readonly machine: Adding;
  readonly facade: Adding;
}

function within(node: KeyturnNode, keys: number): Loads {
  const refs = Array.from({ length: keys }, (_, key) => node.client.actor(machine, `k${key}`));
  const names = refs.map(({ key }) => key);
  const app = functions(node.client, add);
  return {
    machine: new Adding(keys, (key) => (refs[key] as (typeof refs)[0]).ask({ type: "add", value: 1 })),
    facade: new Adding(keys, (key) => app.processEvent({ key: names[key] as string, value: 1 })),
  };
}

/** Of every key at most one event at a time, so that the counters are what they are expected to be. */
function afterwards(node: KeyturnNode, keys: number): Loads {
  const refs = Array.from({ length: keys }, (_, key) => node.client.actor(invoking, `k${key}`));
  const names = refs.map(({ key }) => key);
  const app = functions(node.client, addLater);
  const ask = async (key: number): Promise<number> => {
    const ref = refs[key] as (typeof refs)[0];
    const ticket = await ref.ask({ type: "add", value: 1 });
    for await (const { context } of ref.watch()) if (context.done >= ticket) return context.counter;
    throw new Error("The watch has ended.");
  };
  return {
    machine: new Adding(keys, ask),
    facade: new Adding(keys, (key) => app.processEvent({ key: names[key] as string, value: 1 })),
  };
}

export async function functionsBench(options: BenchOptions, print: Print): Promise<void> {
  const { inFlight = 1_024, keys = 1_000 } = options;
  await beside("functions", within, { ...options, inFlight, keys }, print);
}

export async function asyncFunctionsBench(options: BenchOptions, print: Print): Promise<void> {
  const { inFlight = 256, keys = 4_096 } = options;
  if (inFlight >= keys) throw new RangeError("More keys than events in flight, so that none waits.");
  await beside("async functions", afterwards, { ...options, inFlight, keys }, print);
}

async function beside(
  name: string,
  loads: (node: KeyturnNode, keys: number) => Loads,
  options: BenchOptions & { readonly inFlight: number; readonly keys: number },
  print: Print,
): Promise<void> {
  const { inFlight, keys, seconds } = options;
  const path = mkdtempSync(join(tmpdir(), "keyturn-bench-"));
  const actors = [machine, add, invoking, addLater];
  const node = await startNode({ actors, store: await openStore(options, path) });
  try {
    const { machine: machines, facade } = loads(node, keys);
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
      name,
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
