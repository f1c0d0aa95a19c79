/** What of texts is asked in many places. Talks to nobody. */

/**
 * Whether a text can be carried: what holds half a surrogate pair cannot be read again, nor can anything beside it in its
 * frame. In Node since 20; not yet in the library that the sources are compiled against.
 */
export function isWellFormed(text: string): boolean {
  return (text as unknown as { isWellFormed(): boolean }).isWellFormed();
}
