/**
 * `runSource`: runs a source in this process, together with whoever else runs it.
 *
 * Owns the readings of this process's share of the partitions. Talks to the plan, where runners meet.
 *
 * Runners tell the plan that they are there; it answers who else is, and a runner that is silent for its lease is
 * forgotten. Each takes every n-th partition of the sorted list. Where two believe that a partition is theirs, for a
 * moment after one came or went, both read it and one of them gets on (see actors.ts): nothing rests on the sharing but
 * the work that is saved.
 */
import type { Client } from "../../client/client.ts";
import type { Clock } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { PARTITIONS_MAX, type PlanContext, type PlanEvent, type PlannedPartition } from "./words.ts";
import { PLAN_KEY, type SourceShare } from "../../words/sources.ts";
import type { AnySource } from "./define.ts";
import { held } from "./held.ts";
import { PartitionRun } from "./partition.ts";
import { pause } from "./pause.ts";
import { checkWhole } from "./reader.ts";
import { retrying } from "./retrying.ts";
import { type SourceStatus, sourceStatus } from "./status.ts";

export interface RunOptions {
  /** Ends the run, as `stop` does. */
  readonly signal?: AbortSignal;
  /** Others take this process's share after it was silent for so long; milliseconds, 10,000 by default. */
  readonly lease_ms?: number;
  /** Partitions that this process reads at once, if they are not followed; 8 by default. */
  readonly atOnce?: number;
  /** Called with what is in the way, whenever something is that may pass: a store that is full, a server that is away. */
  readonly onTrouble?: (error: unknown) => void;
  /** Name of the node that runs it, to be shown. */
  readonly node?: string | undefined;
}

export interface ProgressOptions {
  /** Between two looks, milliseconds; 1,000 by default. */
  readonly every_ms?: number;
}

export interface SourceProgress extends SourceStatus {
  /** Items a second since the look before. */
  readonly perSecond: number;
  /** What is in the way now, if something is. */
  readonly trouble: string | undefined;
}

const AT_ONCE = 8;
const LEASE_MS = 10_000;
const LEASE_MIN_MS = 300;
const LEASE_MAX_MS = 10 * 60_000;
/** Partitions in one event, about. */
const PLANNED_AT_ONCE = 128;
/** In the end it is asked for so long how the source stands. */
const LAST_MS = 60_000;
/** Between looks at the partitions of others, once all of one's own have ended. */
const LOOK_FIRST_MS = 20;

/**
 * Runs a source, until everything is read (or for ever, if it is followed).
 *
 * Every process that calls it takes a share of the partitions; where one is lost the others take over what it had. The
 * nodes have to host `source.actors`.
 * @throws KeyturnError `invalid_options`
 */
export function runSource(client: Client, source: AnySource, options: RunOptions = {}): SourceRun {
  const { lease_ms = LEASE_MS } = options;
  checkWhole("lease_ms", lease_ms, LEASE_MIN_MS, LEASE_MAX_MS);
  if (options.atOnce !== undefined) checkWhole("atOnce", options.atOnce, 1, PARTITIONS_MAX);
  return new SourceRun(client, source, options, lease_ms);
}

/** A source that is being read by this process. Made by `runSource`. */
export class SourceRun {
  /** Name of this runner, drawn. */
  readonly runner: string;
  /**
   * Resolves with how the source stands once everything is read and delivered, by whichever process, or this run was
   * stopped. Rejects with what no repetition can cure: `source_failed`, `source_changed`, `source_malformed`, and what the
   * client's calls throw. What counted until then stays.
   */
  readonly done: Promise<SourceStatus>;
  readonly #client: Client;
  readonly #source: AnySource;
  readonly #options: RunOptions;
  readonly #lease_ms: number;
  readonly #running = new Map<
    string,
    {
      readonly run: PartitionRun;
      readonly planned: PlanContext["partitions"][number];
      readonly over: Promise<void>;
    }
  >();
  /** What is read, as it is declared here. */
  readonly #groups = new Set<string>();
  /** Own partitions that have ended in this run. */
  readonly #ended = new Set<string>();
  readonly #stop = new AbortController();
  readonly #troubles = new Map<string, unknown>();
  #lag: number | undefined;
  #looking = false;
  #failure: { readonly error: unknown } | undefined;
  #wake: () => void = () => undefined;

