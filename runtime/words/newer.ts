/**
 * Which of two states of one actor is the newer one, by what they say of themselves.
 *
 * Owns that rule. Talks to the form of positions.
 */
import { journalAt } from "./position.ts";

/** Where the last turn of a state stands. */
export interface Version {
  readonly position: number;
  readonly turn: number;
}

/** Whether their positions say anything about each other. */
export function comparable(one: Version, other: Version): boolean {
  return journalAt(one.position) === journalAt(other.position);
}

/**
 * Whether a state is newer than another one. Positions go on where an actor was deleted, its turns begin again; turns of
 * one batch have one position.
 */
export function isNewer(state: Version, than: Version): boolean {
  if (!comparable(state, than) || state.position === than.position) return state.turn > than.turn;
  return state.position > than.position;
}

export function isSame(state: Version, other: Version | undefined): boolean {
  return other !== undefined && state.position === other.position && state.turn === other.turn;
}
