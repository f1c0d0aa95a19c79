/**
 * The dead letters, by position and index.
 *
 * Owns the table `dead`. Talks to the Writer and the Environment.
 *
 * Invariants: a letter is there once, however often it is put. One that was removed leaves an empty row, so that it is
 * not put again.
 */
import type { DeadLetter, DeadLetterId, DeadLetters } from "../../ports/index.ts";
import { NO_JOURNAL } from "../../words/position.ts";
import type { Environment } from "./environment.ts";
import { openRow, packRow } from "./rows.ts";
import type { Group, Writer } from "./writer.ts";

const REMOVED = new Uint8Array(0);

export class EmbeddedDeadLetters implements DeadLetters {
  readonly #environment: Environment;
  readonly #writer: Writer;

  constructor(environment: Environment, writer: Writer) {
    this.#environment = environment;
    this.#writer = writer;
  }

  put(letters: readonly DeadLetter[]): Promise<void> {
    const rows = letters.map((letter) => ({ key: keyOf(letter), row: packLetter(letter) }));
    return this.#writer.write({
      bytes: rows.reduce((sum, { row }) => sum + row.length, 0),
      decide: (group) => {
        const removed = this.#removedIn(group);
        for (const { key, row } of rows) {
          const isRemoved =
            removed.has(key.join(".")) || this.#environment.tables.dead.get(key)?.length === 0;
          if (!isRemoved) group.put(this.#environment.tables.dead, key, row);
        }
      },
    });
  }

  remove(letters: readonly DeadLetterId[]): Promise<void> {
    // Taken off rather than added: it must go on when the store is full.
    return this.#writer.write({
      bytes: 0,
      decide: (group) => {
        for (const letter of letters) {
          const key = keyOf(letter);
          this.#removedIn(group).add(key.join("."));
          group.put(this.#environment.tables.dead, key, REMOVED);
        }
      },
    });
  }

  async list(limit: number, after?: DeadLetterId): Promise<readonly DeadLetter[]> {
    return this.#environment.read(() => {
      const range = after === undefined ? {} : { start: keyOf(after), exclusiveStart: true };
      const letters: DeadLetter[] = [];
      for (const { key, value } of this.#environment.tables.dead.getRange(range)) {
        if (letters.length >= limit) break;
        if (value.length > 0) letters.push(openLetter(key, value));
      }
      return letters;
    });
  }

  /** What is removed in the group that is being decided, and so not to be seen in the table yet. */
  #removedIn(group: Group): Set<string> {
    return group.staged(this, () => new Set<string>());
  }
}

type LetterKey = [noJournal: number, seq: number, index: number];
type LetterFields = readonly [
  type: string,
  key: string,
  event: unknown,
  time: number,
  code: string,
  reason: string,
];

function keyOf({ position, index }: DeadLetterId): LetterKey {
  return [NO_JOURNAL, position, index];
}

function packLetter({ type, key, event, time, code, reason }: DeadLetter): Uint8Array {
  return packRow([type, key, event, time, code, reason]);
}

function openLetter([, position, index]: LetterKey, bytes: Uint8Array): DeadLetter {
  const name = `dead letter of journal entry ${position}`;
  const [type, key, event, time, code, reason] = openRow(name, bytes) as unknown as LetterFields;
  return { position, index, type, key, event, time, code, reason };
}
