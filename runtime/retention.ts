/** Trimming an app's journal, for programs: `keyturn trim` is the same for the command line. */
import { type Keep, trimJournal as trim, type TrimReport } from "./engine/retention.ts";
import type { Store, World } from "./ports/index.ts";
import { realWorld } from "./world.ts";

/**
 * Trims the journal of an app to what is to be kept; nodes may go on beside it. What recovery needs stays, whatever is
 * asked for, and so does the last hour. Histories and rebuilds say from then on where the past is not whole.
 * @param options.keep `"forever"`, `{ age: "30 days" }`, or `{ bytes: 10e9 }` for about the newest so many
 * @throws KeyturnError `invalid_options`, and what the store throws: on NATS it takes the permission to purge
 */
export function trimJournal(options: {
  readonly store: Store;
  readonly keep: Keep;
  readonly world?: World;
}): Promise<TrimReport> {
  return trim(options.store, options.keep, options.world ?? realWorld);
}
