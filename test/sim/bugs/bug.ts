import type { Activation } from "../../../runtime/engine/activation.ts";
import { Membership } from "../../../runtime/cluster/membership.ts";
import type { Engine } from "../../../runtime/engine/engine.ts";
import { decodeBatch } from "../../../runtime/engine/record.ts";
import type { ShardState } from "../../../runtime/engine/shard.ts";
import { type Disk, noFaults, type Scenario } from "../../../runtime/testing/simulator/index.ts";

export interface Bug {
  readonly name: string;
  /** What is missing. */
  readonly text: string;
  /** Workloads that it shows in; all by default. */
  readonly workloads?: readonly string[];
  /** What every seed's scenario has in common, for bugs that show in few. */
  readonly focus?: Partial<Scenario>;
  /** Seeds within which it must be caught. */
  readonly budget: number;
  /**
   * A seed of those that is known to catch it: it is played first, and if it does, the others are not. What seeds draw
   * changes with the workloads there are; then the budget says how long the search may be.
   */
  readonly seed?: number;
  /** Puts it in. Called before a run, with the run's disk. */
  install(disk: Disk, patch: Patcher): void;
}

/** Replaces methods and puts them back. */
export class Patcher {
  readonly #undo: (() => void)[] = [];

  /** Replaces a method by what `make` makes of the original. */
  replace<T extends object, K extends keyof T>(target: T, name: K, make: (original: T[K]) => T[K]): void {
    const before = Object.getOwnPropertyDescriptor(target, name);
    const original = target[name];
    Object.defineProperty(target, name, { value: make(original), configurable: true, writable: true });
    this.#undo.push(() => {
      if (before === undefined) delete target[name];
      else Object.defineProperty(target, name, before);
    });
  }

  undo(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }
}

/** Many clients on both sides of long partitions, and little else. */
export const divided: Partial<Scenario> = {
  nodes: 3,
  shards: 2,
  clients: 5,
  calamities: { partition: 1 },
  settings: { lease_ms: 300, heartbeat_ms: 60 },
  calm_ms: 300,
  safety_ms: 6_000,
  requests: 60,
};

/** Nodes that pause for about a lease, and a store that takes its time. */
export const paused: Partial<Scenario> = {
  nodes: 4,
  shards: 16,
  calamities: { pause: 1 },
  settings: { lease_ms: 300, heartbeat_ms: 100 },
  rates: { ...noFaults, storeMean_ms: 3 },
  calm_ms: 60,
  safety_ms: 10_000,
  requests: 200,
};

/** Nodes that come and go, and copies of the directory that are behind. */
export const behind: Partial<Scenario> = {
  nodes: 3,
  shards: 8,
  calamities: { join: 1, crash: 1, stop: 1 },
  settings: { lease_ms: 300, heartbeat_ms: 60 },
  rates: { ...noFaults, lag_ms: 300 },
  calm_ms: 300,
  safety_ms: 6_000,
};

/** The journal is trimmed as far as may be, all the time. */
export const trimming: Partial<Scenario> = {
  ...behind,
  keepBytes: 0,
  settings: { ...behind.settings, trim_ms: 100 },
};

/** Answers a request by itself, whatever becomes of it. */
export function answer(
  engine: Engine,
  shard: ShardState,
  session: string,
  number: number,
  value: unknown,
): void {
  const { store, incarnation } = engine.parts;
  store.transport.publish(`client.${session}`, {
    kind: "reply",
    from: incarnation,
    replies: [[shard.shard, number, undefined, value]],
  });
}

/** Whether a lane's entry only says who takes its shards over. */
export function isSeal(bytes: Uint8Array): boolean {
  return decodeBatch(bytes, 0).header.sealedBy !== undefined;
}

/** Who takes a member off the list does not ask whether its heartbeat came since. */
export function leaveUnasked({ memory: { directory } }: Disk, patch: Patcher): void {
  patch.replace(directory, "leave", (original) => (name) => original.call(directory, name));
}

/** Every node believes for ever that its lease holds. */
export function believeLeases(_disk: Disk, patch: Patcher): void {
  patch.replace(Membership.prototype, "holds", () => () => true);
}

/** An actor as one whose latest state is taken for committed. Writes go through. */
export function latestOf(a: Activation): Activation {
  return new Proxy(a, {
    get: (target, name) => {
      if (name === "committed") return target.latest;
      if (name === "dirty") return target.latest.turn !== target.saved;
      return Reflect.get(target, name, target) as unknown;
    },
  });
}
