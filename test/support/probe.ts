/** An actor that can be told to do everything that an engine has to cope with, and the start of a node for it. */
import { assign, cancel, emit, enqueueActions, raise, sendTo, setup } from "xstate";
import { type ActorDefinition, defineActor, reply, tell } from "../../runtime/index.ts";
import type { Observer } from "../../runtime/engine/observer.ts";
import { type KeyturnNode, type NodeOptions, startNode } from "../../runtime/node.ts";
import { isKeyturnError, type KeyturnError } from "../../runtime/words/errors.ts";
import type { NodeSettings } from "../../runtime/words/limits.ts";
import { FaultStore } from "./fault-store.ts";
import { VirtualWorld } from "./virtual-world.ts";

export interface ProbeContext {
  readonly count: number;
  readonly ticks: number;
  /** What `note` events brought: sender and number. */
  readonly seen: readonly string[];
  readonly blob: string;
}

export type ProbeEvent =
  | { type: "add"; by: number }
  /** Changes nothing and replies nothing. */
  | { type: "idle" }
  | { type: "note"; from: string; n: number }
  | { type: "fail" }
  /** Adds, and fails if the count is then over the limit: an error that follows from earlier turns. */
  | { type: "addUpTo"; by: number; limit: number }
  | { type: "mutate" }
  | { type: "loop" }
  | { type: "grow"; bytes: number }
  | { type: "answerBig"; bytes: number }
  | { type: "answerBadly" }
  | { type: "tell"; to: string; event: { type: string } }
  | { type: "tellMany"; to: readonly string[]; from: string; count: number }
  | { type: "later"; ms: number; id?: string }
  | { type: "laterMany"; count: number; ms: number }
  | { type: "again" }
  | { type: "forget"; id: string }
  | { type: "failLater"; ms: number }
  | { type: "tick" }
  | { type: "act"; what: string }
  | { type: "shout"; what: string }
  | { type: "finish" };

/** `hook` is called by the custom action of `act`. */
export function probeOf(hook: (what: string) => unknown = () => undefined) {
  return defineActor({
    type: "probe",
    machine: setup({
      types: { context: {} as ProbeContext, events: {} as ProbeEvent },
      actions: {
        effect: ({ event }) => {
          if (event.type === "act") return hook(event.what) as void;
        },
        fail: () => undefined,
      },
    }).createMachine({
      id: "probe",
      context: { count: 0, ticks: 0, seen: [], blob: "" },
      initial: "on",
      states: {
        on: { on: { finish: "off", loop: "spin" } },
        spin: { always: "spun" },
        spun: { always: "spin" },
        off: { type: "final" },
      },
      on: {
        add: {
          actions: [
            assign({ count: ({ context, event }) => context.count + event.by }),
            reply(({ context }) => context.count),
          ],
        },
        idle: {},
        note: {
          actions: assign({ seen: ({ context, event }) => [...context.seen, `${event.from}${event.n}`] }),
        },
        fail: {
          actions: assign(() => {
            throw new Error("no such luck");
          }),
        },
        addUpTo: {
          actions: [
            assign({ count: ({ context, event }) => context.count + event.by }),
            assign(({ context, event }) => {
              if (context.count > event.limit) throw new Error(`${context.count} is over ${event.limit}`);
              return {};
            }),
            reply(({ context }) => context.count),
          ],
        },
        mutate: {
          actions: assign(({ context }) => {
            (context.seen as string[]).push("changed in place");
            return {};
          }),
        },
        grow: { actions: assign({ blob: ({ event }) => "x".repeat(event.bytes) }) },
        answerBig: { actions: reply(({ event }) => "y".repeat(event.bytes)) },
        answerBadly: { actions: reply(() => new WeakMap()) },
        tell: {
          actions: tell(
            ({ event }) => event.to,
            ({ event }) => event.event,
          ),
        },
        tellMany: {
          actions: enqueueActions(({ enqueue, event }) => {
            for (let n = 1; n <= event.count; n++)
              for (const to of event.to)
                enqueue(tell(to, { type: "note", from: event.from, n } as ProbeEvent));
          }),
        },
        later: {
          actions: enqueueActions(({ enqueue, event }) => {
            const id = event.id === undefined ? {} : { id: event.id };
            enqueue(raise({ type: "tick" }, { delay: event.ms, ...id }));
          }),
        },
        laterMany: {
          actions: enqueueActions(({ enqueue, event }) => {
            for (let n = 0; n < event.count; n++) enqueue(raise({ type: "tick" }, { delay: event.ms }));
          }),
        },
        again: {
          actions: [
            assign({ ticks: ({ context }) => context.ticks + 1 }),
            sendTo(({ self }) => self, { type: "again" }, { delay: 0 }),
          ],
        },
        forget: { actions: cancel(({ event }) => event.id) },
        failLater: { actions: raise({ type: "fail" }, { delay: ({ event }) => event.ms }) },
        tick: { actions: assign({ ticks: ({ context }) => context.ticks + 1 }) },
        act: { actions: ["effect", reply("done")] },
        shout: { actions: emit(({ event }) => ({ type: "shouted", what: event.what })) },
      },
    }),
    types: {} as { replies: { add: number; addUpTo: number; act: string; answerBig: string } },
  });
}

