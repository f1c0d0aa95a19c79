/**
 * Who watches which actor.
 *
 * Owns the subscriptions on this node. A watch lives as long as its client renews it; when the shard leaves, the
 * client is told to look for the new owner. Talks to the transport.
 *
 * Invariant: only committed states are sent, newest last; a slow watcher may miss some in between, never the last.
 */
import type { Clock, Transport } from "../ports/index.ts";
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import type { Activation } from "./activation.ts";
import type { ActorState } from "./definition.ts";
import type { ShardState } from "./shard.ts";

/** A watch that is not renewed for so long is dropped. Clients renew three times as often. */
export const WATCH_TTL_MS = 15_000;

interface Watcher {
  readonly shard: ShardState;
  readonly session: string;
  until_ms: number;
}

export class Watches {
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #byActor = new Map<string, Map<string, Watcher>>();

  #count = 0;

  constructor(transport: Transport, clock: Clock) {
    this.#transport = transport;
    this.#clock = clock;
  }

  /** Adds or renews a watch. Throws `overloaded` over the limit. */
  add(a: Activation, session: string, watch: string): void {
    let watchers = this.#byActor.get(a.id);
    if (watchers?.has(watch) !== true) {
      if (this.#count >= limits.watchesPerNode) this.#dropExpired();
      if (this.#count >= limits.watchesPerNode) {
        const text = `This node has ${limits.watchesPerNode} watches, its limit. End some, or try again later.`;
        throw new KeyturnError("overloaded", text);
      }
      this.#count++;
      // Dropping the expired may have dropped the actor's list.
      watchers = this.#byActor.get(a.id);
    }
    if (watchers === undefined) this.#byActor.set(a.id, (watchers = new Map()));
    watchers.set(watch, { shard: a.shard, session, until_ms: this.#clock.monotonic() + WATCH_TTL_MS });
  }

  remove(id: string, watch: string): void {
    const watchers = this.#byActor.get(id);
    if (watchers?.delete(watch) !== true) return;
    this.#count--;
    if (watchers.size === 0) this.#byActor.delete(id);
  }

  #dropExpired(): void {
    const now = this.#clock.monotonic();
    for (const [id, watchers] of this.#byActor) {
      for (const [watch, { until_ms }] of watchers) if (until_ms < now) this.remove(id, watch);
    }
  }

  watched(id: string): boolean {
    return this.#byActor.size > 0 && this.#byActor.has(id);
  }

  /** @param state null if there is none to show: then the watcher asks why */
  notify(id: string, state: ActorState | null): void {
    const now = this.#clock.monotonic();
    for (const [watch, watcher] of this.#byActor.get(id) ?? []) {
      if (watcher.until_ms < now) this.remove(id, watch);
      else this.#transport.publish(`client.${watcher.session}`, { kind: "watch", watch, state });
    }
  }

  /** The shard leaves this node: its watchers are told to subscribe anew, wherever it is then. */
  move(shard: ShardState): void {
    for (const [id, watchers] of this.#byActor) {
      for (const [watch, watcher] of watchers) {
        if (watcher.shard !== shard) continue;
        this.#transport.publish(`client.${watcher.session}`, { kind: "watch", watch, state: null });
        this.remove(id, watch);
      }
    }
  }
}
