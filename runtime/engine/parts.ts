/** What an engine is given, and by whom it is heard. */
import type { Store, World } from "../ports/index.ts";
import type { NodeSettings } from "../words/limits.ts";
import type { Registry } from "./definition.ts";
import type { Observer } from "./observer.ts";
import type { Tally } from "./tally.ts";
import type { Telemetry } from "./telemetry.ts";

/** Whether this node is sure that no other can own its shards. */
export interface Lease {
  holds(): boolean;
}

export interface EngineParts {
  readonly incarnation: string;
  readonly world: World;
  readonly store: Store;
  readonly settings: NodeSettings;
  readonly registry: Registry;
  readonly shards: number;
  readonly lease: Lease;
  readonly observer: Observer;
  readonly tally: Tally;
  readonly telemetry: Telemetry | undefined;
  /** Called once, when this incarnation can never commit again. */
  readonly onFenced: () => void;
}
