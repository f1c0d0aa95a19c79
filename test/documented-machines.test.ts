/**
 * Machines of the kinds that XState's documentation shows, written for XState alone: they run here unchanged, and mean
 * what they mean on a plain XState actor, with a crash or a restart between any two events.
 */
import {
  type AnyStateMachine,
  assign,
  createActor,
  createMachine,
  type EventObject,
  fromPromise,
  SimulatedClock,
  setup,
} from "xstate";
import { describe, expect, it } from "vitest";
import { defineActor, type KeyturnNode, memory, startNode } from "../runtime/index.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

/** An event, or time that passes, in milliseconds. */
type Step = Happening | number;

type Happening = EventObject & { readonly [name: string]: unknown };

interface State {
  readonly value: unknown;
  readonly context: unknown;
  readonly status: string;
  readonly output: unknown;
  readonly tags: readonly string[];
}

const SHARDS = 4;
/** A node that is dead is missed soon: its delays end late by no more than that. */
const settings = { lease_ms: 60, heartbeat_ms: 20 };
/** Time passes on the plain actor in such pieces, so that promises settle where they do. */
const PIECE_MS = 10;

/** Rounds of the event loop in which promises that need no time are settled. */
async function settle(): Promise<void> {
  for (let n = 0; n < 4; n++) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** A plain XState actor, kept at the time of a world. */
class Plain {
  readonly #world: VirtualWorld;
  readonly #clock = new SimulatedClock();
  readonly #actor;
  #at: number;

  constructor(machine: AnyStateMachine, world: VirtualWorld) {
    this.#world = world;
    this.#at = world.monotonic();
    this.#actor = createActor(machine, { clock: this.#clock, input: { type: "machine", key: "k" } }).start();
  }

  async send(event: Happening): Promise<void> {
    await this.keepUp();
    this.#actor.send(event);
    await settle();
  }

  async keepUp(): Promise<void> {
    await settle();
    while (this.#at < this.#world.monotonic()) {
      const piece = Math.min(PIECE_MS, this.#world.monotonic() - this.#at);
      this.#at += piece;
      this.#clock.increment(piece);
      await settle();
    }
  }

  get state(): State {
    const { value, context, status, output, tags } = this.#actor.getSnapshot();
    return { value, context: structuredClone(context), status, output, tags: [...tags] };
  }
}

type Disturb = "not at all" | "killed" | "stopped";

/** Plays steps on Keyturn and beside it on a plain actor; both must be in the same states. Returns their values. */
async function play(machine: AnyStateMachine, steps: readonly Step[], disturb: Disturb): Promise<unknown[]> {
  const world = new VirtualWorld();
  const store = memory();
  const actor = defineActor({ type: "machine", machine });
  const begin = (life: number): Promise<KeyturnNode> =>
    world.run(startNode({ actors: [actor], world, store, settings, shards: SHARDS, name: `n${life}` }));
  let node = await begin(0);
  const plain = new Plain(machine, world);
  const values: unknown[] = [];
  for (const [at, step] of steps.entries()) {
    if (typeof step === "number") await world.advance(step);
    else {
      // A delay that ends now is over on both sides before the event.
      await plain.send(step);
      await world.run(node.client.actor(actor, "k").send(step));
    }
    // Right away, before what the event has begun comes to anything.
    if (disturb !== "not at all") {
      if (disturb === "killed") node.kill();
      else await world.run(node.stop({ closeStore: false }));
      node = await begin(at + 1);
      for (let tries = 0; node.shards.length < SHARDS && tries < 100; tries++) await world.advance(10);
    }
    await world.settle();
    await plain.keepUp();
    const { value, context, status, output, tags } = await world.run(node.client.actor(actor, "k").get());
    await plain.keepUp();
    const state: State = { value, context, status, output, tags: tags ?? [] };
    expect(state, `after step ${at}, ${JSON.stringify(step)}`).toEqual(plain.state);
    values.push(value);
  }
  await world.run(node.stop());
  return values;
}

const go = (...types: readonly (string | number)[]): Step[] =>
  types.map((type) => (typeof type === "number" ? type : { type }));

/** Signs in with two promises, one after the other, and locks after three wrong passwords. */
const auth = setup({
  types: {
    context: {} as { tries: number; user: { name: string } | null; why: string | null },
    events: {} as { type: "SIGN_IN"; name: string; password: string } | { type: "SIGN_OUT" },
    tags: {} as "busy",
  },
  actors: {
    check: fromPromise(async ({ input }: { input: { name: string; password: string } }) => {
      if (input.password !== "open sesame") throw new Error("wrong password");
      return { token: `token of ${input.name}` };
    }),
    loadUser: fromPromise(async ({ input }: { input: { token: string } }) => ({
      name: input.token.slice("token of ".length),
    })),
  },
  guards: { isLast: ({ context }) => context.tries >= 2 },
  delays: { lockout: 30_000 },
}).createMachine({
  id: "auth",
  context: { tries: 0, user: null, why: null },
  initial: "signedOut",
  states: {
    signedOut: { on: { SIGN_IN: "signingIn" } },
    signingIn: {
      tags: "busy",
      initial: "checking",
      states: {
        checking: {
          invoke: {
            src: "check",
            input: ({ event }) => {
              if (event.type !== "SIGN_IN") return { name: "", password: "" };
              return { name: event.name, password: event.password };
            },
            onDone: "loading",
            onError: [
              {
                guard: "isLast",
                target: "#auth.locked",
                actions: assign({ why: ({ event }) => (event.error as Error).message }),
              },
              {
                target: "#auth.signedOut",
                actions: assign({
                  tries: ({ context }) => context.tries + 1,
                  why: ({ event }) => (event.error as Error).message,
                }),
              },
            ],
          },
        },
        loading: {
          invoke: {
            src: "loadUser",
            input: ({ event }) => (event as unknown as { output: { token: string } }).output,
            onDone: {
              target: "#auth.signedIn",
              actions: assign({ user: ({ event }) => event.output, tries: 0, why: null }),
            },
          },
        },
      },
    },
    signedIn: {
      on: { SIGN_OUT: { target: "signedOut", actions: assign({ user: null }) } },
    },
    locked: { after: { lockout: { target: "signedOut", actions: assign({ tries: 0 }) } } },
  },
});

/** Chooses a method, then pays by a promise that fails for large sums; ends with a receipt. */
const payment = setup({
  types: {
    context: {} as { cents: number; receipt: string | null; refusals: number },
    events: {} as
      | { type: "AMOUNT"; cents: number }
      | { type: "CASH" | "CHECK" | "CARD" | "NEXT" | "BACK" | "PAY" },
    output: {} as { receipt: string | null },
  },
  actors: {
    charge: fromPromise(async ({ input }: { input: { cents: number } }) => {
      if (input.cents > 1_000) throw new Error("not covered");
      return `receipt of ${input.cents}`;
    }),
  },
}).createMachine({
  id: "payment",
  context: { cents: 0, receipt: null, refusals: 0 },
  initial: "method",
  states: {
    method: {
      initial: "cash",
      states: {
        cash: { on: { CHECK: "check", CARD: "card" } },
        check: { on: { CASH: "cash", CARD: "card" } },
        card: { on: { CASH: "cash", CHECK: "check" } },
        last: { type: "history" },
      },
      on: {
        NEXT: "review",
        AMOUNT: { actions: assign({ cents: ({ event }) => event.cents }) },
      },
    },
    review: { on: { BACK: "method.last", PAY: "paying" } },
    paying: {
      initial: "charging",
      states: {
        charging: {
          invoke: {
            src: "charge",
            input: ({ context }) => ({ cents: context.cents }),
            onDone: { target: "charged", actions: assign({ receipt: ({ event }) => event.output }) },
            onError: {
              target: "#payment.review",
              actions: assign({ refusals: ({ context }) => context.refusals + 1 }),
            },
          },
        },
        charged: { type: "final" },
      },
      onDone: "paid",
    },
    paid: { type: "final" },
  },
  output: ({ context }) => ({ receipt: context.receipt }),
});

/** Two bowls are mixed side by side; frying takes time; whoever is called away goes on where they were. */
const donut = createMachine({
  id: "donut",
  context: { donuts: 0 },
  initial: "reading",
  on: { CALL: ".away" },
  states: {
    reading: { on: { NEXT: "making" } },
    making: {
      initial: "mixing",
      onDone: "frying",
      states: {
        mixing: {
          type: "parallel",
          onDone: "kneading",
          states: {
            dry: {
              initial: "busy",
              states: { busy: { on: { DRY_MIXED: "mixed" } }, mixed: { type: "final" } },
            },
            wet: {
              initial: "busy",
              states: { busy: { on: { WET_MIXED: "mixed" } }, mixed: { type: "final" } },
            },
          },
        },
        kneading: { after: { 5000: "dough" } },
        dough: { type: "final" },
        here: { type: "history", history: "deep" },
      },
    },
    away: { on: { BACK: "making.here" } },
    frying: {
      initial: "oneSide",
      states: {
        oneSide: { after: { 3000: "otherSide" } },
        otherSide: { after: { 3000: "#donut.glazing" } },
      },
    },
    glazing: { on: { NEXT: "served" } },
    served: {
      entry: assign({ donuts: ({ context }) => context.donuts + 1 }),
      on: { ANOTHER: "reading" },
    },
  },
});

interface Lift {
  readonly floor: number;
  readonly queue: readonly number[];
}

/** Calls are queued, each floor takes its time, the doors close after a while. */
const elevator = setup({
  types: {
    context: {} as Lift,
    events: {} as { type: "CALL"; floor: number } | { type: "HOLD" },
  },
  guards: {
    isIdle: ({ context }) => context.queue.length === 0,
    isThere: ({ context }) => context.queue[0] === context.floor,
    isNew: ({ context, event }) => event.type === "CALL" && !context.queue.includes(event.floor),
  },
  actions: {
    move: assign({
      floor: ({ context }) => context.floor + Math.sign((context.queue[0] ?? 0) - context.floor),
    }),
    served: assign({ queue: ({ context }) => context.queue.slice(1) }),
  },
  delays: { floorTime: ({ context }) => 1_000 + 500 * context.queue.length, doorTime: 4_000 },
}).createMachine({
  id: "elevator",
  context: { floor: 0, queue: [] },
  initial: "idle",
  on: {
    CALL: {
      guard: "isNew",
      actions: assign({ queue: ({ context, event }) => [...context.queue, event.floor] }),
    },
  },
  states: {
    idle: {
      always: [
        { guard: "isThere", target: "open" },
        { guard: ({ context }) => context.queue.length > 0, target: "moving" },
      ],
    },
    moving: { after: { floorTime: { target: "arriving", actions: "move" } } },
    arriving: { always: [{ guard: "isThere", target: "open" }, { target: "moving" }] },
    open: {
      entry: "served",
      on: { HOLD: { target: "open", reenter: false, actions: [] } },
      initial: "waiting",
      states: {
        waiting: { after: { doorTime: "closing" } },
        closing: { after: { 1000: "closed" } },
        closed: { type: "final" },
      },
      onDone: "idle",
    },
  },
});

/** Lights that change by themselves, with those for pedestrians inside red, and a fault in which all blink. */
const traffic = createMachine({
  id: "traffic",
  initial: "green",
  context: { rounds: 0 },
  on: { POWER_OUT: ".blinking", RESET: ".green" },
  states: {
    green: { after: { 10000: "yellow" }, on: { PUSH: "yellow" } },
    yellow: { after: { 2000: "red" } },
    red: {
      initial: "walk",
      exit: assign({ rounds: ({ context }: { context: { rounds: number } }) => context.rounds + 1 }),
      states: {
        walk: { after: { 4000: "wait" } },
        wait: { after: { 3000: "stop" } },
        stop: { type: "final" },
      },
      onDone: "green",
    },
    blinking: {
      initial: "on",
      states: { on: { after: { 5000: "off" } }, off: { after: { 5000: "on" } } },
    },
  },
});

const signIn = (password: string): Step => ({ type: "SIGN_IN", name: "ada", password });
const call = (floor: number): Step => ({ type: "CALL", floor });

const documented: Record<string, { machine: AnyStateMachine; steps: readonly Step[]; last: unknown }> = {
  auth: {
    machine: auth,
    steps: [
      signIn("xyzzy"),
      signIn("open sesame"),
      ...go("SIGN_OUT"),
      signIn("a"),
      signIn("b"),
      signIn("c"),
      10_000,
      signIn("open sesame"),
      25_000,
      signIn("open sesame"),
    ],
    last: "signedIn",
  },
  payment: {
    machine: payment,
    steps: [
      ...go("CHECK"),
      { type: "AMOUNT", cents: 2_000 } as Step,
      ...go("CARD", "NEXT", "PAY", "BACK"),
      { type: "AMOUNT", cents: 900 } as Step,
      ...go("NEXT", "PAY"),
    ],
    last: "paid",
  },
  "donut making": {
    machine: donut,
    steps: go(
      ...["NEXT", "WET_MIXED", "CALL", "BACK", "DRY_MIXED", 2_000, "CALL", 9_000, "BACK", 6_000],
      ...[1_500, 3_000, 3_000, "NEXT", "ANOTHER", "NEXT", "DRY_MIXED"],
    ),
    last: { making: { mixing: { dry: "mixed", wet: "busy" } } },
  },
  elevator: {
    machine: elevator,
    steps: [call(3), 1_000, call(1), call(3), 3_000, ...go("HOLD"), 4_000, call(0), 30_000, call(0), 2_000],
    last: { open: "waiting" },
  },
  "traffic light": {
    machine: traffic,
    steps: go(
      ...["PUSH", 1_000, 3_000, 4_000, 3_000, 5_000, "PUSH", 4_000, "POWER_OUT", 2_500, 5_000, "RESET"],
      5_000,
      7_500,
    ),
    last: { red: "walk" },
  },
};

describe.each(Object.entries(documented))("%s", (_, { machine, steps, last }) => {
  it.each(["not at all", "stopped", "killed"] as const)("means the same, disturbed: %s", async (disturb) => {
    const values = await play(machine, steps, disturb);
    expect(values.at(-1)).toEqual(last);
  });
});
