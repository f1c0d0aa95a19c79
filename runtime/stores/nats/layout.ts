/**
 * How an app's data is spread over streams; frozen when the app is created.
 *
 * Owns the rules by which a lane belongs to a journal and a shard to a bucket. Talks to nobody.
 */
import { hashTokens } from "../../words/address.ts";
import { KeyturnError } from "../../words/errors.ts";
import { JOURNALS_MAX } from "../../words/position.ts";

export interface Layout {
  /** Buckets of snapshots; a shard has its entries in one. */
  readonly snapshotBuckets: number;
  /** Streams of the journal; a lane lies in one. */
  readonly journals: number;
}

/** What is asked for; what is not named may be as it is. */
export type AskedLayout = { readonly [K in keyof Layout]?: Layout[K] | undefined };

export const UNSPREAD: Layout = { snapshotBuckets: 1, journals: 1 };

export const LAYOUT_MAX = { snapshotBuckets: 1_024, journals: JOURNALS_MAX } as const;

/** @throws KeyturnError `invalid_options` */
export function checkLayout(wanted: AskedLayout): void {
  for (const [name, max] of Object.entries(LAYOUT_MAX)) {
    const value = wanted[name as keyof Layout];
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 1 && value <= max))
      throw new KeyturnError("invalid_options", `${name} is a whole number from 1 to ${max}, not ${value}.`);
  }
}

/** The layout in an app's stored settings: only what differs from the ordinary is written there. */
export function layoutIn(settings: unknown): Layout {
  const layout = { ...UNSPREAD, ...pick((settings ?? {}) as Partial<Layout>) };
  checkLayout(layout);
  return layout;
}

/** What of a layout is written into the settings. */
export function layoutOut({ snapshotBuckets, journals }: Layout): Partial<Layout> {
  return { ...(snapshotBuckets === 1 ? {} : { snapshotBuckets }), ...(journals === 1 ? {} : { journals }) };
}

function pick({ snapshotBuckets, journals }: Partial<Layout>): Partial<Layout> {
  return {
    ...(snapshotBuckets === undefined ? {} : { snapshotBuckets }),
    ...(journals === undefined ? {} : { journals }),
  };
}

/** @throws KeyturnError `app_mismatch` if an app is spread otherwise than is asked for */
export function sameLayout(app: string, found: Layout, wanted: AskedLayout): void {
  for (const name of ["snapshotBuckets", "journals"] as const) {
    const asked = wanted[name];
    if (asked === undefined || asked === found[name]) continue;
    throw new KeyturnError(
      "app_mismatch",
      `The app "${app}" was created with ${name}: ${found[name]}, not ${asked}. That is frozen: use it as it is, or another app name.`,
    );
  }
}

/** In which journal a lane lies. Written into stores; it never changes. */
export function journalOf(lane: string, { journals }: Layout): number {
  return journals === 1 ? 0 : hashTokens(lane, "") % journals;
}

/** In which bucket a shard has its snapshots. Written into stores; it never changes. */
export function bucketOf(shard: number, { snapshotBuckets }: Layout): number {
  return shard % snapshotBuckets;
}
