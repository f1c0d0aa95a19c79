/**
 * Who uses a reader in this process, so that its connections end with the last of them.
 *
 * Owns a count for each reader.
 */
import type { SourceReader } from "./reader.ts";

const users = new WeakMap<SourceReader, number>();

/** Does something with a reader; closes it afterwards if nobody else uses it. */
export async function held<T>(reader: SourceReader, work: () => Promise<T>): Promise<T> {
  users.set(reader, (users.get(reader) ?? 0) + 1);
  try {
    return await work();
  } finally {
    const left = (users.get(reader) ?? 1) - 1;
    users.set(reader, left);
    if (left === 0) await reader.close?.();
  }
}
