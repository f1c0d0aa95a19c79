/**
 * One machine beside itself: played by plain XState and by a durable actor, and compared after every step.
 *
 * The durable one is reached through the public interface only. Between any two steps it is left alone, or its node
 * stops and another starts (it comes back from its snapshot), or its node is killed and what is not durable is lost (it
 * comes back from the journal), or it is handed over to another node that runs already.
 *
 * What happens outside of machines (promises, callbacks, observables, custom actions) is in the hands of the test, by
 * its `Outside`. Time: see test/scxml/durable.ts; the wall clock stands still but while a step waits.
 */
import {
  type AnyActorRef,
  type AnyStateMachine,
  createActor,
  type EventObject,
  SimulatedClock,
} from "xstate";
import { expect } from "vitest";
import { defineActor, isKeyturnError, type KeyturnNode, memory, startNode } from "../../runtime/index.ts";
import { Outside } from "./outside.ts";
import { VirtualWorld } from "./virtual-world.ts";

/** An event (or its type), milliseconds to wait, or something that happens outside. */
export type Step = string | EventObject | number | ((outside: Outside) => void);

/** What is done between any two steps. */
export type Mode = "left alone" | "stopped and restored" | "killed and recovered" | "handed over";
export const modes: readonly Mode[] = [
  "left alone",
  "stopped and restored",
  "killed and recovered",
  "handed over",
];

/** What is compared after each step. */
export interface Seen {
  readonly value: unknown;
  readonly context: unknown;
  readonly status: string;
  readonly output: unknown;
  readonly error: unknown;
  readonly tags: readonly string[];
  /** By path. */
  readonly children: Readonly<Record<string, unknown>>;
  readonly emitted: readonly unknown[];
  /** What `log` said. */
  readonly logged: readonly unknown[];
  /** What custom actions did, and what user code was given outside. */
  readonly done: readonly unknown[];
}

export interface PlayOptions {
  /** Logics that the machine spawns inline, as for `defineActor`. */
  readonly children?: (outside: Outside) => Readonly<Record<string, object>>;
}

export const TYPE = "feature";
export const KEY = "one";
const REST_MS = 20;
const MOST_RESTS = 50;

/** Builds the machine of one play. */
export type Make = (outside: Outside) => AnyStateMachine;

/** Plays steps in all modes, and expects what plain XState shows. Gives what was seen. */
export async function expectSame(
  make: Make,
  steps: readonly Step[],
  options: PlayOptions = {},
): Promise<readonly Seen[]> {
  const expected = await playPlain(make, steps);
  for (const mode of modes) expect(await playDurable(make, steps, mode, options), mode).toEqual(expected);
  return expected;
}

/** Plays steps on plain XState. It begins with the first step, as a durable actor begins with its first message. */
export async function playPlain(make: Make, steps: readonly Step[]): Promise<Seen[]> {
  const outside = new Outside();
  const clock = new SimulatedClock();
  const [emitted, logged]: [unknown[], unknown[]] = [[], []];
  const input = { type: TYPE, key: KEY };
  const logger = (...args: unknown[]): void =>
    void logged.push(args.length > 1 ? args : [undefined, ...args]);
  const actor = createActor(make(outside), { id: TYPE, clock, input, logger } as never);
  actor.on("*", (event) => emitted.push(event));
  // Who nobody listens to throws its error to the whole process.
  actor.subscribe({ error: () => undefined });
  actor.start();
  const states: Seen[] = [];
  for (const step of steps) {
    if (typeof step === "function") step(outside);
    else if (typeof step === "number") for (let ms = 0; ms < step; ms++) clock.increment(1);
    else actor.send(eventOf(step) as never);
    // What a promise comes to is there a moment later.
    await new Promise<void>((resolve) => setImmediate(resolve));
    const snapshot = actor.getSnapshot() as Snapshot;
    states.push(seen(snapshot, flatten(snapshot), emitted, logged, outside));
  }
  return states;
}

/** Plays steps on a durable actor. */
export async function playDurable(
  make: Make,
  steps: readonly Step[],
  mode: Mode,
  options: PlayOptions = {},
): Promise<Seen[]> {
  const durable = new Durable(make, options);
  try {
    const states: Seen[] = [];
    for (const [at, step] of steps.entries()) {
      if (at > 0) await durable.between(mode);
      await durable.play(step);
      states.push(await durable.look());
    }
    return states;
  } finally {
    durable.end();
  }
}

class StandingWorld extends VirtualWorld {
  #stopped: number | undefined;

  override now(): number {
    return this.#stopped ?? super.now();
  }

  /** Works while the wall clock stands still. */
  async standing<T>(work: () => Promise<T>): Promise<T> {
    const stopped = super.now();
    this.#stopped = stopped;
    try {
      return await work();
    } finally {
      this.wall_ms -= super.now() - stopped;
      this.#stopped = undefined;
    }
  }
}

/** A durable actor, and the nodes that it lives on one after the other. */
export class Durable {
  readonly outside = new Outside();
  readonly #world = new StandingWorld();
  readonly #store = memory();
  readonly #make: Make;
  readonly #options: PlayOptions;
  readonly #logged: unknown[] = [];
  #nodes = 0;
  #node: KeyturnNode | undefined;

