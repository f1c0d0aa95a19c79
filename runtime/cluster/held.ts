/** A shard that this incarnation has, or is about to have. Owned by the ownership; see there for its life. */
import type { Versions } from "../ports/index.ts";
import type { ShardState } from "../engine/shard.ts";
import type { Frame } from "../words/frames.ts";

export interface Held {
  readonly number: number;
  phase: "acquiring" | "serving" | "draining";
  state: ShardState | undefined;
  /** Revision of the shard table's entry that says that it is ours. */
  revision: number;
  epoch: number;
  /** What the entry says that the shard needs. */
  versions: Versions | undefined;
  readonly pending: Frame[];
  readonly unsubscribe: () => void;
}