  /** @internal */
  constructor(client: Client, source: AnySource, options: RunOptions, lease_ms: number) {
    this.runner = client.world.random.id();
    this.#client = client;
    this.#source = source;
    this.#options = options;
    this.#lease_ms = lease_ms;
    if (options.signal?.aborted === true) this.#stop.abort();
    const stop = (): void => this.#end();
    options.signal?.addEventListener("abort", stop);
    this.done = held(source.from, () => this.#run()).finally(() => {
      options.signal?.removeEventListener("abort", stop);
      this.#stop.abort();
    });
  }

  /** What this runner has of the source, with what it had not read when it looked last. */
  get share(): SourceShare {
    const { unit } = this.#source.from;
    return { node: this.#options.node, partitions: this.#running.size, lag: this.#lag, unit };
  }

  /** What is read, now and then, and at the end; ends with the run. Throws what `done` rejects with. */
  async *progress({ every_ms = 1_000 }: ProgressOptions = {}): AsyncGenerator<SourceProgress> {
    checkWhole("every_ms", every_ms, 1, LEASE_MAX_MS);
    let over = false;
    const end = this.done.finally(() => {
      over = true;
    });
    end.catch(() => undefined);
    const gone = new AbortController();
    let [items, time] = [-1, this.#clock.monotonic()];
    const shown = (status: SourceStatus): SourceProgress => {
      const now = this.#clock.monotonic();
      const perSecond =
        items < 0 ? 0 : Math.round(((status.items - items) * 1_000) / Math.max(1, now - time));
      [items, time] = [status.items, now];
      const [trouble] = this.#troubles.values();
      return { ...status, perSecond, trouble: trouble === undefined ? undefined : String(trouble) };
    };
    try {
      while (!over) {
        yield shown(await sourceStatus(this.#client, this.#source));
        await Promise.race([pause(this.#clock, every_ms, gone.signal), end.catch(() => undefined)]);
      }
      yield shown(await end);
    } finally {
      gone.abort();
    }
  }

  /** How the source stands. */
  status(): Promise<SourceStatus> {
    return sourceStatus(this.#client, this.#source);
  }

  /** Ends this process's share, once nothing of it is on its way; others take it. Resolves when it has ended. */
  async stop(): Promise<void> {
    this.#end();
    await this.done.catch(() => undefined);
  }

  get #clock(): Clock {
    return this.#client.world.clock;
  }

  #end(): void {
    this.#stop.abort();
    for (const { run } of this.#running.values()) run.stop();
    this.#wake();
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#end();
  }

  async #run(): Promise<SourceStatus> {
    const { signal } = this.#stop;
    let met = false;
    try {
      const { from } = this.#source;
      // What is followed may come to be there later.
      const planned = (): Promise<readonly PlannedPartition[]> => from.plan();
      const troubled = (error: unknown): void => this.#troubled("plan", error);
      const partitions = from.follow
        ? await retrying(this.#clock, planned, signal, troubled)
        : await planned();
      met = true;
      await this.#plan(partitions);
      await this.#share();
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
    for (const { run } of this.#running.values()) run.stop();
    await Promise.all([...this.#running.values()].map(({ over }) => over));
    if (met) await this.#leave();
    if (this.#failure !== undefined) throw this.#failure.error;
    return await this.#last();
  }

  /** How it stands in the end; where nobody answers that is not waited for for ever. */
  async #last(): Promise<SourceStatus> {
    const late = new AbortController();
    const cancel = this.#clock.after(LAST_MS, () => late.abort());
    try {
      return await retrying(this.#clock, () => this.status(), late.signal);
    } finally {
      cancel();
    }
  }

  /** Plans what is not planned yet. */
  async #plan(partitions: readonly PlannedPartition[]): Promise<void> {
    let some: PlannedPartition[] = [];
    let plan: PlanContext | undefined;
    for (const [at, partition] of partitions.entries()) {
      some.push(partition);
      this.#groups.add(partition.group);
      // Those of one group are planned in one turn, or not at all.
      const whole = partitions[at + 1]?.group !== partition.group;
      if (!whole || (some.length < PLANNED_AT_ONCE && at + 1 < partitions.length)) continue;
      plan = await this.#meet({ type: "plan", partitions: some });
      some = [];
    }
    const planned = new Set(plan?.partitions.map(({ group }) => group));
    if (planned.size === 0 || [...this.#groups].some((group) => !planned.has(group)))
      throw new KeyturnError(
        "invalid_options",
        `A source has 1 to ${PARTITIONS_MAX} partitions, of everything that it has ever read. Declare another one.`,
      );
  }

  /** Takes its share, again and again, until everything has ended. */
  async #share(): Promise<void> {
    const { signal } = this.#stop;
    let pause_ms = LOOK_FIRST_MS;
    let beat = Number.NEGATIVE_INFINITY;
    let plan: PlanContext | undefined;
    while (!signal.aborted) {
      const now = this.#clock.monotonic();
      if (plan === undefined || now - beat >= this.#lease_ms / 3) {
        const share = this.share;
        plan = await this.#meet({ type: "here", runner: this.runner, lease_ms: this.#lease_ms, share });
        beat = now;
        void this.#look();
      }
      this.#take(plan);
      const idle = this.#running.size === 0;
      if (idle && !this.#source.from.follow && (await this.#allEnded(plan))) return;
      const wait_ms = Math.max(1, this.#lease_ms / 3 - (this.#clock.monotonic() - beat));
      pause_ms = idle ? Math.min(pause_ms * 2, wait_ms) : LOOK_FIRST_MS;
      await this.#pause(idle ? pause_ms : wait_ms);
    }
  }

  /** Looks how much there is; what cannot be looked at does not hold up the reading. */
  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const { from } = this.#source;
    const extents = await Promise.all(
      [...this.#running.values()].map(async ({ run, planned }) => {
        const { position } = run;
        return position === undefined
          ? undefined
          : await from.extent(planned, position).catch(() => undefined);
      }),
    );
    this.#looking = false;
    const known = extents.every((extent) => extent !== undefined);
    this.#lag = known ? extents.reduce((sum, { total, done }) => sum + total - done, 0) : undefined;
  }

  async #allEnded({ partitions }: PlanContext): Promise<boolean> {
    const mine = partitions.filter(({ group }) => this.#groups.has(group));
    if (this.#ended.size === mine.length) return true;
    const status = (): Promise<SourceStatus> => this.status();
    const { partitions: all } = await retrying(this.#clock, status, this.#stop.signal, (error) =>
      this.#troubled("status", error),
    );
    // What this process cannot look at, its runner has to.
    return all.every(
      ({ key, of, ended, extent }) =>
        this.#ended.has(key) ||
        !this.#groups.has(of) ||
        (ended && (this.#source.from.isPartial || extent === undefined || extent.done === extent.total)),
    );
  }

  /** Starts what is its share and does not run, and stops what is another's. */
  #take({ partitions, runners }: PlanContext): void {
    const place = runners.indexOf(this.runner);
    // What is followed never ends, so none may wait for another.
    const most = this.#source.from.follow ? PARTITIONS_MAX : (this.#options.atOnce ?? AT_ONCE);
    for (const [index, planned] of partitions.entries()) {
      const key = String(index);
      // What was read once and is not declared any more, a file that is gone perhaps, is left as it is.
      const own = place >= 0 && index % runners.length === place && this.#groups.has(planned.group);
      const running = this.#running.get(key);
      if (!own) running?.run.stop();
      else if (running === undefined && !this.#ended.has(key) && this.#running.size < most)
        this.#start(key, planned);
    }
  }

  #start(key: string, planned: PlanContext["partitions"][number]): void {
    const [client, source] = [this.#client, this.#source];
    const troubled = (error: unknown): void => this.#troubled(key, error);
    const run = new PartitionRun({ client, source, key, planned, troubled });
    const over = run
      .run()
      .then(
        () => {
          if (!run.stopped) this.#ended.add(key);
        },
        (error: unknown) => this.#fail(error),
      )
      .finally(() => {
        this.#running.delete(key);
        this.#troubles.delete(key);
        this.#wake();
      });
    this.#running.set(key, { run, planned, over });
  }

  #troubled(key: string, error: unknown): void {
    if (error === undefined) this.#troubles.delete(key);
    else {
      this.#troubles.set(key, error);
      this.#options.onTrouble?.(error);
    }
  }

  async #meet(event: PlanEvent): Promise<PlanContext> {
    const ref = this.#client.actor(this.#source.parts.plan, PLAN_KEY);
    const answer = await retrying(
      this.#clock,
      () => ref.ask(event),
      this.#stop.signal,
      (error) => this.#troubled("plan", error),
    );
    return answer as unknown as PlanContext;
  }

  async #leave(): Promise<void> {
    const ref = this.#client.actor(this.#source.parts.plan, PLAN_KEY);
    // If it cannot be said, the lease says it.
    await ref.send({ type: "left", runner: this.runner }).catch(() => undefined);
  }

  async #pause(duration_ms: number): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    if (this.#stop.signal.aborted) return;
    await pause(this.#clock, duration_ms, woken.signal);
  }
}
