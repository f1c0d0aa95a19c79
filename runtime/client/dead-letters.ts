/**
 * Dead letters by their ids: found, sent again, dropped.
 *
 * Owns the form of an id (`<position>.<index>`), which the command line and HTTP show, and the request id that makes sending a letter again count once, whoever does it and how often.
 * Talks to the store's dead letters and to the client.
 */
import type { DeadLetter, DeadLetterId, DeadLetters } from "../ports/index.ts";
import { KeyturnError } from "../words/errors.ts";
import type { Client } from "./client.ts";

const ID = /^(\d{1,16})\.(\d{1,9})$/;

/** A letter's id as people see it. */
export function letterId({ position, index }: DeadLetterId): string {
  return `${position}.${index}`;
}

/** @throws KeyturnError `invalid_options` */
export function parseLetterId(text: string): DeadLetterId {
  const [, position, index] = ID.exec(text) ?? [];
  if (position === undefined || !Number.isSafeInteger(Number(position))) {
    const wrong = `"${text.slice(0, 80)}" is not the id of a dead letter: the list of dead letters shows them.`;
    throw new KeyturnError("invalid_options", wrong);
  }
  return { position: Number(position), index: Number(index) };
}

/** The letter of that id; undefined if there is none (any more). */
export async function letterOf(letters: DeadLetters, id: DeadLetterId): Promise<DeadLetter | undefined> {
  const [found] = await letters.list(1, { position: id.position, index: id.index - 1 });
  return found !== undefined && letterId(found) === letterId(id) ? found : undefined;
}

/**
 * Sends a letter's event to its actor again, and drops the letter once that is taken.
 * @throws KeyturnError as a send does; the letter is still there then
 */
export async function retryLetter(
  client: Client,
  letters: DeadLetters,
  letter: DeadLetter,
  timeout_ms?: number,
): Promise<void> {
  // It may be sent again by somebody else at the same time, or was and could not be dropped then.
  const requestId = `keyturn.dead.${letterId(letter)}`;
  const ref = client.actor(`${letter.type}/${letter.key}`);
  await ref.send(letter.event as never, { requestId, timeout_ms });
  await letters.remove([letter]);
}
