/**
 * Owners of shards that keep no stored index, among others that do: as nodes of an older version, or such that do not
 * host a type. Whoever comes next has to notice that an index misses what they stored.
 */
import { IndexWriter } from "../../runtime/engine/catalog/index-writer.ts";
import type { ShardState } from "../../runtime/engine/shard.ts";
import type { Patcher } from "./bugs/index.ts";

/** Those before the first checkpoint, and every third or so; the same in every run of a seed. */
export function isForgetful({ shard, epoch, stored }: ShardState): boolean {
  return stored.revision === 0 || (shard * 7 + epoch * 5) % 3 === 0;
}

/** They begin anew when all is known, as after an upgrade. */
export function forgetIndexes(patch: Patcher): void {
  patch.replace(
    IndexWriter.prototype,
    "add",
    (original) =>
      function (this: IndexWriter, shard) {
        original.call(this, shard);
        if (isForgetful(shard)) shard.indexed.clear();
      },
  );
}
