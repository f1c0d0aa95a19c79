/**
 * A hash of 53 bits, for counting distinct values.
 *
 * Owns the function; it stands in stored states and never changes. Two rounds of MurmurHash3 (Austin Appleby, public
 * domain; x86, 32 bit) with two seeds, of which 32 and 21 bits are taken: so it is a safe integer, and of a million
 * values two are alike once in 18,000 tries.
 */

const SEEDS = [0x9747b28c, 0x3c6ef372] as const;
const C1 = 0xcc9e2d51;
const C2 = 0x1b873593;
/** 2^32. */
const WORD = 0x1_0000_0000;

/** A value's hash: a whole number below 2^53. Numbers and the texts that look like them are told apart. */
export function hash53(value: string | number | boolean): number {
  const bytes = Buffer.from(typeof value === "string" ? `"${value}` : String(value), "utf8");
  return (murmur(bytes, SEEDS[0]) & 0x1f_ffff) * WORD + murmur(bytes, SEEDS[1]);
}

function murmur(bytes: Uint8Array, seed: number): number {
  let hash = seed;
  const whole = bytes.length & ~3;
  for (let at = 0; at < whole; at += 4) {
    const word =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    hash ^= scrambled(word);
    hash = Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64;
  }
  let rest = 0;
  for (let at = bytes.length - 1; at >= whole; at--) rest = (rest << 8) | (bytes[at] as number);
  if (whole < bytes.length) hash ^= scrambled(rest);
  hash ^= bytes.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function scrambled(word: number): number {
  const mixed = Math.imul(word, C1);
  return Math.imul((mixed << 15) | (mixed >>> 17), C2);
}
