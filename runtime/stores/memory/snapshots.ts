/**
 * The memory store's snapshots and their index by due time.
 *
 * Owns them. Writes go through `write`, which decides when they take effect and are answered. Markers of deleted
 * entries are kept as long as the store lives: this is the reference, and as strict as the contract allows.
 *
 * Invariants: see Snapshots in the ports.
 */
import type {
  DueEntry,
  ListedEntry,
  ListPage,
  SnapshotEntry,
  Snapshots,
  SnapshotWrite,
} from "../../ports/index.ts";

/** Lets a write take effect at some moment; resolves when it has. */
type Write = <T>(apply: () => T) => Promise<T>;

export class MemorySnapshots implements Snapshots {
  readonly #apply: Write;
  readonly #entries = new Map<string, SnapshotEntry>();
  /** Due times by shard and id. */
  readonly #due = new Map<number, Map<string, number>>();
  #revision = 0;

  constructor(write: Write) {
    this.#apply = write;
  }

  async sync(): Promise<void> {
    // What was answered has taken effect, and everybody reads the same maps.
  }

  async read(ids: readonly string[]): Promise<readonly (SnapshotEntry | undefined)[]> {
    return ids.map((id) => this.#entries.get(id));
  }

  write(writes: readonly SnapshotWrite[]): Promise<readonly (number | undefined)[]> {
    return this.#apply(() => writes.map((write) => this.#write(write)));
  }

  async due(shard: number, before: number, limit: number, after?: DueEntry): Promise<readonly DueEntry[]> {
    const found = [...(this.#due.get(shard) ?? [])]
      .map(([id, due]): DueEntry => ({ id, due }))
      .filter((entry) => entry.due < before && (after === undefined || compareDue(entry, after) > 0));
    return found.sort(compareDue).slice(0, limit);
  }

  /** In the order of ids; the cursor is the last one. */
  async list(limit: number, cursor = "", type?: string): Promise<ListPage> {
    const wanted = (id: string): boolean =>
      type === undefined ? !id.startsWith("_") : id.startsWith(`${type}.`);
    const ids = [...this.#entries.keys()].filter((id) => id > cursor && wanted(id)).sort();
    const entries: ListedEntry[] = [];
    for (const id of ids) {
      const { value, revision } = this.#entries.get(id) as SnapshotEntry;
      if (value === undefined) continue;
      if (entries.length >= limit) return { entries, next: entries.at(-1)?.id ?? cursor };
      entries.push({ id, value, revision });
    }
    return { entries, next: undefined };
  }

  #write({ id, shard, value, expected, due }: SnapshotWrite): number | undefined {
    if ((this.#entries.get(id)?.revision ?? 0) !== expected) return undefined;
    const revision = ++this.#revision;
    this.#entries.set(id, { value, revision });
    let index = this.#due.get(shard);
    if (index === undefined) this.#due.set(shard, (index = new Map()));
    if (value === undefined || due === undefined) index.delete(id);
    else index.set(id, due);
    return revision;
  }
}

function compareDue(a: DueEntry, b: DueEntry): number {
  return a.due - b.due || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}
