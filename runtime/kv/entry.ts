/**
 * The actor behind each key of a store.
 *
 * Owns its machine: what a write changes, what is refused, versions and expiry. Every node hosts it. Builds on XState and
 * `defineActor` as actors of users do; talks to nobody.
 *
 * Invariants:
 * 1. A version grows with every write of its key and does not come again, also after the key was deleted or expired: it
 *    is the time of the write by its sender's clock or, if that is not later, one more than the version before.
 * 2. A key that is gone leaves its version for a day, for pinned snapshots, watchers and compare-and-set; then its actor
 *    is deleted.
 * 3. What an entry was before a change is told in the record of that change, unless it was written shortly before: its
 *    own record may be trimmed, and pinned snapshots show it still. For the same reason each record holds all of an entry.
 */
import { assign, emit, enqueueActions, setup } from "xstate";
import { defineActor } from "../engine/definition.ts";
import { reply } from "../engine/machine.ts";
import { KeyturnError } from "../words/errors.ts";

/** Type of the actors. */
export const KV = "keyturn-kv";
/** How long what is gone is remembered, milliseconds. */
export const GONE_MS = 86_400_000;
/** What was written within this is not told again; the journal is kept longer than a pinned snapshot lasts by more. */
const RECENT_MS = 5 * 60_000;

/** What an entry was before a change; for pinned snapshots. */
export interface EntryWas {
  readonly type: "entry.was";
  readonly was: EntryContext;
}

export type Operation = "add" | "subtract" | "multiply" | "divide";

export type EntryEvent =
  /** Answers with the new version. `version`: only if the entry stands there, 0 for one that is not there. */
  | { type: "put"; value: unknown; at: number; ttl_ms?: number; version?: number }
  /** Answers with whether it was there. */
  | { type: "delete"; at: number; version?: number }
  /** Answers with the new value; what is not there counts as 0. Its time to live goes on. */
  | { type: "update"; operation: Operation; operand: number; at: number };

export interface EntryContext {
  readonly present: boolean;
  readonly value: unknown;
  /** 0 before the first write. */
  readonly version: number;
  readonly ttl_ms: number;
}

export interface EntryReplies {
  put: number;
  delete: boolean;
  update: number;
}

interface Args {
  readonly context: EntryContext;
  readonly event: EntryEvent;
}

const nothing: EntryContext = { present: false, value: undefined, version: 0, ttl_ms: 0 };

const defined = defineActor({
  type: KV,
  index: ["present", "value", "version"],
  keepFor: 0,
  // Each try brings the time at which it was sent.
  fingerprint: ({ at: _, ...event }) => event,
  machine: setup({
    types: { context: {} as EntryContext, events: {} as EntryEvent, emitted: {} as EntryWas },
    delays: { ttl: ({ context }) => context.ttl_ms, gone: GONE_MS },
    guards: {
      expires: ({ event }) => event.type === "put" && event.ttl_ms !== undefined,
      isPresent: ({ context }) => context.present,
    },
    actions: {
      tellWas: enqueueActions(({ context, event, enqueue }) => {
        const { version } = context;
        // How long ago an entry that expires was written is not known: after a downtime it expires late.
        const age = "at" in event ? event.at - version : Number.POSITIVE_INFINITY;
        const isRecent = age >= 0 && age < RECENT_MS;
        if (version > 0 && !isRecent) enqueue(emit({ type: "entry.was", was: context }));
      }),
      put: assign((args: Args) => put(args)),
      update: assign((args: Args) => update(args)),
      remove: assign((args: Args) => remove(args)),
      expire: assign(({ context }: Args) => ({ ...nothing, version: context.version + 1 })),
      answerVersion: reply(({ context }: Args) => context.version),
      answerValue: reply(({ context }: Args) => context.value),
      answerYes: reply(true),
      answerNo: reply(false),
    },
  }).createMachine({
    context: nothing,
    on: {
      put: [
        {
          guard: "expires",
          target: ".expiring",
          reenter: true,
          actions: ["tellWas", "put", "answerVersion"],
        },
        { target: ".lasting", actions: ["tellWas", "put", "answerVersion"] },
      ],
      update: [
        { guard: "isPresent", actions: ["tellWas", "update", "answerValue"] },
        { target: ".lasting", actions: ["tellWas", "update", "answerValue"] },
      ],
      delete: [
        { guard: "isPresent", target: ".gone", actions: ["tellWas", "remove", "answerYes"] },
        { target: ".gone", actions: ["tellWas", "remove", "answerNo"] },
      ],
    },
    initial: "never",
    states: {
      never: {},
      lasting: {},
      expiring: { after: { ttl: { target: "gone", actions: ["tellWas", "expire"] } } },
      gone: { after: { gone: "forgotten" } },
      forgotten: { type: "final" },
    },
  }),
  types: {} as { replies: EntryReplies },
});

export const entry: typeof defined = Object.freeze({ ...defined, keyframes: "always" as const });

function put(args: Args): EntryContext {
  const event = args.event as Extract<EntryEvent, { type: "put" }>;
  checkVersion(args.context, event.version);
  return {
    present: true,
    value: event.value,
    version: nextVersion(args.context, event.at),
    ttl_ms: event.ttl_ms ?? 0,
  };
}

function remove(args: Args): EntryContext {
  const event = args.event as Extract<EntryEvent, { type: "delete" }>;
  checkVersion(args.context, event.version);
  const { present, version } = args.context;
  // Also a key that was never put has a version from its first turn on, so that its next one tells what it was.
  return { ...nothing, version: present ? nextVersion(args.context, event.at) : Math.max(1, version) };
}

function update(args: Args): EntryContext {
  const { operation, operand, at } = args.event as Extract<EntryEvent, { type: "update" }>;
  const before = args.context.present ? args.context.value : 0;
  if (typeof before !== "number" || typeof operand !== "number")
    throw invalid(
      `${operation} takes numbers; the value is ${kindOf(before)}, the operand ${kindOf(operand)}`,
    );
  if (operation === "divide" && operand === 0) throw invalid(`${before} cannot be divided by zero`);
  const value = compute(operation, before, operand);
  if (!Number.isFinite(value)) throw invalid(`${before} ${operation} ${operand} is no finite number`);
  return { ...args.context, present: true, value, version: nextVersion(args.context, at) };
}

function compute(operation: Operation, a: number, b: number): number {
  switch (operation) {
    case "add":
      return a + b;
    case "subtract":
      return a - b;
    case "multiply":
      return a * b;
    case "divide":
      return a / b;
    default:
      throw invalid(`"${operation}" is none of add, subtract, multiply, divide`);
  }
}

function checkVersion({ present, version }: EntryContext, expected: number | undefined): void {
  const current = present ? version : 0;
  if (expected === undefined || expected === current) return;
  const text = `The entry stands at version ${current}, not ${expected}. Nothing was changed; read it again.`;
  throw new KeyturnError("version_conflict", text);
}

function nextVersion({ version }: EntryContext, at: number): number {
  return Math.max(version + 1, Number.isSafeInteger(at) ? at : 0);
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

function invalid(why: string): KeyturnError {
  return new KeyturnError("invalid_operand", `Nothing was changed: ${why}.`);
}
