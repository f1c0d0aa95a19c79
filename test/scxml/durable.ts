/**
 * The durable subject: the converted machine as a Keyturn actor, through the public interface only.
 *
 * Owns a store, and one node at a time on it. A restart is a clean stop (the actor comes back from its snapshot) and a
 * crash (it comes back from the tail of the journal) by turns; the next node hosts a machine that was converted anew,
 * so that nothing but what is stored can survive.
 *
 * Time: the node's timers go by the wall clock, its leases by the monotonic one. Here the wall clock stands still but
 * while the script waits; so a restart may take the five seconds of a lease and yet no time passes for the actor.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AnyStateMachine } from "xstate";
import {
  defineActor,
  embedded,
  isKeyturnError,
  type KeyturnNode,
  memory,
  type MemoryStore,
  startNode,
  type Store,
} from "../../runtime/index.ts";
import { VirtualWorld } from "../support/virtual-world.ts";
import { basicStates, type Observation, type Subject } from "./cases.ts";
import type { MachineEvent } from "./content.ts";

export type StoreKind = "memory" | "embedded";

export interface DurableOptions {
  readonly store?: StoreKind;
  /** What a restart is; stops and crashes by turns by default. */
  readonly restarts?: "alternate" | "stop" | "crash";
  /** Done to the store while no node runs on it: how a test plants a bad restore. */
  readonly whileDown?: (store: Store) => Promise<void>;
}

const TYPE = "scxml";
const KEY = "session";
/** Monotonic time in which everything that is due at once comes to happen. */
const REST_MS = 20;
/** Sends without a delay that follow from one another; more are a circle. */
const MOST_RESTS = 200;

/** A world whose wall clock can be stopped, and which waits for real stores. */
class CaseWorld extends VirtualWorld {
  /** Calls of the store that are not answered yet. */
  calls = 0;
  #stopped: number | undefined;

  override now(): number {
    return this.#stopped ?? super.now();
  }

  override async settle(): Promise<void> {
    do await super.settle();
    while (this.calls > 0);
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

export class DurableSubject implements Subject {
  readonly #world = new CaseWorld();
  readonly #convert: () => AnyStateMachine;
  readonly #options: DurableOptions;
  #folder: string | undefined;
  #store: Store | undefined;
  #node: KeyturnNode | undefined;
  #restarts = 0;

  private constructor(convert: () => AnyStateMachine, options: DurableOptions) {
    this.#convert = convert;
    this.#options = options;
  }

  /** @throws KeyturnError `unsupported_machine` for what the runtime does not host */
  static async start(convert: () => AnyStateMachine, options: DurableOptions = {}): Promise<DurableSubject> {
    const subject = new DurableSubject(convert, options);
    try {
      await subject.#start();
    } catch (error) {
      await subject.end();
      throw error;
    }
    return subject;
  }

  async send(event: MachineEvent): Promise<void> {
    try {
      await this.#run(() => this.#actor.send(event as never));
    } catch (error) {
      // An event that the machine names nowhere is refused; plain XState takes it and does nothing. Here as there
      // nothing has happened.
      if (!isKeyturnError(error) || error.code !== "invalid_event") throw error;
    }
    await this.#rest();
  }

  async wait(ms: number): Promise<void> {
    await this.#world.advance(ms);
    await this.#rest();
  }

  async look(): Promise<Observation> {
    const { value, status, context, output } = await this.#run(() => this.#actor.get());
    return { states: basicStates(value), status, context, output };
  }

  async restart(): Promise<void> {
    const { restarts = "alternate", whileDown } = this.#options;
    const stops = restarts === "alternate" ? this.#restarts++ % 2 === 0 : restarts === "stop";
    const [node, store] = [this.#node, this.#store];
    this.#node = undefined;
    if (stops) await this.#run(async () => node?.stop({ closeStore: false }));
    else {
      node?.kill();
      if (isMemory(store)) store.crash();
    }
    if (store !== undefined) await whileDown?.(store);
    // What a killed process had open is closed with it; the next one opens the folder again.
    if (!isMemory(store)) await this.#closeStore();
    await this.#start();
  }

  /** Ends the node and removes what it stored. */
  async end(): Promise<void> {
    this.#node?.kill();
    this.#node = undefined;
    await this.#closeStore();
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true });
  }

  get #actor() {
    if (this.#node === undefined) throw new Error("No node runs.");
    return this.#node.client.actor(`${TYPE}/${KEY}`);
  }

  async #start(): Promise<void> {
    const actor = defineActor({ type: TYPE, machine: this.#convert() });
    this.#store ??= await this.#open();
    const store = isMemory(this.#store) ? this.#store : counting(this.#store, this.#world);
    const options = { actors: [actor], store, name: "node", shards: 1, world: this.#world };
    this.#node = await this.#run(() => startNode(options));
  }

  async #open(): Promise<Store> {
    if (this.#options.store !== "embedded") return memory();
    this.#folder ??= await mkdtemp(join(tmpdir(), "keyturn-scxml-"));
    return embedded({ path: join(this.#folder, "store") });
  }

  async #closeStore(): Promise<void> {
    const store = this.#store;
    this.#store = undefined;
    await store?.close();
  }

  #run<T>(work: () => Promise<T>): Promise<T> {
    return this.#world.standing(() => this.#world.run(work()));
  }

  /** Until nothing happens any more without time: an event that a machine sends itself is a turn of its own. */
  async #rest(): Promise<void> {
    let turn = -1;
    for (let rests = 0; rests < MOST_RESTS; rests++) {
      await this.#world.standing(() => this.#world.advance(REST_MS));
      const now = (await this.#run(() => this.#actor.get())).turn;
      if (now === turn) return;
      turn = now;
    }
    throw new Error(`It did not come to rest within ${MOST_RESTS} turns.`);
  }
}

function isMemory(store: Store | undefined): store is MemoryStore {
  return store !== undefined && "crash" in store;
}

/** A store whose open calls the world counts: virtual time must not run ahead of a disk. */
function counting(store: Store, world: CaseWorld): Store {
  const counted = async <T>(call: Promise<T>): Promise<T> => {
    world.calls++;
    try {
      return await call;
    } finally {
      world.calls--;
    }
  };
  const part = <P extends object>(port: P): P =>
    new Proxy(port, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== "function") return member;
        return (...args: unknown[]): unknown => {
          const result: unknown = Reflect.apply(member, target, args);
          if (result instanceof Promise) return counted(result);
          if (typeof result !== "object" || result === null || !(Symbol.asyncIterator in result))
            return result;
          const inner = (result as AsyncIterable<unknown>)[Symbol.asyncIterator]();
          return {
            [Symbol.asyncIterator]() {
              return this;
            },
            next: () => counted(inner.next()),
            return: (value: unknown) =>
              counted(inner.return?.(value) ?? Promise.resolve({ done: true, value })),
          };
        };
      },
    });
  const ports = {
    journal: part(store.journal),
    snapshots: part(store.snapshots),
    directory: part(store.directory),
    deadLetters: part(store.deadLetters),
  };
  return new Proxy(store, {
    get(target, name) {
      if (Object.hasOwn(ports, name)) return ports[name as keyof typeof ports];
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
}
