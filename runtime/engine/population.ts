/**
 * The stored population: how many actors of each type stand in each state and version, and which of them the hosted
 * types could not read.
 *
 * Owns the walk over everything that is stored, and the verdict on each actor, which is what loading it would say. Talks
 * to the store's reading calls only: nothing is written, no shard is taken, and nodes may go on beside it. Then what is
 * found is of no single moment: an actor that takes turns meanwhile is counted in one of its states, or in two.
 *
 * First the tails, of those shards together that have the same lanes: each actor in them as recovery would find it. Then
 * all snapshots, but for those actors. So memory holds one node's tail, the ids of all tails, and a row for each state.
 *
 * Invariant: an actor that stands still is counted once, and judged by the state that loading it would give.
 */
import type { Segment, ShardEntry, Store, World } from "../ports/index.ts";
import { isKeyturnError, KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { forEach } from "./concurrently.ts";
import type { Registry } from "./definition.ts";
import type { MachineState } from "./machine.ts";
import { adopt } from "./migration.ts";
import { keyOfId, typeOfId } from "./record.ts";
import { rebuild } from "./recovery.ts";
import type { ShardState } from "./shard.ts";
import { type ActorData, decodeSnapshot, type Patch } from "./state.ts";
import { asError } from "./faults.ts";

/** Entries of the shard table that are read at once. */
const TABLE_AT_ONCE = 32;
/** Snapshots in one call of the store. */
const READ_IDS = 512;
const LIST_ENTRIES = 1_000;
/** How often a shard is looked at again whose tail and snapshots do not fit: a node may just have moved it on. */
const LOOKS = 4;
/** States that are told apart; over it the rest of a type's is one row. */
const ROWS_MAX = 10_000;

const UNKNOWN = "?";

/** Why actors cannot be read. */
export interface Problem {
  /** `unknown_type`, `newer_version`, or the code of the error that loading the actor would give. */
  readonly code: string;
  readonly reason: string;
}

/** Actors of one type that stand in one state and version. */
export interface PopulationRow {
  readonly type: string;
  /** Undefined where it cannot be read. */
  readonly version: number | undefined;
  /** Dotted path of the state: `waiting.payment`; of parallel regions one after another, with ` + ` between. */
  readonly state: string;
  readonly actors: number;
  /** Key of the first one that was found. */
  readonly example: string;
  /** Undefined if the hosted types read them. */
  readonly problem: Problem | undefined;
}

/**
 * Counts and judges everything that is stored.
 * @param shards of the app
 * @returns rows by type, version and state
 * @throws KeyturnError `corrupt_record` and `corrupt_snapshot` if a shard itself is damaged, and what the store throws
 */
export async function population(
  store: Store,
  shards: number,
  registry: Registry,
  world: World,
): Promise<PopulationRow[]> {
  const census = new Census(registry, world.clock.now());
  const table = await tableOf(store, shards);
  const inTails = new Set<string>();
  for (const group of groupsOf(table)) {
    const lasts = new Map<string, Promise<number>>();
    const wanted = await Promise.all(group.map((one) => closed(store, one, lasts)));
    for (const state of await rebuild(store, wanted, world.clock.monotonic())) {
      for (const id of state.patches.keys()) inTails.add(id);
      await countTail(store, state, census, world);
    }
  }
  let cursor: string | undefined;
  do {
    const { entries, next } = await store.snapshots.list(LIST_ENTRIES, cursor);
    for (const { id, value } of entries)
      if (!inTails.has(id)) census.take(id, () => decodeSnapshot(id, value));
    cursor = next;
  } while (cursor !== undefined);
  return census.rows();
}

export interface Entry {
  readonly shard: number;
  readonly segments: ShardEntry["segments"];
}

/** What the shard table says, as its owners see it. Shards that nobody has taken yet hold nothing. */
async function tableOf(store: Store, shards: number): Promise<Entry[]> {
  const table: Entry[] = [];
  const numbers = Array.from({ length: shards }, (_, shard) => shard);
  await forEach(numbers, TABLE_AT_ONCE, async (shard) => {
    const stored = await store.directory.readShard(shard);
    if (stored !== undefined) table.push({ shard, segments: stored.entry.segments });
  });
  return table;
}

/** Those with the same lanes together: each lane is read once for all of them. */
export function groupsOf(table: readonly Entry[]): Entry[][] {
  const byLanes = new Map<string, Entry[]>();
  for (const one of table) {
    if (one.segments.length === 0) continue;
    const lanes = one.segments.map(({ lane }) => lane).join();
    const group = byLanes.get(lanes);
    if (group === undefined) byLanes.set(lanes, [one]);
    else group.push(one);
  }
  return [...byLanes.values()];
}

/** A shard with its open segment ended where its lane is now. */
export async function closed(
  store: Store,
  { shard, segments }: Entry,
  lasts: Map<string, Promise<number>>,
): Promise<{ shard: number; segments: Segment[] }> {
  const ended: Segment[] = [];
  for (const segment of segments) {
    let to = segment.to;
    if (to === undefined) {
      const last = lasts.get(segment.lane) ?? store.journal.last(segment.lane);
      lasts.set(segment.lane, last);
      to = await last;
    }
    ended.push({ ...segment, to });
  }
  return { shard, segments: ended };
}

/** Actors of a shard's tail: with their snapshots, as recovery has them. */
async function countTail(store: Store, state: ShardState, census: Census, world: World): Promise<void> {
  let left = await countPatches(store, state.patches, census, false);
  // A node that goes on beside this moves snapshots past the tail that was read: then that is read anew.
  for (let look = 1; left.size > 0 && look <= LOOKS; look++) {
    const stored = await store.directory.readShard(state.shard);
    const entry = { shard: state.shard, segments: stored?.entry.segments ?? [] };
    const [again] = await rebuild(store, [await closed(store, entry, new Map())], world.clock.monotonic());
    const patches = new Map([...left.keys()].map((id) => [id, again?.patches.get(id)]));
    left = await countPatches(store, patches, census, look === LOOKS);
  }
}

/** Counts actors. Gives back those whose snapshots do not fit what the tail says of them, unless that is to be a verdict. */
async function countPatches(
  store: Store,
  patches: ReadonlyMap<string, Patch | undefined>,
  census: Census,
  final: boolean,
): Promise<ReadonlyMap<string, Patch | undefined>> {
  const misfits = new Map<string, Patch | undefined>();
  const ids = [...patches.keys()];
  for (let at = 0; at < ids.length; at += READ_IDS) {
    const part = ids.slice(at, at + READ_IDS);
    const entries = await store.snapshots.read(part);
    part.forEach((id, index) => {
      const value = entries[index]?.value;
      const patch = patches.get(id);
      try {
        const data = together(id, value, patch);
        if (data !== undefined) census.take(id, () => data);
      } catch (error) {
        if (isKeyturnError(error, "corrupt_record") && !final) misfits.set(id, patch);
        else census.refuse(id, error);
      }
    });
  }
  return misfits;
}

/** An actor's state; undefined if it was deleted. */
function together(
  id: string,
  value: Uint8Array | undefined,
  patch: Patch | undefined,
): ActorData | undefined {
  const stored = value === undefined ? undefined : decodeSnapshot(id, value);
  if (patch === undefined) return stored;
  try {
    return patch.applyTo(id, stored, limits.requestsPerActor);
  } catch (error) {
    // Written meanwhile, by a node that had committed more than this has read.
    if (isKeyturnError(error, "corrupt_record") && stored !== undefined && stored.turn > patch.turn)
      return stored;
    throw error;
  }
}

type Row = { -readonly [K in keyof PopulationRow]: PopulationRow[K] };

/** The rows that are being counted. */
class Census {
  readonly #registry: Registry;
  readonly #now: number;
  readonly #rows = new Map<string, Row>();

  constructor(registry: Registry, now: number) {
    this.#registry = registry;
    this.#now = now;
  }

  /** Counts an actor, and tries to load it. */
  take(id: string, read: () => ActorData): void {
    let data: ActorData;
    try {
      data = read();
    } catch (error) {
      this.refuse(id, error);
      return;
    }
    this.#count(id, data.version, pathOf(data.machine.value), this.#problemWith(id, data));
  }

  /** Counts an actor that cannot be read, whatever the types. */
  refuse(id: string, error: unknown): void {
    const { code, message } = asError(error);
    this.#count(id, undefined, UNKNOWN, { code, reason: message });
  }

  rows(): PopulationRow[] {
    const bad = (row: Row): number => (row.problem === undefined ? 0 : 1);
    return [...this.#rows.values()].sort(
      (a, b) =>
        compare(a.type, b.type) ||
        (a.version ?? 0) - (b.version ?? 0) ||
        compare(a.state, b.state) ||
        bad(a) - bad(b) ||
        compare(a.problem?.code ?? "", b.problem?.code ?? ""),
    );
  }

  #problemWith(id: string, data: ActorData): Problem | undefined {
    const type = typeOfId(id);
    const hosted = this.#registry.get(type);
    if (hosted === undefined) {
      return {
        code: "unknown_type",
        reason: `There is no actor type "${type}" any more. Keep it, or delete its actors first.`,
      };
    }
    const { version } = hosted.definition;
    if (data.version > version) {
      return {
        code: "newer_version",
        reason: `Version ${data.version} of "${type}" wrote it, and this is version ${version}. Deploy version ${data.version} or a newer one.`,
      };
    }
    try {
      adopt(hosted, data, this.#now);
      return undefined;
    } catch (error) {
      const { code, message } = asError(error);
      return { code, reason: message };
    }
  }

  #count(id: string, version: number | undefined, path: string, problem: Problem | undefined): void {
    const type = typeOfId(id);
    let state = path;
    let name = nameOf(type, version, state, problem);
    if (!this.#rows.has(name) && this.#rows.size >= ROWS_MAX) {
      state = "(others)";
      name = nameOf(type, version, state, problem);
    }
    const row = this.#rows.get(name);
    if (row === undefined)
      this.#rows.set(name, { type, version, state, actors: 1, example: keyOf(id), problem });
    else row.actors++;
  }
}

function nameOf(type: string, version: number | undefined, state: string, problem?: Problem): string {
  return JSON.stringify([type, version ?? null, state, problem?.code ?? null]);
}

/** An id that no address makes is shown as it is. */
function keyOf(id: string): string {
  try {
    return keyOfId(id);
  } catch (error) {
    if (error instanceof KeyturnError) return id;
    throw error;
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A state value as text; "" for a machine without states. */
export function pathOf(value: MachineState["value"]): string {
  return pathsIn(value, "").join(" + ");
}

function pathsIn(value: MachineState["value"], above: string): string[] {
  const under = (name: string): string => (above === "" ? name : `${above}.${name}`);
  if (typeof value === "string") return [under(value)];
  const regions = Object.entries(value);
  if (regions.length === 0) return above === "" ? [] : [above];
  return regions.flatMap(([name, inner]) => (inner === undefined ? [] : pathsIn(inner, under(name))));
}