  constructor(make: Make, options: PlayOptions = {}) {
    this.#make = make;
    this.#options = options;
  }

  async play(step: Step): Promise<void> {
    this.#node ??= await this.#start();
    if (typeof step === "function") step(this.outside);
    else if (typeof step === "number") await this.#world.advance(step);
    else await this.#send(eventOf(step));
    await this.#rest();
  }

  async between(mode: Mode): Promise<void> {
    const node = this.#node;
    if (node === undefined || mode === "left alone") return;
    if (mode === "handed over") {
      // The next one has joined before this one gives its shards away.
      this.#node = await this.#start();
      await this.#run(() => node.stop({ closeStore: false }));
    } else {
      if (mode === "stopped and restored") await this.#run(() => node.stop({ closeStore: false }));
      else {
        node.kill();
        this.#store.crash();
      }
      this.#node = await this.#start();
    }
    await this.#rest();
  }

  /** What a client sees. */
  async look(): Promise<Seen> {
    const state = await this.get();
    const emitted: unknown[] = [];
    await this.#run(async () => {
      for await (const turn of this.#ref.history({ order: "oldest" })) emitted.push(...turn.emitted);
    });
    return seen(state as unknown as Snapshot, state.children ?? {}, emitted, this.#logged, this.outside);
  }

  get() {
    return this.#run(() => this.#ref.get());
  }

  end(): void {
    this.#node?.kill();
  }

  get #ref() {
    if (this.#node === undefined) throw new Error("No node runs.");
    return this.#node.client.actor(`${TYPE}/${KEY}`);
  }

  async #send(event: EventObject): Promise<void> {
    try {
      await this.#run(() => this.#ref.send(event as never));
    } catch (error) {
      // What the machine names nowhere is refused; plain XState takes it, and does nothing.
      if (!isKeyturnError(error) || error.code !== "invalid_event") throw error;
    }
  }

  #start(): Promise<KeyturnNode> {
    // Made anew, so that nothing survives but what is stored.
    const machine = this.#make(this.outside);
    const children = this.#options.children?.(this.outside) ?? {};
    const observer = {
      logged: (_id: string, label: string | undefined, value: unknown) =>
        void this.#logged.push([label, value]),
    };
    const options = {
      store: this.#store,
      name: `n${++this.#nodes}`,
      shards: 1,
      world: this.#world,
      observer,
    };
    return this.#run(() =>
      startNode({ ...options, actors: [defineActor({ type: TYPE, machine, children })] }),
    );
  }

  #run<T>(work: () => Promise<T>): Promise<T> {
    return this.#world.standing(() => this.#world.run(work()));
  }

  /** Until nothing happens any more without time. */
  async #rest(): Promise<void> {
    let turn = -1;
    for (let rests = 0; rests < MOST_RESTS; rests++) {
      await this.#world.standing(() => this.#world.advance(REST_MS));
      const now = (await this.get()).turn;
      if (now === turn) return;
      turn = now;
    }
    throw new Error(`It did not come to rest within ${MOST_RESTS} rounds.`);
  }
}

interface Snapshot {
  readonly value?: unknown;
  readonly context?: unknown;
  readonly status: string;
  readonly output?: unknown;
  readonly error?: unknown;
  readonly tags?: Iterable<string>;
  readonly children?: Readonly<Record<string, AnyActorRef | undefined>>;
}

function eventOf(step: string | EventObject): EventObject {
  return typeof step === "string" ? { type: step } : step;
}

function seen(
  snapshot: Snapshot,
  children: Readonly<Record<string, unknown>>,
  emitted: readonly unknown[],
  logged: readonly unknown[],
  outside: Outside,
): Seen {
  return {
    ...shown(snapshot),
    tags: [...(snapshot.tags ?? [])].sort(),
    children: Object.fromEntries(
      Object.entries(children).map(([path, child]) => [path, shown(child as Snapshot)]),
    ),
    emitted: emitted.map(data),
    logged: logged.map(data),
    done: outside.done.map(data),
  };
}

function shown({ value, context, status, output, error }: Snapshot) {
  return { value, context: data(context), status, output: data(output), error: data(error) };
}

/** The children of a plain snapshot, by path. */
function flatten(snapshot: Snapshot, parent = "", flat: Record<string, Snapshot> = {}) {
  for (const [id, child] of Object.entries(snapshot.children ?? {})) {
    if (child === undefined) continue;
    const path = parent === "" ? id : `${parent}/${id}`;
    const inner = child.getSnapshot() as Snapshot;
    flat[path] = inner;
    flatten(inner, path, flat);
  }
  return flat;
}

/** References to actors by the id of whom they are of; errors by what they say. */
function data(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Error) return { error: value.message };
  const { xstate$$type, id, sessionId } = value as Record<string, unknown>;
  if (xstate$$type === 1 || (sessionId !== undefined && "getSnapshot" in value)) return { reference: id };
  if (Array.isArray(value)) return value.map(data);
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, data(inner)]));
}
