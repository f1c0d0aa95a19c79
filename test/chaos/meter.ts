/**
 * The meter of a chaos run: what became of operations, and for how long askers waited.
 *
 * Owns the counts, the waits that were long, and the windows of faults. Workloads tell it of every operation, the nemesis
 * of every fault. Talks to nobody. All times are milliseconds of this process's monotonic clock.
 */
import type { ErrorCode } from "../../runtime/index.ts";

export interface Tally {
  ok: number;
  failed: number;
  unknown: number;
  readonly codes: Map<ErrorCode, number>;
}

/** One fault: from when it was thrown until it was healed. */
export interface FaultWindow {
  readonly kind: string;
  readonly from_ms: number;
  to_ms: number;
}

interface Span {
  readonly from_ms: number;
  readonly to_ms: number;
}

/** What askers felt of one kind of fault. */
export interface Felt {
  readonly count: number;
  /** Longest wait of an ask while this was the only fault; undefined if it never was. */
  readonly aloneWait_ms: number | undefined;
  /** Longest wait of an ask that may have been due to it. */
  readonly wait_ms: number;
  /** Longest time in which no ask at all was answered, while this was the only fault. */
  readonly silence_ms: number | undefined;
}

/** Waits from here on are kept. */
const LONG_MS = 250;
/** After it is healed a fault may still be felt for so long: reconnects, and shards that move back. */
const AFTERMATH_MS = 2_000;

export class Meter {
  readonly tallies = new Map<string, Tally>();
  readonly windows: FaultWindow[] = [];
  readonly #waits: Span[] = [];
  readonly #silences: Span[] = [];
  #answered_ms: number | undefined;
  /** Longest waits while no fault was there. */
  calmWait_ms = 0;

  /** An operation has come to its end, as far as its asker knows. */
  count(workload: string, outcome: "ok" | "failed" | "unknown", code?: ErrorCode): void {
    let tally = this.tallies.get(workload);
    if (tally === undefined) {
      tally = { ok: 0, failed: 0, unknown: 0, codes: new Map() };
      this.tallies.set(workload, tally);
    }
    tally[outcome]++;
    if (code !== undefined) tally.codes.set(code, (tally.codes.get(code) ?? 0) + 1);
  }

  /** An ask by a client that no fault of the network reaches was answered. */
  answered(asked_ms: number, now_ms: number): void {
    if (now_ms - asked_ms >= LONG_MS) this.#waits.push({ from_ms: asked_ms, to_ms: now_ms });
    const before_ms = this.#answered_ms;
    if (before_ms !== undefined && now_ms - before_ms >= LONG_MS)
      this.#silences.push({ from_ms: before_ms, to_ms: now_ms });
    this.#answered_ms = now_ms;
  }

  begin(kind: string, now_ms: number): FaultWindow {
    const window = { kind, from_ms: now_ms, to_ms: Number.POSITIVE_INFINITY };
    this.windows.push(window);
    return window;
  }

  /** What was felt of each kind. */
  felt(): Map<string, Felt> {
    const kinds = new Map<string, { -readonly [K in keyof Felt]: Felt[K] }>();
    for (const window of this.windows) {
      const felt = kinds.get(window.kind) ?? {
        count: 0,
        aloneWait_ms: undefined,
        wait_ms: 0,
        silence_ms: undefined,
      };
      felt.count++;
      if (this.#isAlone(window)) {
        felt.aloneWait_ms ??= 0;
        felt.silence_ms ??= 0;
      }
      kinds.set(window.kind, felt);
    }
    for (const wait of this.#waits) {
      const near = this.#windowsOf(wait);
      const lasted_ms = wait.to_ms - wait.from_ms;
      if (near.length === 0) this.calmWait_ms = Math.max(this.calmWait_ms, lasted_ms);
      for (const { kind } of near) {
        const felt = kinds.get(kind) as { -readonly [K in keyof Felt]: Felt[K] };
        felt.wait_ms = Math.max(felt.wait_ms, lasted_ms);
        if (near.length === 1) felt.aloneWait_ms = Math.max(felt.aloneWait_ms ?? 0, lasted_ms);
      }
    }
    for (const silence of this.#silences) {
      const [only, ...others] = this.#windowsOf(silence);
      const felt = only === undefined || others.length > 0 ? undefined : kinds.get(only.kind);
      if (felt !== undefined)
        felt.silence_ms = Math.max(felt.silence_ms ?? 0, silence.to_ms - silence.from_ms);
    }
    return kinds;
  }

  #windowsOf(span: Span): FaultWindow[] {
    return this.windows.filter(
      ({ from_ms, to_ms }) => from_ms <= span.to_ms && span.from_ms <= to_ms + AFTERMATH_MS,
    );
  }

  #isAlone(window: FaultWindow): boolean {
    return this.#windowsOf(window).length === 1;
  }
}
