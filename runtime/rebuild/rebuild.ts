/**
 * Rebuilds a type: replays its journal through a new definition beside the running one, compares, and switches over.
 *
 * Owns the passes over the journal and what of them is kept in memory. Talks to the store's reading calls; only
 * `promote` changes anything, and only through requests to the actors' owners (promote.ts).
 *
 * Invariants:
 * 1. Until `promote` nothing is written but that somebody reads the journal, so that it is not trimmed meanwhile; no
 *    shard is taken, and no outside effect is run.
 * 2. Every actor is replayed up to one position of the journal, and compared with its running state at that very turn.
 * 3. Memory holds one part of the actors: a pass that would hold more is given up and done in two.
 */
import { getHeapStatistics } from "node:v8";
import type { Client } from "../client/client.ts";
import { type AnyActorDefinition, type HostedType, registryOf } from "../engine/definition.ts";
import { holdJournal } from "../engine/holds.ts";
import { persist } from "../engine/machine.ts";
import { typeOfId } from "../engine/record.ts";
import type { JournalEnds, Store, World } from "../ports/index.ts";
import { placeOfId } from "../words/address.ts";
import { isKeyturnError, KeyturnError } from "../words/errors.ts";
import { seqAt } from "../words/position.ts";
import { realWorld } from "../world.ts";
import { differences } from "./compare.ts";
import type { Life } from "./life.ts";
import { Part } from "./part.ts";
import { promotePart, type PromoteReport } from "./promote.ts";
import { Replay } from "./replay.ts";
import { type RebuildReport, stateText, Tally } from "./report.ts";
import { RunningStates } from "./running.ts";

/** Actors of one pass: their states take a kilobyte or two each, if they are small. */
const KEYS_MAX = 500_000;
/** Looks at how much memory is used, by actors that have come. */
const LOOK_KEYS = 16_384;
/** The share of the heap that a pass may use. */
const HEAP_SHARE = 0.7;
const PROGRESS_MS = 250;
const LIST_ENTRIES = 1_000;

export interface RebuildOptions {
  /** The store of the app: one that is open in this process already, or another connection to the same server. */
  readonly store: Store;
  /** The new definition, or several of which `type` names one. */
  readonly actors: AnyActorDefinition | readonly AnyActorDefinition[];
  /** Needed if there are several. */
  readonly type?: string;
  /** Try events too that the running definition refused and that left a record; false by default. */
  readonly retryRefused?: boolean;
  /** Begin actors whose oldest turns have been trimmed with the first whole state that is left; false by default. */
  readonly fromSnapshots?: boolean;
  /**
   * `promote` also tells others what the new definition would have told them and the running one has not: each message
   * once, in the turn that replaces its actor. Nothing that others were told is taken back, and what they were told
   * otherwise stands. False by default.
   */
  readonly tell?: boolean;
  /** Actors in memory at once, 500,000 by default; more take further passes over the journal. */
  readonly keysMax?: number;
  readonly onProgress?: ((progress: RebuildProgress) => void) | undefined;
  readonly world?: World;
}

export interface RebuildProgress {
  readonly phase: "replay" | "compare" | "promote";
  /** From 1. */
  readonly pass: number;
  /** Passes that are known to be needed, at least. */
  readonly passes: number;
  /** Journal entries read in this pass, or actors compared or promoted. */
  readonly done: number;
  readonly total: number;
  /** Records replayed so far, in all passes. */
  readonly records: number;
  readonly elapsed_ms: number;
}

/**
 * Replays and compares. Changes nothing.
 * @throws KeyturnError `invalid_options`, `corrupt_record` and what the store throws
 */
