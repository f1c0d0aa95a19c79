/**
 * One life of a node: from joining to leaving, or to being fenced.
 *
 * Owns the incarnation's name, its engine, membership and ownership, and the beats of its heart. The node starts a new
 * one when this one was fenced.
 *
 * Life: joining → active → leaving → over; `over` from any.
 */
import { Engine } from "../engine/engine.ts";
import type { EngineParts } from "../engine/parts.ts";
import type { Registry } from "../engine/definition.ts";
import type { Observer } from "../engine/observer.ts";
import { Repeated } from "../engine/concurrently.ts";
import type { KeepPolicy } from "../engine/keep.ts";
import type { Tally } from "../engine/tally.ts";
import type { Telemetry } from "../engine/telemetry.ts";
import type { Store, World } from "../ports/index.ts";
import type { NodeSettings } from "../words/limits.ts";
import { Keeper } from "./keeper.ts";
import { Membership } from "./membership.ts";
import { versionsOf } from "./versions.ts";
import { Ownership } from "./ownership.ts";

export interface NodeParts {
  readonly node: string;
  readonly weight: number;
  readonly world: World;
  readonly store: Store;
  readonly settings: NodeSettings;
  readonly registry: Registry;
  readonly shards: number;
  readonly observer: Observer;
  readonly tally: Tally;
  readonly telemetry: Telemetry | undefined;
  readonly keep: KeepPolicy;
}

export type Phase = "joining" | "active" | "leaving" | "over";

export class Incarnation {
  readonly name: string;
  readonly engine: Engine;
  readonly membership: Membership;
  readonly ownership: Ownership;
  readonly #parts: NodeParts;
  readonly #onOver: () => void;
  readonly #unwatch: () => void;
  #phase: Phase = "joining";
  #cancelTick: (() => void) | undefined;
  #ticks = 0;
  readonly #listing = new Repeated(() => this.#look());
  #checkpointed_ms: number;
  #checkpointing = false;
  readonly #keeper: Keeper;