export type Probe = ReturnType<typeof probeOf>;

export interface Rig {
  readonly world: VirtualWorld;
  readonly store: FaultStore;
  readonly probe: Probe;
  readonly node: KeyturnNode;
  /** What the observer was told, one line each. */
  readonly told: string[];
}

export interface RigOptions {
  readonly world?: VirtualWorld;
  readonly store?: FaultStore;
  readonly probe?: Probe;
  readonly shards?: number;
  readonly name?: string;
  readonly weight?: number;
  readonly settings?: Partial<NodeSettings>;
  readonly actors?: NodeOptions["actors"];
  readonly telemetry?: NodeOptions["telemetry"];
}

/** Starts a node in virtual time on a memory store with faults. */
export async function rig(options: RigOptions = {}): Promise<Rig> {
  const { world = new VirtualWorld(), store = new FaultStore(), probe = probeOf(), name = "n1" } = options;
  const told: string[] = [];
  const node = await world.run(
    startNode({
      actors: options.actors ?? [probe],
      store,
      name,
      weight: options.weight ?? 1,
      // A store that is there already says how many shards its app has.
      ...(options.shards === undefined && options.store !== undefined ? {} : { shards: options.shards ?? 4 }),
      settings: options.settings ?? {},
      world,
      observer: noting(told),
      telemetry: options.telemetry,
    }),
  );
  return { world, store, probe, node, told };
}

function noting(told: string[]): Partial<Observer> {
  return {
    actionFailed: (id, action, error) => told.push(`action ${id} ${action} ${String(error)}`),
    shardFailed: (shard, error) => told.push(`shard ${shard} ${error.code}`),
    fenced: (incarnation) => told.push(`fenced ${incarnation}`),
    storeFull: () => told.push("full"),
    troubled: (task, error) => told.push(`troubled ${task}: ${String(error)}`),
  };
}

/** The error that a promise is rejected with. */
export async function failure(promise: Promise<unknown>): Promise<KeyturnError> {
  let value: unknown;
  try {
    value = await promise;
  } catch (error) {
    if (isKeyturnError(error)) return error;
    throw error;
  }
  throw new Error(`It did not fail: ${JSON.stringify(value)}`);
}

/** A key of the probe type that lies in the wanted shard. */
export function keyIn(node: KeyturnNode, definition: ActorDefinition, shard: number, salt = ""): string {
  for (let n = 0; ; n++) {
    const key = `${salt}k${n}`;
    if (node.client.actor(definition, key).shard === shard) return key;
  }
}
