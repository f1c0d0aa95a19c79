/** Only the beginning of files: for trying a source out, and for examples. */
import { KeyturnError } from "../../words/errors.ts";
import { checkWhole, type Chunk, type SourceReader } from "./reader.ts";

/**
 * Reads of each file only the first so many lines (of Parquet, rows); of CSV the header is one of them. Positions are those
 * of the whole: without `take`, or with a greater number, the same source goes on behind it.
 *
 * ```ts
 * defineSource("trial", { from: take(ndjson({ path: "all.ndjson" }), 1_000), to: … });
 * ```
 * @throws KeyturnError `invalid_options` for a reader whose items are not numbered from 1, as JetStream's are
 */
export function take<T>(reader: SourceReader<T>, most: number): SourceReader<T> {
  checkWhole("How many are taken", most, 1, Number.MAX_SAFE_INTEGER);
  const { numberAt } = reader;
  if (typeof numberAt !== "function" || reader.follow)
    throw new KeyturnError(
      "invalid_options",
      "Only files can be read in part: ndjson, csv, lines and parquet, without follow.",
    );
  return Object.freeze({
    ...reader,
    description: `the first ${most} lines or rows of each, ${reader.description}`,
    isPartial: true as const,
    async *read(partition, position, options): AsyncGenerator<Chunk<T>> {
      if (numberAt(position) >= most) return;
      for await (const chunk of reader.read(partition, position, options)) {
        const { items } = chunk;
        const end = items.findIndex(({ number }) => number > most);
        if (end < 0 && numberAt(chunk.position ?? items.at(-1)?.after ?? null) <= most) {
          yield chunk;
          continue;
        }
        const taken = end < 0 ? items : items.slice(0, end);
        if (taken.length > 0) yield { items: taken };
        return;
      }
    },
    async extent(partition, position) {
      const { done, total } = await reader.extent(partition, position);
      return numberAt(position) >= most ? { done, total: done } : { done, total };
    },
  } satisfies SourceReader<T>);
}
