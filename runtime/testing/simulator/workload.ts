/**
 * Workloads: what clients do in a run and what must be true of it, apart from the world it runs in.
 *
 * Owns the interface only. A user of the simulator writes one of these for their own machines. A scenario runs several
 * workloads together, as FoundationDB's test files compose theirs.
 */
import type { Client } from "../../client/client.ts";
import type { AnyActorDefinition } from "../../engine/definition.ts";
import type { Store, World } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import type { Prng } from "./prng.ts";

export interface Workload {
  readonly name: string;
  /** The actor types it needs. */
  readonly actors: readonly AnyActorDefinition[];
  /** Set if it cannot do without a part of the journal: what is run with it does not trim. */
  readonly needsAll?: boolean;
  /** A new instance for one run. */
  begin(context: WorkloadContext): RunningWorkload;
}

export interface RunningWorkload {
  /** What each client process does; all run at once. They return soon after `context.ending` and await everything. */
  readonly processes: readonly (() => Promise<void>)[];
  /** Reads what is left, after everything has healed and come to rest. May wait for it with `context.sleep`. */
  finish?(): Promise<void>;
  /** What went wrong; called once, at the end. */
  check(): readonly string[];
}

/** What a workload may use of the run. */
export interface WorkloadContext {
  readonly random: Prng;
  /** Clients, each a host of its own. */
  readonly clients: readonly Client[];
  /** A client on a host that no fault reaches, for final reads. */
  readonly observer: Client;
  /** Requests that each process should make. */
  readonly requests: number;
  /** False if the journal is trimmed meanwhile: pasts are not whole, and answers that are asked for again may be gone. */
  readonly keepsAll: boolean;
  /** True when the faults are over: make no new requests. */
  readonly ending: boolean;
  /** Virtual time, milliseconds. */
  now(): number;
  sleep(delay_ms: number): Promise<void>;
  /** How long a caller waits. Drawn. */
  timeout_ms(): number;
  /** Another process that works on the app's store: a host of its own, which faults of network and store reach. */
  visit(): Visitor;
}

/** A process beside nodes and clients, such as a rebuild. */
export interface Visitor {
  readonly store: Store;
  readonly world: World;
  readonly client: Client;
  /** SIGKILL: nothing of it goes on, and nothing that it waits for is ever settled. */
  kill(): void;
}

/** What a caller may conclude: `ok`, certainly `failed`, or `unknown`. Throws what is not an error of the runtime. */
export type Result<T> =
  | { readonly outcome: "ok"; readonly value: T }
  | { readonly outcome: "failed" | "unknown"; readonly error: KeyturnError };

/** What became of a call, as a value. Errors that are not the runtime's own are thrown on. */
export async function resultOf<T>(call: Promise<T>): Promise<Result<T>> {
  try {
    return { outcome: "ok", value: await call };
  } catch (error) {
    if (!(error instanceof KeyturnError)) throw error;
    // Applied, but its answer is trimmed: its caller knows no more than after a timeout.
    const isUnknown = error.outcome === "unknown" || error.outcome === "applied";
    return { outcome: isUnknown ? "unknown" : "failed", error };
  }
}

/** Repeats a call that may be repeated (a read, or a request with an id) until it is answered. */
export async function insist<T>(context: WorkloadContext, call: () => Promise<T>): Promise<T> {
  while (true) {
    const result = await resultOf(call());
    if (result.outcome === "ok") return result.value;
    if (!result.error.retryable) throw result.error;
    await context.sleep(20);
  }
}
