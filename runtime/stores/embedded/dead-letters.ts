/**
 * The dead letters, by position and index.
 *
 * Owns the table `dead`. Talks to the Writer and the Environment.
 *
 * Invariant: a letter is there once, however often it is put.
 */
import type { DeadLetter, DeadLetters } from "../../ports/index.ts";
import type { Environment } from "./environment.ts";
import { openRow, packRow } from "./rows.ts";
import type { Writer } from "./writer.ts";

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
        for (const { key, row } of rows) group.put(this.#environment.tables.dead, key, row);
      },
    });
  }

  async list(limit: number, after?: DeadLetter): Promise<readonly DeadLetter[]> {
    return this.#environment.read(() => {
      const range = after === undefined ? { limit } : { start: keyOf(after), exclusiveStart: true, limit };
      const letters: DeadLetter[] = [];
      for (const { key, value } of this.#environment.tables.dead.getRange(range))
        letters.push(openLetter(key, value));
      return letters;
    });
  }
}

type LetterKey = [journal: number, seq: number, index: number];
type LetterFields = readonly [
  type: string,
  key: string,
  event: unknown,
  time: number,
  code: string,
  reason: string,
];

function keyOf({ position, index }: DeadLetter): LetterKey {
  return [position.journal, position.seq, index];
}

function packLetter({ type, key, event, time, code, reason }: DeadLetter): Uint8Array {
  return packRow([type, key, event, time, code, reason]);
}

function openLetter([journal, seq, index]: LetterKey, bytes: Uint8Array): DeadLetter {
  const name = `dead letter of journal entry ${seq}`;
  const [type, key, event, time, code, reason] = openRow(name, bytes) as unknown as LetterFields;
  return { position: { journal, seq }, index, type, key, event, time, code, reason };
}
