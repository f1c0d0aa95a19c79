/**
 * The machine of a function type.
 *
 * One state while nothing runs outside (`idle`), one for each async function while it does, and two in which it is decided
 * what comes next. Owns the shape; what events do is decided by the book. XState is used by its public interface: this is
 * a machine that a user could have written.
 */
import { type AnyStateMachine, assign, createMachine, fromPromise } from "xstate";
import { type Machine, perform } from "../engine/machine.ts";
import type { Book, Context, Patch } from "./book.ts";
import { CALL, DRAIN, EXPIRE, KEY, LATER, REFUSED, SET, UPDATE } from "./events.ts";
import type { FunctionSpec, WorkOrder } from "./function.ts";
import type { Outcome } from "./invocation.ts";

interface Args {
  readonly context: Context;
  // biome-ignore lint/suspicious/noExplicitAny: events of users, and of XState with output or error
  readonly event: any;
}

type Turn = (args: Args) => Patch;

interface Given {
  readonly input: Omit<WorkOrder, "home" | "idempotencyKey" | "attempt" | "signal">;
}

export function machineOf(book: Book, specs: readonly FunctionSpec[]): Machine {
  /** The book's decision, and what it wants done. */
  const acting = (turn: Turn): unknown[] => [assign(turn as never), perform(book.performance)];
  const take = acting(({ context, event }) => book.take(context, event));
  const begin = acting(({ context, event }) => book.begin(context, event));
  const wait = acting(({ context, event }) => book.wait(context, event));
  const always = {
    [LATER]: { actions: acting(({ event }) => book.later(event)) },
    [EXPIRE]: { actions: acting(({ context }) => book.expire(context)) },
    [REFUSED]: { actions: assign((({ event }: Args) => book.refuse(event)) as never) },
  };
  const outside = specs.filter(({ work }) => work !== undefined);
  const inside = [...specs.filter(({ work }) => work === undefined).map(({ name }) => name), UPDATE, SET];
  const toAll = (what: object): Record<string, object> =>
    Object.fromEntries([...inside, ...outside.map(({ name }) => name), CALL].map((name) => [name, what]));
  const idle: Record<string, unknown> = {
    ...Object.fromEntries(inside.map((name) => [name, { actions: take }])),
    ...Object.fromEntries(outside.map(({ name }) => [name, { target: "next", actions: begin }])),
    [CALL]: [
      ...(outside.length === 0
        ? []
        : [{ guard: ({ event }: Args) => book.isAsync(event), target: "next", actions: begin }]),
      { actions: take },
    ],
  };
  const running = Object.fromEntries(
    outside.map(({ name, timeout_ms }) => [
      stateOf(name),
      {
        invoke: {
          src: name,
          id: name,
          input: ({ context }: Args) => book.input(context),
          onDone: {
            target: "next",
            actions: acting(({ context, event }) => book.settle(context, event.output as Outcome)),
          },
          onError: {
            target: "next",
            actions: acting(({ context, event }) => book.fail(context, event.error)),
          },
        },
        after: { [timeout_ms]: { target: "next", actions: acting(({ context }) => book.timeOut(context)) } },
        on: toAll({ actions: wait }),
      },
    ]),
  );
  const next = outside.map(({ name }) => ({
    guard: ({ context }: Args) => book.running(context) === name,
    target: stateOf(name),
  }));
  const onwards = acting(({ context, event }) => book.waitAndDrain(context, event));
  const config = {
    context: ({ input }: { input: { key: string } }) => ({ [KEY]: input.key }),
    on: always,
    initial: "idle",
    states: {
      idle: { on: idle },
      ...(outside.length === 0
        ? {}
        : {
            next: {
              always: [
                ...next,
                { guard: ({ context }: Args) => book.waits(context), target: "waiting" },
                { target: "idle" },
              ],
            },
            // More waited than one turn can take.
            waiting: {
              on: {
                ...toAll({ target: "next", actions: onwards }),
                [DRAIN]: { target: "next", actions: acting(({ context }) => book.drain(context)) },
              },
            },
            ...running,
          }),
    },
  };
  const actors = Object.fromEntries(outside.map((spec) => [spec.name, logicOf(book, spec)]));
  return createMachine(config as never, { actors } as never) as AnyStateMachine;
}

/** A function's own name could be that of another state. */
function stateOf(name: string): string {
  return `running ${name}`;
}

/** What runs after the turn. */
function logicOf(book: Book, { work }: FunctionSpec): ReturnType<typeof fromPromise> {
  return fromPromise(((args: Given & Pick<WorkOrder, "idempotencyKey" | "attempt" | "signal">) => {
    const { input, idempotencyKey, attempt, signal } = args;
    return work?.({ ...input, home: book.home, idempotencyKey, attempt, signal });
  }) as never);
}
