/**
 * Sizes: what people write for a number of bytes, and how many they are.
 *
 * Owns the units and the only parser of them. Talks to nobody.
 */
import { KeyturnError } from "./errors.ts";

/** Bytes, or a text such as `"512 MB"`, `"1.5GB"`, `"2 GiB"`. */
export type Bytes = number | string;

const units: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/**
 * A number of bytes.
 * @param name what it is the size of, for the text of an error
 * @throws KeyturnError `invalid_options`
 */
export function bytesOf(value: unknown, name = "A size"): number {
  const bytes = typeof value === "string" ? parsed(value) : value;
  if (typeof bytes === "number" && Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
  const shown = typeof value === "string" ? JSON.stringify(value.slice(0, 100)) : String(value);
  throw new KeyturnError(
    "invalid_options",
    `${name} is ${shown}. It is a whole number of bytes, or a text such as "512 MB", "10GB" or "2 GiB".`,
  );
}

/** Whether a text is written as a size: digits and a unit of bytes. */
export function isBytes(text: string): boolean {
  return parsed(text) !== undefined;
}

function parsed(text: string): number | undefined {
  const [, digits, unit] = /^(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]{1,3})$/.exec(text.trim().toLowerCase()) ?? [];
  const each = unit !== undefined && Object.hasOwn(units, unit) ? units[unit] : undefined;
  return digits === undefined || each === undefined ? undefined : Math.round(Number(digits) * each);
}
