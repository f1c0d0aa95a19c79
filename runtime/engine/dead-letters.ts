/**
 * Dead letters of a shard: messages that were refused for good and had nobody waiting for the error.
 *
 * The journal tells of them; this is what is on its way from there to where people look. Owns the letters that are not
 * stored yet. Talks to DeadLetters.
 *
 * Invariant: a refusal whose letter is not stored is in the tail. Recovery finds it there, and no checkpoint cuts the
 * tail before every letter is stored. Storing one twice changes nothing.
 */
import type { DeadLetter, DeadLetters } from "../ports/index.ts";
import { decodeKey } from "../words/address.ts";
import { type Link, type TurnRecord, typeOfId } from "./record.ts";

export class Letters {
  readonly #waiting = new Map<string, DeadLetter>();

  /** Letters that are not stored yet. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Notes a refusal that is in the journal. */
  add(record: TurnRecord, [position, index]: Link, batchTime: number): void {
    if (record.refusal === undefined) return;
    const [code, reason] = record.refusal;
    const type = typeOfId(record.id);
    this.#waiting.set(`${position}.${index}`, {
      position,
      index,
      type,
      key: decodeKey(record.id.slice(type.length + 1)),
      event: record.event,
      time: batchTime + record.delay,
      code,
      reason,
    });
  }

  /** Stores what waits. Throws what the store throws; it then still waits. */
  async put(store: DeadLetters): Promise<void> {
    if (this.#waiting.size === 0) return;
    const letters = [...this.#waiting];
    await store.put(letters.map(([, letter]) => letter));
    for (const [name] of letters) this.#waiting.delete(name);
  }
}
