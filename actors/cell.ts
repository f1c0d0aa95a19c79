/**
 * A key-value cell: one value under one key, with versions and, if wanted, an expiry.
 *
 *     const session = client.actor(cell, "session:42");
 *     const { version } = await session.ask({ type: "set", value: { user: "ada" }, ttl_ms: 60_000 });
 *     await session.ask({ type: "compareAndSet", version, value: { user: "ada", seen: true } });
 *
 * The version grows by one with everything that changes the cell: a value, a clearing, an expiry. It never goes back
 * while the actor exists, so a version that was read names one content for ever.
 *
 * The expiry is a durable timer: it runs on while no node does, and a cell that expired meanwhile is cleared when the
 * next one starts. A new value without a `ttl_ms` lasts.
 */
import { defineActor, reply } from "keyturn";
import { and, assign, setup } from "xstate";
import { checked } from "./checked.ts";

export type CellEvent =
  /** Puts a value in; with `ttl_ms`, in milliseconds, for so long only. Answers with the new reading. */
  | { type: "set"; value: unknown; ttl_ms?: number }
  /** The same if the cell stands at `version` (0 for one that was never set); `done` in the answer tells. */
  | { type: "compareAndSet"; version: number; value: unknown; ttl_ms?: number }
  /** Takes the value out. Answers with the new reading; an empty cell stays as it is. */
  | { type: "clear" }
  /** Answers with what is there. */
  | { type: "read" };

/** What is in a cell. */
export interface Reading {
  /** False if it was never set, was cleared, or expired; `value` is undefined then. */
  readonly found: boolean;
  readonly value: unknown;
  readonly version: number;
}

export interface CellReplies {
  set: Reading;
  /** With `done: false` nothing was changed, and the reading says what is there instead. */
  compareAndSet: Reading & { readonly done: boolean };
  clear: Reading;
  read: Reading;
}

export interface CellContext extends Reading {
  /** 0 for a value that lasts. */
  readonly ttl_ms: number;
}

interface Args {
  readonly context: CellContext;
}

/** One value under one key, with versions and, if wanted, an expiry. */
export const cell = defineActor({
  type: "cell",
  machine: setup({
    types: { context: {} as CellContext, events: {} as CellEvent },
    guards: {
      /** Of a `compareAndSet`: the cell stands where the sender thinks it does. */
      isCurrent: ({ context, event }) => event.type === "compareAndSet" && event.version === context.version,
      hasTtl: ({ event }) => "ttl_ms" in event && event.ttl_ms !== undefined,
    },
    actions: {
      put: assign(({ context, event }) =>
        "value" in event
          ? { found: true, value: event.value, version: context.version + 1, ttl_ms: event.ttl_ms ?? 0 }
          : context,
      ),
      empty: assign(({ context }) => ({
        found: false,
        value: undefined,
        version: context.version + 1,
        ttl_ms: 0,
      })),
      answer: reply(({ context }: Args) => readingOf(context)),
      answerDone: reply(({ context }: Args) => ({ ...readingOf(context), done: true })),
      answerStale: reply(({ context }: Args) => ({ ...readingOf(context), done: false })),
    },
    delays: { ttl: ({ context }) => context.ttl_ms },
  }).createMachine({
    id: "cell",
    context: { found: false, value: undefined, version: 0, ttl_ms: 0 },
    on: {
      // Entering `expiring` anew sets its timer anew.
      set: [
        { guard: "hasTtl", target: ".expiring", reenter: true, actions: ["put", "answer"] },
        { target: ".lasting", actions: ["put", "answer"] },
      ],
      compareAndSet: [
        {
          guard: and(["isCurrent", "hasTtl"]),
          target: ".expiring",
          reenter: true,
          actions: ["put", "answerDone"],
        },
        { guard: "isCurrent", target: ".lasting", actions: ["put", "answerDone"] },
        { actions: "answerStale" },
      ],
      clear: { target: ".empty", actions: ["empty", "answer"] },
      read: { actions: "answer" },
    },
    initial: "empty",
    states: {
      empty: { on: { clear: { actions: "answer" } } },
      lasting: {},
      expiring: { after: { ttl: { target: "empty", actions: "empty" } } },
    },
  }),
  events: checked((event: { type: string; ttl_ms?: unknown; version?: unknown }) => {
    if (event.ttl_ms !== undefined && !isCount(event.ttl_ms))
      return ["ttl_ms", "is a whole number of milliseconds"];
    if (event.type === "compareAndSet" && !isCount(event.version)) return ["version", "is a whole number"];
    return undefined;
  }),
  types: {} as { replies: CellReplies },
});

function readingOf({ found, value, version }: CellContext): Reading {
  return { found, value, version };
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
