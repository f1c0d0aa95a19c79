/**
 * The machine of a function type.
 *
 * One state while nothing runs outside (`idle`), one for each async function while it does, and two in which it is decided
 * what comes next. Owns the shape; what events do is decided by the book. XState is used by its public interface: this is
 * a machine that a user could have written.
 */
import { type AnyStateMachine, assign, createMachine, fromPromise } from "xstate";
import { type Machine, perform } from "../engine/machine.ts";
import type { Book } from "./book.ts";
import { DRAIN, KEY, OWN } from "./events.ts";
import type { FunctionSpec, WorkOrder } from "./function.ts";
import type { Outcome } from "./invocation.ts";
import type { Context, Patch } from "./keeping.ts";

interface Args {
  readonly context: Context;
  // biome-ignore lint/suspicious/noExplicitAny: events of users, and of XState with output or error
  readonly event: any;
}

type Turn = (args: Args) => Patch;

interface Given extends Pick<WorkOrder, "idempotencyKey" | "attempt" | "signal"> {
  readonly input: WorkOrder["values"];
  /** The actor's, as it was committed when the function began. */
  readonly context: Context;
}

export function machineOf(book: Book, specs: readonly FunctionSpec[]): Machine {
  /** The book's decision, and what it wants done. */
  const acting = (turn: Turn): unknown[] => [assign(turn as never), perform(book.performance)];
  const take = { actions: acting(({ context, event }) => book.take(context, event)) };
  const beginning = acting(({ context, event }) => book.begin(context, event));
  const begin = (name: string): object => ({
    guard: ({ event }: Args) => book.isFor(event, name),
    target: stateOf(name),
    actions: beginning,
  });
  const wait = { actions: acting(({ context, event }) => book.wait(context, event)) };
  const onwards = {
    target: "next",
    actions: acting(({ context, event }) => book.waitAndDrain(context, event)),
  };
  /** What comes from the facade itself is processed at once, whatever runs. */
  const own = {
    guard: ({ event }: Args) => book.isOwn(event),
    actions: acting(({ context, event }) => book.own(context, event)),
  };
  /** Where nothing waits, nothing has to be decided. */
  const ending = (turn: Turn): object[] => {
    const actions = acting(turn);
    return [
      { guard: ({ context }: Args) => !book.waits(context), target: "idle", actions },
      { target: "next", actions },
    ];
  };
  const outside = specs.filter(({ work }) => work !== undefined);
  const names = specs.map(({ name }) => name);
  const toAll = (what: object): Record<string, unknown> => ({
    ...Object.fromEntries(names.map((name) => [name, what])),
    [OWN]: [own, what],
  });
  const idle: Record<string, unknown> = {
    ...toAll(take),
    ...Object.fromEntries(outside.map(({ name }) => [name, { target: stateOf(name), actions: beginning }])),
    [OWN]: [...outside.map(({ name }) => begin(name)), own, take],
  };
  const running = Object.fromEntries(
    outside.map(({ name, timeout_ms }) => [
      stateOf(name),
      {
        invoke: {
          src: name,
          id: name,
          input: ({ context }: Args) => book.input(context),
          onDone: ending(({ context, event }) => book.settle(context, event.output as Outcome)),
          onError: ending(({ context, event }) => book.fail(context, event.error)),
        },
        after: { [timeout_ms]: ending(({ context }) => book.timeOut(context)) },
        on: toAll(wait),
      },
    ]),
  );
  const next = outside.map(({ name }) => ({
    guard: ({ context }: Args) => book.running(context) === name,
    target: stateOf(name),
  }));
  const config = {
    context: ({ input }: { input: { key: string } }) => ({ [KEY]: input.key }),
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
                ...toAll(onwards),
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
  const { home } = book;
  return fromPromise((({ input: values, context, idempotencyKey, attempt, signal }: Given) => {
    const { event, now } = book.pending(context);
    const key = context[KEY] as string;
    return work?.({ home, event, values, key, now, idempotencyKey, attempt, signal });
  }) as never);
}
