/**
 * Storing: a key-value store whose ranges and pinned snapshots are read while it is written. A range shows no value that
 * was replaced before it began, and none that was refused; a pinned snapshot likewise, as of when it was taken, and every
 * reading of it shows the same. Run by its name only.
 */
import type { KeyValueStore } from "../../../runtime/kv/store.ts";
import type { Pinned } from "../../../runtime/kv/pinned.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";
import { collected } from "../../support/collected.ts";

/** A put, or a delete whose value is undefined. */
interface Write {
  readonly value: number | undefined;
  readonly begun: number;
  /** When it was acknowledged; until then, and if its outcome is unknown, it may be applied at any time. */
  ended: number;
  failed: boolean;
}

type Read = ReadonlyMap<string, number>;

/** What may be seen of one key. */
class Key {
  readonly name: string;
  readonly writes: Write[] = [{ value: undefined, begun: -1, ended: -1, failed: false }];
  /** A value that expires may be gone since then. */
  expires = Number.POSITIVE_INFINITY;

  constructor(name: string) {
    this.name = name;
  }

  /** Why a reading between two moments must not show a value; undefined if it may. */
  wrong(value: number | undefined, begun: number, ended: number): string | undefined {
    if (value === undefined && ended >= this.expires) return undefined;
    const may = this.writes.some((write) => write.value === value && this.#shows(write, begun, ended));
    return may ? undefined : `${this.name} is shown as ${value} between ${begun} and ${ended}`;
  }

  #shows(write: Write, begun: number, ended: number): boolean {
    if (write.failed || write.begun > ended) return false;
    return this.writes.every((other) => other.begun <= write.ended || other.ended >= begun || other.failed);
  }
}

export const storingWorkload: Workload = {
  name: "storing",
  actors: [],
  begin(context) {
    const { random, clients } = context;
    const violations: string[] = [];
    const keys = Array.from({ length: random.whole(1, 8) }, (_, at) => new Key(`k${at}`));
    const expiring = random.chance(0.3);
    let values = 0;
    const storeOf = (at: number): KeyValueStore<number> => {
      const client = clients[at % clients.length] as (typeof clients)[number];
      return client.store<number>("sim", { timeout_ms: context.timeout_ms() });
    };

    const write = (at: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const key = random.pick(keys);
        const value = random.chance(0.25) ? undefined : ++values;
        const ttl = expiring && random.chance(0.3) ? Math.round(random.logarithmic(1, 500)) : undefined;
        const written: Write = {
          value,
          begun: context.now(),
          ended: Number.POSITIVE_INFINITY,
          failed: false,
        };
        key.writes.push(written);
        // Whose clock decides is not known.
        if (ttl !== undefined) key.expires = Math.min(key.expires, written.begun);
        const store = storeOf(at);
        const done: Promise<unknown> =
          value === undefined ? store.delete(key.name) : store.put(key.name, value, { ttl });
        const { outcome } = await resultOf(done);
        if (outcome === "ok") written.ended = context.now();
        if (outcome === "failed") written.failed = true;
        if (random.chance(0.4)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };

    const check = (read: Read, begun: number, ended: number, what: string): void => {
      for (const key of keys) {
        const wrong = key.wrong(read.get(key.name), begun, ended);
        if (wrong !== undefined) violations.push(`${what}: ${wrong}`);
      }
    };

    /** Undefined if it cannot be read; a violation if it may not be so. */
    const readPinned = async (pinned: Pinned<string, number>): Promise<Read | undefined> => {
      const result = await resultOf(collected(pinned));
      if (result.outcome === "ok") return new Map(result.value);
      const { code, retryable, message } = result.error;
      // Where clocks jump it may end early, and where less than an hour is kept.
      if (!retryable && code !== "snapshot_expired") violations.push(`pinned: ${message}`);
      return undefined;
    };

    const look = (at: number) => async (): Promise<void> => {
      for (let made = 0; made < context.requests && !context.ending; made++) {
        const store = storeOf(at);
        const begun = context.now();
        if (random.chance(0.5)) {
          const result = await resultOf(collected(store.all()));
          if (result.outcome === "ok") check(new Map(result.value), begun, context.now(), "range");
        } else {
          const taken = await resultOf(store.snapshot());
          if (taken.outcome !== "ok") continue;
          const ended = context.now();
          let first: Read | undefined;
          for (let looks = random.whole(1, 5); looks > 0 && !context.ending; looks--) {
            if (random.chance(0.6)) await context.sleep(random.logarithmic(0.1, 1_000));
            const read = await readPinned(taken.value);
            if (read === undefined) continue;
            if (first === undefined) check(read, begun, ended, "pinned");
            first ??= read;
            if (JSON.stringify([...read]) !== JSON.stringify([...first]))
              violations.push(`pinned at ${ended}: ${[...first].join(" ")} became ${[...read].join(" ")}`);
          }
        }
        if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
      }
    };

    return {
      processes: [
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => write(at)),
        ...Array.from({ length: random.whole(1, 3) }, (_, at) => look(at)),
      ],
      async finish() {
        const store = context.observer.store<number>("sim");
        const begun = context.now();
        check(new Map(await insist(context, () => collected(store.all()))), begun, context.now(), "at last");
      },
      check: () => violations,
    };
  },
};
