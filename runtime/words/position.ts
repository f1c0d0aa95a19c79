/**
 * Positions: where a batch lies in a journal of one stream or of several, as one number.
 *
 * Owns the form: the journal's number times 2^44, plus the sequence in its stream. So every link between records names
 * its journal, and an app with one journal has plain sequences. There is room for 512 journals of 17,000,000,000,000
 * entries each. Talks to nobody.
 *
 * Positions of one journal grow with time; those of different journals say nothing about each other.
 *
 * Stores wrote the journal's number beside the sequence before it stood in it: in segments and in the names of dead
 * letters. Their formats keep that place, and 0 in it.
 */
const STEP = 2 ** 44;

export const JOURNALS_MAX = 512;
/** What formats hold where the journal's number once stood by itself. */
export const NO_JOURNAL = 0;

export function positionOf(journal: number, seq: number): number {
  return journal * STEP + seq;
}

export function journalAt(position: number): number {
  return Math.floor(position / STEP);
}

export function seqAt(position: number): number {
  return position % STEP;
}

/** Sequences of one journal that a range of positions holds. */
export function rangeIn(journal: number, from: number, to: number): { from: number; to: number } {
  const base = journal * STEP;
  return { from: Math.max(1, from - base), to: Math.min(STEP - 1, to - base) };
}