export async function rebuildType(options: RebuildOptions): Promise<Rebuild> {
  const { store, type, keysMax = KEYS_MAX } = options;
  const definitions = (
    Array.isArray(options.actors) ? options.actors : [options.actors]
  ) as readonly AnyActorDefinition[];
  const registry = registryOf(definitions);
  const named = type ?? (definitions.length === 1 ? definitions[0]?.type : undefined);
  const hosted = named === undefined ? undefined : registry.get(named);
  if (hosted === undefined) {
    const known = [...registry.keys()].join(", ");
    throw new KeyturnError(
      "invalid_options",
      named === undefined
        ? `Say which type is to be rebuilt: ${known}.`
        : `There is no actor type "${named}" among the new definitions: ${known}.`,
    );
  }
  if (!(Number.isSafeInteger(keysMax) && keysMax > 0))
    throw new KeyturnError("invalid_options", `keysMax is a whole number from 1, not ${keysMax}.`);
  const settings = await store.directory.settings();
  if (settings === undefined)
    throw new KeyturnError("not_provisioned", `There is no app in ${store.description}.`);
  const rebuild = new Rebuild(options, hosted, settings.shards, keysMax);
  await rebuild.replay();
  return rebuild;
}

/** A part that was replayed and compared, as long as it is in memory. */
export interface Pass {
  readonly replay: Replay;
  /** Actors that `promote` has to replace. */
  readonly changed: Map<string, Life>;
  readonly tally: Tally;
  /** Of the replay alone. */
  elapsed_ms: number;
}

/** A type replayed through another definition: what came out, and the way to switch over. Made by `rebuildType`. */
export class Rebuild {
  readonly hosted: HostedType;
  readonly shards: number;
  readonly #options: RebuildOptions;
  readonly #world: World;
  readonly #keysMax: number;
  readonly #tally = new Tally();
  /** Parts that the passes had. */
  readonly #parts: Part[] = [];
  /** The only pass, if there was only one: it need not be done again. */
  #kept: Pass | undefined;
  #records = 0;
  #replayed_ms = 0;
  #others: ReadonlySet<string> = new Set();

  /** @internal */
  constructor(options: RebuildOptions, hosted: HostedType, shards: number, keysMax: number) {
    this.#options = options;
    this.hosted = hosted;
    this.shards = shards;
    this.#keysMax = keysMax;
    this.#world = options.world ?? realWorld;
  }