  /** @param onOver called once if this incarnation ends without having been told to */
  constructor(parts: NodeParts, onOver: () => void) {
    this.#parts = parts;
    this.#onOver = onOver;
    const { store, world, settings, registry, shards, observer, tally, telemetry, node, weight } = parts;
    this.name = `${node}-${world.random.id()}`;
    const types = [...registry.keys()];
    const versions = versionsOf(registry);
    const named = versions === undefined ? {} : { versions };
    const self = { node, incarnation: this.name, weight, beat: 0, leaving: false, types, ...named };
    this.membership = new Membership(store.directory, world.clock, settings.lease_ms, self);
    const engineParts: EngineParts = {
      incarnation: this.name,
      world,
      store,
      settings,
      registry,
      shards,
      lease: this.membership,
      observer,
      tally,
      telemetry,
      onFenced: () => this.#fenced(),
    };
    this.engine = new Engine(engineParts);
    this.ownership = new Ownership(this.engine, this.membership);
    this.#checkpointed_ms = world.clock.monotonic();
    this.#keeper = new Keeper({
      store,
      world,
      policy: parts.keep,
      every_ms: settings.trim_ms,
      observer,
      tally,
      isMine: () => this.#phase === "active" && this.engine.shards.has(FIRST_SHARD),
    });
    this.#unwatch = store.directory.watch((shard) => this.#noticed(shard));
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Joins the others. Resolves when the first look at the shards is done and what was free is served. */
  async join(): Promise<void> {
    const listed = await this.membership.join();
    // Joining again after a first look had failed, it may have been fenced meanwhile: a dead one must not go on beating.
    if (this.#phase !== "joining" && this.#phase !== "active") return;
    if (!listed) {
      this.ownership.lose();
      return;
    }
    this.#phase = "active";
    this.#arrangeTick();
    await this.membership.look();
    await this.ownership.reconcile();
  }

  /** Hands all shards over and leaves. */
  async leave(): Promise<void> {
    if (this.#phase === "over") return;
    this.#phase = "leaving";
    await this.#quietly("heartbeat", () => this.#heartbeat(() => this.membership.leave()));
    // A store that answers nothing must not hold the process: what is not handed over then is taken over.
    let cancel = (): void => undefined;
    const late = new Promise<void>((resolve) => {
      cancel = this.#parts.world.clock.after(LEAVE_MS, resolve);
    });
    await Promise.race([this.#handOver(), late]);
    cancel();
    this.#end();
    await this.#quietly("leave", () => this.#unlist());
  }

  async #handOver(): Promise<void> {
    for (let tries = 0; tries < LEAVE_TRIES && !this.ownership.isEmpty && !this.engine.stopped; tries++) {
      await this.#quietly("release shards", () => this.ownership.reconcile());
    }
  }

  /** Ends at once, as a killed process does: nothing is flushed or released. */
  kill(): void {
    this.#end();
  }

  #fenced(): void {
    if (this.#phase === "over") return;
    const leaving = this.#phase === "leaving";
    this.#end();
    // Its shards may be taken at once: this life is certainly over.
    void this.#quietly("leave", () => this.#unlist());
    if (!leaving) this.#onOver();
  }

  async #unlist(): Promise<void> {
    await this.#parts.store.directory.leave(this.name);
  }

  #end(): void {
    this.#phase = "over";
    this.#unwatch();
    this.#cancelTick?.();
    this.membership.end();
    this.ownership.stop();
    this.engine.stop();
  }

  #arrangeTick(): void {
    if (this.#phase === "over") return;
    this.#cancelTick?.();
    const { world, settings } = this.#parts;
    this.#cancelTick = world.clock.after(settings.heartbeat_ms / LOOKS_PER_BEAT, () => {
      this.#arrangeTick();
      this.#tick();
    });
  }

  #tick(): void {
    const beats = ++this.#ticks % LOOKS_PER_BEAT === 0;
    // One that does not get through is not waited for.
    if (beats || this.membership.silence_ms > this.#parts.settings.heartbeat_ms)
      void this.#quietly("heartbeat", () => this.#heartbeat(() => this.membership.beat()));
    void this.#quietly("look", async () => {
      if (await this.membership.follow()) await this.#listing.run();
    });
    if (!beats) return;
    void this.#quietly("look", () => this.#listing.run());
    this.#reconcile(true);
    this.#maintain();
  }

  async #heartbeat(send: () => Promise<boolean>): Promise<void> {
    if (await send()) return;
    // Taken off the list: its shards are taken, or will be.
    this.ownership.lose();
  }

  #noticed(shard: number | undefined): void {
    // Before it has joined it is no member: the others would take its shards for abandoned.
    if (this.#phase === "over" || this.#phase === "joining") return;
    if (shard === undefined) void this.#quietly("look", () => this.#listing.run());
    else void this.#quietly("reconcile", () => this.ownership.offer(shard));
  }

  async #look(): Promise<void> {
    const { version } = this.membership;
    await this.membership.look();
    if (this.membership.isAskedToLeave && this.#phase === "active") this.#drain();
    if (this.membership.version !== version) this.#reconcile(false);
  }

  /** Somebody asked for it: it gives its shards to the others, and stays a member that has none. */
  #drain(): void {
    this.#parts.observer.askedToLeave(this.name);
    void this.#quietly("heartbeat", () => this.#heartbeat(() => this.membership.leave()));
    this.#reconcile(true);
  }

  #reconcile(anew: boolean): void {
    if (this.#phase === "over" || this.#phase === "joining") return;
    void this.#quietly("reconcile", () => this.ownership.reconcile(anew));
  }

  /** What is due now and then: checkpoints, trimming, and the look for timers that come near. */
  #maintain(): void {
    const { settings, world } = this.#parts;
    this.#keeper.tick();
    const now = world.clock.monotonic();
    void this.#quietly("timers", () => this.ownership.extendTimers(world.clock.now()));
    const { records, bytes } = this.engine.tail;
    const due =
      records >= settings.checkpointRecords ||
      bytes >= settings.checkpointBytes ||
      (records > 0 && now - this.#checkpointed_ms >= settings.checkpoint_ms);
    if (!due || this.#checkpointing) return;
    this.#checkpointing = true;
    this.#checkpointed_ms = now;
    void this.#quietly("checkpoint", () => this.ownership.checkpoint()).then(() => {
      this.#checkpointing = false;
    });
  }

  async #quietly(task: string, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.#parts.observer.troubled(task, error);
    }
  }
}

/** Whoever serves it trims the journal. */
const FIRST_SHARD = 0;
const LEAVE_TRIES = 5;
const LEAVE_MS = 60_000;
/** A heartbeat of another is seen at most this part of its interval late. */
const LOOKS_PER_BEAT = 3;
