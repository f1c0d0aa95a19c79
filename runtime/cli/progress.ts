/**
 * Progress of a rebuild, for people: one line that is written over on a terminal, a line now and then elsewhere.
 */
import type { RebuildProgress } from "../rebuild/rebuild.ts";

const TERMINAL_MS = 200;
const LINES_MS = 5_000;

export class Progress {
  readonly #stream: NodeJS.WritableStream;
  readonly #terminal: boolean;
  #shown_ms = Number.NEGATIVE_INFINITY;
  readonly #began_ms = performance.now();
  #open = false;

  constructor(stream: NodeJS.WritableStream) {
    this.#stream = stream;
    this.#terminal = (stream as { isTTY?: boolean }).isTTY === true;
  }

  show(progress: RebuildProgress): void {
    const now_ms = performance.now();
    const pause = this.#terminal ? TERMINAL_MS : LINES_MS;
    if (this.#shown_ms === Number.NEGATIVE_INFINITY && !this.#terminal) {
      // What is over within seconds needs no line.
      this.#shown_ms = this.#began_ms;
    }
    if (now_ms - this.#shown_ms < pause) return;
    this.#shown_ms = now_ms;
    const text = lineOf(progress);
    this.#open = this.#terminal;
    this.#stream.write(this.#terminal ? `\r\x1b[2K${text}` : `${text}\n`);
  }

  end(): void {
    if (this.#open) this.#stream.write("\r\x1b[2K");
    this.#open = false;
  }
}

/** What is done, how fast, and how long it takes yet. */
export function lineOf({ phase, pass, passes, done, total, records, elapsed_ms }: RebuildProgress): string {
  const share = total === 0 ? 1 : Math.min(1, done / total);
  const which = passes > 1 ? ` (pass ${pass} of at least ${passes})` : "";
  const rate =
    elapsed_ms > 0 && phase === "replay"
      ? `, ${number(records)} records, ${number((done / elapsed_ms) * 1_000)} entries/s`
      : "";
  const left_s =
    share > 0 && share < 1 && elapsed_ms > 0 ? Math.ceil((elapsed_ms * (1 - share)) / share / 1_000) : 0;
  const eta = left_s > 0 ? `, ${left_s} s left` : "";
  const what = phase === "replay" ? "entries" : "actors";
  return `${phase}${which}: ${Math.floor(share * 100)} % of ${number(total)} ${what}${rate}${eta}`;
}

function number(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}
