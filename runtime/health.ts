/**
 * Health of a node: whether it does its work, and whether a new process would do it better.
 *
 * Owns what earlier looks found, since "nothing moves" is seen only by two looks. Reads the incarnation; changes
 * nothing and sets no timer: whoever wants to know looks again and again, about once a second.
 *
 * Invariants:
 * 1. `ready` is true only while every check is fine: connected, joined, lease held, consuming, and new enough.
 * 2. `live` turns false only when a restart is likely to help: something other than the connection has been wrong for
 *    `LIVE_MS` while the store was reachable. A store that is away must not make every node restart. Nor must shards
 *    that need a later version: the same program would be as old again.
 */
import type { Phase } from "./cluster/incarnation.ts";
import type { KeyturnError } from "./words/errors.ts";

export interface HealthCheck {
  readonly ok: boolean;
  /** For people. */
  readonly text: string;
}

export type CheckName = "connection" | "membership" | "lease" | "consumption" | "versions";

export interface NodeHealth {
  /** Whether the process should be left running. */
  readonly live: boolean;
  /** Whether the node does all of its work. */
  readonly ready: boolean;
  readonly checks: Readonly<Record<CheckName, HealthCheck>>;
}

/** What one look at a node finds. */
export interface Vitals {
  /** Of the store's connection; a store without one is always connected. */
  readonly connection: { readonly connected: boolean; readonly text: string };
  readonly phase: Phase;
  /** The node was told to end. */
  readonly stopped: boolean;
  readonly leaseHeld: boolean;
  readonly incarnation: string;
  /** Shards served here, and of the app. */
  readonly serving: number;
  readonly shards: number;
  /** What has waited longest, by identity: the batch on its way to the journal, or else the oldest message. */
  readonly oldest: object | undefined;
  /** Messages that were taken in and not stepped. */
  readonly queued: number;
  /** Actors with overdue timers that fire at a pace, as after a downtime. */
  readonly overdue: number;
  /** Grows with every commit. */
  readonly committed: number;
  /** Names the shards that nobody serves because every node, and so this one, is too old for them. */
  readonly unserved?: KeyturnError | undefined;
}

/** Nothing was committed for so long although something waits: consumption has stopped. */
export const STALL_MS = 5_000;
/** So long may something be wrong, the store being reachable, before the process is called dead. */
export const LIVE_MS = 60_000;

export class HealthWatch {
  /** Since when each check has been failing, in monotonic milliseconds. */
  readonly #failing = new Map<CheckName, number>();
  #oldest: object | undefined;
  #committed = -1;
  /** When the oldest was first seen waiting behind the same last commit. */
  #still_ms = 0;

  /** @param now_ms monotonic */
  look(vitals: Vitals, now_ms: number): NodeHealth {
    const checks = {
      connection: { ok: vitals.connection.connected, text: vitals.connection.text },
      membership: membershipOf(vitals),
      lease: vitals.leaseHeld
        ? { ok: true, text: "The lease is held." }
        : { ok: false, text: "The lease is not held: heartbeats do not get through." },
      consumption: this.#consumption(vitals, now_ms),
      versions:
        vitals.unserved === undefined
          ? { ok: true, text: "No shard waits for a node with later versions." }
          : { ok: false, text: vitals.unserved.message },
    };
    for (const [name, { ok }] of entriesOf(checks)) {
      if (ok || name === "versions") this.#failing.delete(name);
      else if (!this.#failing.has(name)) this.#failing.set(name, now_ms);
    }
    // What fails while the store is away starts counting anew when it is back.
    if (!checks.connection.ok) for (const name of this.#failing.keys()) this.#failing.set(name, now_ms);
    const longest = Math.max(0, ...[...this.#failing.values()].map((since_ms) => now_ms - since_ms));
    return {
      live: longest < LIVE_MS,
      ready: entriesOf(checks).every(([, { ok }]) => ok),
      checks,
    };
  }

  #consumption({ oldest, committed, queued, overdue, serving, shards }: Vitals, now_ms: number): HealthCheck {
    if (oldest === undefined || oldest !== this.#oldest || committed !== this.#committed) {
      this.#oldest = oldest;
      this.#committed = committed;
      this.#still_ms = now_ms;
    }
    const still_ms = now_ms - this.#still_ms;
    if (still_ms >= STALL_MS) {
      return {
        ok: false,
        text: `Nothing was committed for ${Math.round(still_ms / 1_000)} s although messages wait (${queued} not looked at yet).`,
      };
    }
    const late =
      overdue === 0 ? "" : ` Timers of ${overdue} actors are overdue and fire one after the other.`;
    return { ok: true, text: `Serves ${serving} of ${shards} shards; ${queued} messages wait.${late}` };
  }
}

function membershipOf({ phase, stopped, incarnation }: Vitals): HealthCheck {
  const stopping = { ok: false, text: "The node is stopping." };
  if (stopped) return stopping;
  switch (phase) {
    case "leaving":
      return stopping;
    case "active":
      return { ok: true, text: `A member as ${incarnation}.` };
    case "joining":
      return { ok: false, text: "The node is about to join." };
    case "over":
      return { ok: false, text: `${incarnation} was fenced: its shards are served elsewhere.` };
  }
}

function entriesOf(checks: NodeHealth["checks"]): [CheckName, HealthCheck][] {
  return Object.entries(checks) as [CheckName, HealthCheck][];
}
