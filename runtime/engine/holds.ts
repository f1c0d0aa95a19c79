/**
 * Who reads the journal from its beginning, and who trims it: never both at once.
 *
 * Owns one entry of the store, `_keep`, beside the snapshots: the readers with the time until which they are taken to
 * be there, until when somebody trims, and how much types ask to be kept, whoever hosts them. Each change is a compare-and-set. Whoever dies is forgotten when its time is
 * over; clocks are taken to agree within a part of that.
 *
 * Invariants:
 * 1. Trimming begins only in an entry that names no reader, and is renewed only in such a one.
 * 2. A reader begins once nobody trims: it has named itself before, so nobody begins to.
 */
import type { Snapshots, World } from "../ports/index.ts";
import { decode, encode } from "../words/codec.ts";
import { HOLDS_ENTRY } from "../words/format.ts";
import { KeepPolicy } from "./keep.ts";

/** A mark holds so long, and is renewed after half of it. */
const MARK_MS = 60_000;
/** A reader that waits for a trimming to end looks this often. */
const LOOK_MS = 100;
/** Changes of the entry by others that are met in a row. */
const TRIES = 32;

interface Keep {
  /** Until when, by name. */
  readonly readers: Readonly<Record<string, number>>;
  /** Who trims, and until when. */
  readonly trimmer: readonly [name: string, until: number] | null;
  /** What types ask to be kept; missing where nobody ever did. */
  readonly types?: Readonly<Record<string, PackedPolicy>>;
}

/** Milliseconds and bytes; both null for everything. */
type PackedPolicy = readonly [age_ms: number | null, bytes: number | null];

const nobody: Keep = { readers: {}, trimmer: null };

/** Changes the entry, unless `change` gives undefined. What it has become, or undefined. */
async function changed(
  snapshots: Snapshots,
  { clock }: World,
  change: (keep: Keep, now: number) => Keep | undefined,
): Promise<Keep | undefined> {
  for (let tries = 0; tries < TRIES; tries++) {
    const [stored] = await snapshots.read([HOLDS_ENTRY]);
    const now = clock.now();
    const next = change(living(stored?.value, now), now);
    if (next === undefined) return undefined;
    const write = {
      id: HOLDS_ENTRY,
      shard: 0,
      value: encode(next),
      expected: stored?.revision ?? 0,
      due: undefined,
    };
    const [revision] = await snapshots.write([write]);
    if (revision !== undefined) return next;
    // A read may be behind.
    await snapshots.sync();
  }
  throw new Error(`The store's entry ${HOLDS_ENTRY} keeps changing.`);
}

function living(bytes: Uint8Array | undefined, now: number): Keep {
  if (bytes === undefined) return nobody;
  const { readers, trimmer, ...others } = decode(bytes) as Keep;
  const there = Object.entries(readers).filter(([, until]) => until > now);
  return {
    ...others,
    readers: Object.fromEntries(there),
    trimmer: trimmer !== null && trimmer[1] > now ? trimmer : null,
  };
}

/**
 * Trims, unless somebody reads from the beginning or trims already.
 * @param work is given what to ask before each step, whether it may still go on; and what types ask to be kept, as of the
 *   moment in which it began
 * @returns false if it did not begin, or was not to go on
 */
export async function trimmingAlone(
  snapshots: Snapshots,
  world: World,
  work: (isAlone: () => Promise<boolean>, types: ReadonlyMap<string, KeepPolicy>) => Promise<void>,
): Promise<boolean> {
  const { clock, random } = world;
  const name = random.id();
  let began = clock.monotonic();
  const take = (keep: Keep, now: number): Keep | undefined => {
    const others = keep.trimmer !== null && keep.trimmer[0] !== name;
    return others || Object.keys(keep.readers).length > 0
      ? undefined
      : { ...keep, trimmer: [name, now + MARK_MS] };
  };
  const begun = await changed(snapshots, world, take);
  if (begun === undefined) return false;
  let alone = true;
  let renewal: Promise<void> | undefined;
  const renew = async (): Promise<void> => {
    const now = clock.monotonic();
    alone = now - began < MARK_MS && (await changed(snapshots, world, take)) !== undefined;
    began = now;
  };
  try {
    await work(async () => {
      if (alone && clock.monotonic() - began >= MARK_MS / 2)
        await (renewal ??= renew().finally(() => {
          renewal = undefined;
        }));
      return alone;
    }, policiesIn(begun));
  } finally {
    await changed(snapshots, world, (keep) =>
      keep.trimmer?.[0] === name ? { ...keep, trimmer: null } : undefined,
    );
  }
  return alone;
}

/** Notes what types ask to be kept. What others ask, and what these asked before they asked no more, stays. */
export async function keepForTypes(
  snapshots: Snapshots,
  world: World,
  policies: ReadonlyMap<string, KeepPolicy>,
): Promise<void> {
  const asked = Object.fromEntries(
    Array.from(policies, ([type, { age_ms, bytes }]): [string, PackedPolicy] => [
      type,
      [age_ms ?? null, bytes ?? null],
    ]),
  );
  await changed(snapshots, world, (keep) => {
    const types = { ...keep.types, ...asked };
    const isNew = Object.entries(asked).some(([type, [age, bytes]]) => {
      const before = keep.types?.[type];
      return before === undefined || before[0] !== age || before[1] !== bytes;
    });
    return isNew ? { ...keep, types } : undefined;
  });
}

/** Forgets what types asked to be kept. */
export async function liftTypes(snapshots: Snapshots, world: World, names: readonly string[]): Promise<void> {
  await changed(snapshots, world, (keep) => {
    const before = Object.entries(keep.types ?? {});
    const left = before.filter(([type]) => !names.includes(type));
    return left.length === before.length ? undefined : { ...keep, types: Object.fromEntries(left) };
  });
}

function policiesIn({ types = {} }: Keep): ReadonlyMap<string, KeepPolicy> {
  return new Map(
    Object.entries(types).map(([type, [age_ms, bytes]]) => [
      type,
      new KeepPolicy(age_ms ?? undefined, bytes ?? undefined),
    ]),
  );
}

/**
 * Holds the journal as it is until it is let go. Resolves once nobody trims.
 * @returns the way to let go
 */
export async function holdJournal(snapshots: Snapshots, world: World): Promise<() => Promise<void>> {
  const { clock, random } = world;
  const name = random.id();
  const mark = (): Promise<Keep | undefined> =>
    changed(snapshots, world, (keep, now) => ({
      ...keep,
      readers: { ...keep.readers, [name]: now + MARK_MS },
    }));
  let over = false;
  let cancel = (): void => undefined;
  const renewLater = (): void => {
    cancel = clock.after(MARK_MS / 2, () => {
      // One that fails is made up for by the next; what is trimmed meanwhile is told.
      mark()
        .catch(() => undefined)
        .finally(() => over || renewLater());
    });
  };
  let keep = await mark();
  renewLater();
  while (keep !== undefined && keep.trimmer !== null) {
    await new Promise<void>((resolve) => clock.after(LOOK_MS, resolve));
    keep = await changed(snapshots, world, (now) => (now.trimmer === null ? undefined : now));
  }
  return async () => {
    over = true;
    cancel();
    await changed(snapshots, world, ({ readers: { [name]: own, ...readers }, ...others }) =>
      own === undefined ? undefined : { ...others, readers },
    ).catch(() => undefined);
  };
}
