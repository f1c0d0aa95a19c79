/** The entries with the highest values, as they come by: as many are kept as are wanted. */
import { compareKeys } from "../../words/address.ts";
import { KeyturnError } from "../../words/errors.ts";

/**
 * Highest first; of equal ones the first by key. What has no number is left out.
 * @param name of the number, for the error
 * @throws KeyturnError `invalid_options` for what is no number
 */
export async function highest<E extends { readonly key: string }>(
  entries: AsyncIterable<E>,
  limit: number,
  numberIn: (entry: E) => unknown,
  name: string,
): Promise<readonly E[]> {
  const best: { readonly entry: E; readonly value: number }[] = [];
  for await (const entry of entries) {
    const value = numberIn(entry) ?? undefined;
    if (value === undefined) continue;
    if (typeof value !== "number" || Number.isNaN(value))
      throw new KeyturnError(
        "invalid_options",
        `"${name}" of the key ${JSON.stringify(entry.key)} is no number; say by which number: top(10, ({ values }) => …).`,
      );
    const isBehind = (other: (typeof best)[number]): boolean =>
      other.value === value ? compareKeys(other.entry.key, entry.key) > 0 : other.value < value;
    if (best.length === limit && !isBehind(best[limit - 1] as (typeof best)[number])) continue;
    let at = best.length;
    while (at > 0 && isBehind(best[at - 1] as (typeof best)[number])) at--;
    best.splice(at, 0, { entry, value });
    if (best.length > limit) best.pop();
  }
  return best.map(({ entry }) => entry);
}
