/**
 * How much more the store may hold.
 *
 * Owns the limit that `mapSize_bytes` sets. Talks to the Environment. LMDB as lmdb-js builds it enlarges its map where
 * others would say that it is full, so the limit is kept here, before a transaction begins. A real full disk shows as
 * an error of the transaction instead.
 *
 * Invariants:
 * 1. What is in use never grows past the limit by more than one transaction's own tree pages.
 * 2. The data file never grows past the map, so that LMDB never has to enlarge it.
 */
import type { Environment } from "./environment.ts";

const MiB = 1024 * 1024;
/** Tree pages that a transaction may have to copy or add, besides its values. */
const TREE_BYTES = MiB / 8;

/** What the data file may hold beyond the limit in pages that are free again, but do not fit. */
function fileBytes(limit_bytes: number): number {
  return limit_bytes + Math.ceil(limit_bytes / 8) + MiB;
}

/** Address space to reserve for a store of that limit. */
export function mapBytes(limit_bytes: number): number {
  return Math.ceil((fileBytes(limit_bytes) + 64 * MiB) / MiB) * MiB;
}

export class Space {
  readonly #environment: Environment;
  readonly #limit_bytes: number;
  /** Room left when it was last looked at, less what was written since. */
  #left_bytes = 0;

  constructor(environment: Environment, limit_bytes: number) {
    this.#environment = environment;
    this.#limit_bytes = limit_bytes;
  }

  /** Undefined if so many bytes of values may be written, else why not. What takes away (0 bytes) is never refused. */
  refuses(bytes: number): Error | undefined {
    if (bytes === 0) return undefined;
    const needed = bytes + TREE_BYTES;
    if (needed > this.#left_bytes) this.#look();
    if (needed > this.#left_bytes) {
      return new Error(`the store has reached its limit of ${this.#limit_bytes} bytes`);
    }
    this.#left_bytes -= needed;
    return undefined;
  }

  #look(): void {
    const { used_bytes, file_bytes } = this.#environment.size();
    this.#left_bytes = Math.min(this.#limit_bytes - used_bytes, fileBytes(this.#limit_bytes) - file_bytes);
  }
}