  get report(): RebuildReport {
    const { type, version } = this.hosted.definition;
    const elapsed_ms = this.#replayed_ms;
    const per_s = elapsed_ms === 0 ? 0 : Math.round((this.#records / elapsed_ms) * 1_000);
    const passes = this.#parts.length;
    return { type, version, records: this.#records, elapsed_ms, per_s, passes, ...this.#tally.findings };
  }

  /**
   * Whether the new definition makes of every past what the running one has made, refuses nothing of it, and tells others
   * the same.
   */
  get same(): boolean {
    const { differing, rejected, unbegun, tells } = this.report;
    return differing === 0 && rejected.length === 0 && unbegun.count === 0 && tells.rows.length === 0;
  }

  /** Types in the journal that are not the one rebuilt. */
  get otherTypes(): ReadonlySet<string> {
    return this.#others;
  }

  /** @internal */
  async replay(): Promise<void> {
    await this.#holding(() => this.#replay());
  }

  /** Nothing is trimmed meanwhile, if this process may say that it reads; else the report says what was missing. */
  async #holding<T>(work: () => Promise<T>): Promise<T> {
    const { snapshots, directory } = this.#options.store;
    // Where no node runs, nobody trims, and nothing is to be written.
    if ((await directory.members()).length === 0) return await work();
    const letGo = await holdJournal(snapshots, this.#world).catch((error: unknown) => {
      if (isKeyturnError(error) && !error.retryable) return undefined;
      throw error;
    });
    try {
      return await work();
    } finally {
      await letGo?.();
    }
  }

  async #replay(): Promise<void> {
    const ends = await this.#options.store.journal.ends();
    const todo = [Part.all(this.shards)];
    for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
      const pass = await this.#pass(part, ends, this.#parts.length + 1, todo.length);
      if (pass === undefined) {
        todo.push(...part.split());
        continue;
      }
      this.#parts.push(part);
      this.#tally.add(pass.tally);
      this.#records += pass.replay.counts.records;
      this.#replayed_ms += pass.elapsed_ms;
      this.#others = pass.replay.others;
      this.#kept = this.#parts.length === 1 && todo.length === 0 ? pass : undefined;
    }
  }

  /**
   * Switches every actor over whose state differs, or that an older version recorded: one turn each, taken by its owner
   * only if the actor stands where it was seen; what it took meanwhile is replayed first. May be called again, also by
   * another process after this one has died: what is done stays done.
   * @param client of the app, whose nodes must all host the new definition
   * @throws KeyturnError `newer_version` if some node hosts another version
   */
  async promote(client: Client, signal?: AbortSignal): Promise<PromoteReport> {
    await this.#checkNodes();
    return await this.#holding(() => this.#promote(client, signal));
  }

  async #promote(client: Client, signal: AbortSignal | undefined): Promise<PromoteReport> {
    const total: PromoteReport = { promoted: 0, told: 0, failed: 0, gone: 0, failures: [] };
    const todo = [...this.#parts];
    for (let number = 1; todo.length > 0 && !signal?.aborted; number++) {
      const part = todo.shift() as Part;
      const { journal } = this.#options.store;
      const pass = this.#kept ?? (await this.#pass(part, await journal.ends(), number, todo.length));
      this.#kept = undefined;
      if (pass === undefined) {
        // It has grown meanwhile.
        todo.unshift(...part.split());
        continue;
      }
      const done = await promotePart(pass, {
        store: this.#options.store,
        client,
        definition: this.hosted.definition,
        signal,
        tell: this.#options.tell === true,
        compare: (lives) => this.#changedOf(lives, part),
        progress: (count, of) => this.#progress("promote", number, number + todo.length, count, of, 0, pass),
      });
      total.promoted += done.promoted;
      total.told += done.told;
      total.failed += done.failed;
      total.gone += done.gone;
      total.failures.push(...done.failures.slice(0, Math.max(0, 100 - total.failures.length)));
    }
    return total;
  }

  /** One pass; undefined if it would hold too many actors. */
  async #pass(
    part: Part,
    ends: readonly JournalEnds[],
    number: number,
    left: number,
  ): Promise<Pass | undefined> {
    const { store, retryRefused = false, fromSnapshots = false, tell = false } = this.#options;
    const tally = new Tally();
    const counts = { batches: 0, bytes: 0, records: 0, deleted: 0 };
    const replay = new Replay(
      { hosted: this.hosted, findings: tally, retryRefused, fromSnapshots, tell },
      part,
      counts,
    );
    const pass: Pass = { replay, changed: new Map(), tally, elapsed_ms: 0 };
    const total = ends.reduce((sum, { first, last }) => sum + (last < first ? 0 : last - first + 1), 0);
    const { clock } = this.#world;
    const began = clock.monotonic();
    let told = began;
    let looked = 0;
    const goesOn = (): boolean => {
      const now = clock.monotonic();
      if (now - told >= PROGRESS_MS) {
        told = now;
        this.#progress("replay", number, number + left, counts.batches, total, now - began, pass);
      }
      const { size } = replay.lives;
      if (size > this.#keysMax) return false;
      if (size < looked + LOOK_KEYS) return true;
      looked = size;
      return !isHeapUsed();
    };
    if (!(await replay.follow(store.journal, ends, goesOn))) return undefined;
    // Where there are several journals, their ends were not read at one moment.
    for (let before = Number.POSITIVE_INFINITY; replay.waiting > 0 && replay.waiting < before; ) {
      before = replay.waiting;
      await replay.follow(store.journal, await store.journal.ends());
    }
    replay.settle();
    const elapsed = clock.monotonic() - began;
    pass.elapsed_ms = elapsed;
    this.#progress("replay", number, number + left, counts.batches, total, elapsed, pass);
    await this.#compare(pass, ends, number, number + left);
    return pass;
  }

  async #compare(pass: Pass, ends: readonly JournalEnds[], number: number, passes: number): Promise<void> {
    const { replay, tally, changed } = pass;
    const { lives } = replay;
    const whole: Life[] = [];
    tally.keys = lives.size;
    for (const life of lives.values()) {
      if (!life.whole) tally.notWhole.add(life.key);
      if (life.snapshot !== undefined) whole.push(life);
      else if (life.whole) tally.unbegun.add(life.key);
    }
    const { clock } = this.#world;
    const began = clock.monotonic();
    let done = 0;
    const progress = (): void =>
      this.#progress("compare", number, passes, done, whole.length, clock.monotonic() - began, pass);
    const found = await this.#changedOf(whole, replay.part, (life, differs, outdated, list) => {
      if (++done % 16_384 === 0) progress();
      if (outdated) tally.outdated++;
      if (list === undefined) tally.notWhole.add(life.key);
      else tally.compared(life.key, list);
      return differs;
    });
    for (const life of found) changed.set(life.id, life);
    if (this.#options.tell === true)
      for (const life of whole) if (replay.untold(life).length > 0) changed.set(life.id, life);
    // Also where nothing is left at all: whoever has snapshots has had a past.
    if (replay.trimmed || replay.counts.batches === 0 || ends.some(({ first }) => seqAt(first) > 1))
      await this.#lost(replay, tally);
    progress();
  }

  /** Those whose running states, as of where they stand, are not what they were rebuilt as, or of an older version. */
  async #changedOf(
    lives: Iterable<Life>,
    part: Part,
    note: (
      life: Life,
      differs: boolean,
      outdated: boolean,
      list: ReturnType<typeof differences> | undefined,
    ) => void = () => undefined,
  ): Promise<Life[]> {
    const { type, version } = this.hosted.definition;
    const states = new RunningStates(this.#options.store, this.#world);
    await states.open(part, type);
    const changed: Life[] = [];
    await states.each(lives, (life, running) => {
      if (life.snapshot === undefined) return;
      const rebuilt = { machine: persist(life.snapshot), timers: life.timers };
      if ("missing" in running) {
        const begins = running.missing === "not begun";
        if (begins) changed.push(life);
        const after = stateText(rebuilt.machine);
        note(life, begins, false, begins ? [{ path: "state", before: "(none)", after }] : undefined);
        return;
      }
      const list = differences(running, rebuilt);
      const outdated = running.version !== version;
      const differs = list.length > 0 || outdated;
      if (differs) changed.push(life);
      note(life, differs, outdated, list);
    });
    return changed;
  }

  /** Actors whose records have all been trimmed: only their snapshots are left. */
  async #lost({ lives, part }: Replay, tally: Tally): Promise<void> {
    const { store } = this.#options;
    const { type } = this.hosted.definition;
    const seen = new Set<string>();
    let cursor: string | undefined;
    do {
      const page = await store.snapshots.list(LIST_ENTRIES, cursor);
      for (const { id } of page.entries) {
        if (typeOfId(id) !== type || lives.has(id) || seen.has(id)) continue;
        const { key, shard } = placeOfId(id, this.shards);
        if (part.shards[shard] !== 1 || !part.hasId(id)) continue;
        seen.add(id);
        tally.keys++;
        tally.notWhole.add(key);
      }
      cursor = page.next;
    } while (cursor !== undefined);
  }

  async #checkNodes(): Promise<void> {
    const { type, version } = this.hosted.definition;
    for (const { node, types, versions } of await this.#options.store.directory.members()) {
      const theirs = versions?.[type] ?? 1;
      if (!types.includes(type) || theirs === version) continue;
      throw new KeyturnError(
        "newer_version",
        `The node ${node} hosts version ${theirs} of "${type}", and this is version ${version}. Deploy version ${version} on every node first, then promote.`,
      );
    }
  }

  #progress(
    phase: RebuildProgress["phase"],
    pass: number,
    passes: number,
    done: number,
    total: number,
    elapsed_ms: number,
    { replay }: Pass,
  ): void {
    const records = this.#records + replay.counts.records;
    this.#options.onProgress?.({ phase, pass, passes, done, total, records, elapsed_ms });
  }
}

function isHeapUsed(): boolean {
  const { used_heap_size, heap_size_limit } = getHeapStatistics();
  return used_heap_size > heap_size_limit * HEAP_SHARE;
}
