/**
 * The actors of the chaos run and of the end-to-end tests, as a user writes them: `keyturn start --actors` loads this.
 *
 * Counters are the ready-made ones.
 */
import { defineActor, reply, tell } from "keyturn";
import { assign, raise, setup } from "xstate";

export { counter } from "keyturn/actors";

type RegisterEvent =
  | { type: "read" }
  | { type: "write"; value: number }
  | { type: "swap"; expected: number; value: number };

/** One value, 0 at first. */
export const register = defineActor({
  type: "register",
  machine: setup({
    types: { context: {} as { value: number }, events: {} as RegisterEvent },
  }).createMachine({
    context: { value: 0 },
    on: {
      read: { actions: reply(({ context }) => context.value) },
      write: { actions: [assign({ value: ({ event }) => event.value }), reply(true)] },
      swap: [
        {
          guard: ({ context, event }) => context.value === event.expected,
          actions: [assign({ value: ({ event }) => event.value }), reply(true)],
        },
        { actions: reply(false) },
      ],
    },
  }),
  types: {} as { replies: { read: number; write: boolean; swap: boolean } },
});

export interface Entry {
  readonly sender: string;
  readonly sequence: number;
}

/** A list that only grows. */
export const list = defineActor({
  type: "list",
  machine: setup({
    types: { context: {} as { entries: readonly Entry[] }, events: {} as Entry & { type: "append" } },
  }).createMachine({
    context: { entries: [] },
    on: {
      append: {
        actions: assign({
          entries: ({ context, event: { sender, sequence } }) => [...context.entries, { sender, sequence }],
        }),
      },
    },
  }),
});

type AccountEvent =
  | { type: "transfer"; to: string; amount: number; over: readonly string[] }
  | { type: "deposit"; to: string; amount: number; over: readonly string[] };

export const ACCOUNT_START = 1_000;

/** An account. Money is told to another, over others that pass it on, so that one message causes the next. */
export const account = defineActor({
  type: "account",
  machine: setup({
    types: {
      context: {} as { balance: number; key: string },
      events: {} as AccountEvent,
      input: {} as { key: string },
    },
    actions: {
      passOn: tell(
        ({ event }: { event: AccountEvent }) => `account/${event.over[0] ?? event.to}`,
        ({ event: { to, amount, over } }) => ({ type: "deposit", to, amount, over: over.slice(1) }),
      ),
    },
  }).createMachine({
    context: ({ input }) => ({ balance: ACCOUNT_START, key: input.key }),
    on: {
      transfer: {
        guard: ({ context, event }) => context.balance >= event.amount,
        actions: [assign({ balance: ({ context, event }) => context.balance - event.amount }), "passOn"],
      },
      deposit: [
        {
          guard: ({ context, event }) => event.to === context.key && event.over.length === 0,
          actions: assign({ balance: ({ context, event }) => context.balance + event.amount }),
        },
        { actions: "passOn" },
      ],
    },
  }),
});

export interface Rung {
  readonly name: string;
  /** By the clock of the node. */
  readonly at: number;
}

type AlarmEvent = { type: "set"; name: string; delay: number } | { type: "ring"; name: string };

/** Rings once for each alarm that was set. */
export const alarm = defineActor({
  type: "alarm",
  machine: setup({
    types: { context: {} as { rung: readonly Rung[] }, events: {} as AlarmEvent },
  }).createMachine({
    context: { rung: [] },
    on: {
      set: {
        actions: raise(({ event }) => ({ type: "ring" as const, name: event.name }), {
          delay: ({ event }) => event.delay,
        }),
      },
      ring: {
        actions: assign({
          rung: ({ context, event }) => [...context.rung, { name: event.name, at: Date.now() }],
        }),
      },
    },
  }),
});
