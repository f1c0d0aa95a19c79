/** Trimming an app's journal, for programs: `keyturn trim` is the same for the command line. */
import { liftTypes } from "./engine/holds.ts";
import type { Keep } from "./engine/keep.ts";
import { trimJournal as trim, type TrimReport } from "./engine/retention.ts";
import type { Store, World } from "./ports/index.ts";
import { realWorld } from "./world.ts";

/**
 * Trims the journal of an app to what is to be kept; nodes may go on beside it. What recovery needs stays, whatever is
 * asked for, and so does the last hour. Histories and rebuilds say from then on where the past is not whole.
 * @param options.keep `"forever"`, `{ age: "30 days" }`, or `{ bytes: 10e9 }` for about the newest so many
 * @param options.lift types that do not ask to be kept any more (`defineActor({ keep })`): until then what they asked for
 *   stands, also when no node hosts them
 * @throws KeyturnError `invalid_options`, and what the store throws: on NATS it takes the permission to purge
 */
export async function trimJournal(options: {
  readonly store: Store;
  readonly keep: Keep;
  readonly lift?: readonly string[] | undefined;
  readonly world?: World;
}): Promise<TrimReport> {
  const { store, keep, lift = [], world = realWorld } = options;
  if (lift.length > 0) await liftTypes(store.snapshots, world, lift);
  return await trim(store, keep, world);
}
