/**
 * Checks of what is left: promises that show in the data at the end of a run.
 *
 * Owns one pure function for each: order per sender, exactly once, timers, bank.
 * Talks to nobody; shares `Violation` with `checks.ts`, whose invariants hold here
 * too.
 */

import { type Final, reporter, type Violation } from "./checks.ts";
import { type Outcome, show } from "./history.ts";

/** `sequence` counts what one sender sent to one key, in the order of sending. */
export interface SentEntry {
  readonly sender: string;
  readonly sequence: number;
}

/**
 * Per-sender FIFO: in the list of a key, the entries of each sender come in the
 * order in which it sent them. Gaps are fine, and so is the same entry again
 * (`checkExactlyOnce` finds it). A sender which goes on after an unknown outcome
 * has given up the order of that one entry: leave it out, or let it wait.
 */
export function checkSenderFifo(final: Final<readonly SentEntry[]>): Violation[] {
  const violations: Violation[] = [];
  for (const [key, entries] of final) {
    const report = reporter(violations, "sender-fifo", key);
    const latest = new Map<string, { sequence: number; position: number }>();
    for (const [position, { sender, sequence }] of entries.entries()) {
      const before = latest.get(sender);
      if (before === undefined || sequence >= before.sequence) {
        latest.set(sender, { sequence, position });
        continue;
      }
      report(
        `${show(sender)} sent ${sequence} before ${before.sequence}, ` +
          `but they are at ${position} and ${before.position}`,
      );
    }
  }
  return violations;
}

/**
 * Exactly once: no entry is twice in the list of a key, and, if `acknowledged` is
 * given, every entry in it is there. `identify` gives the text by which entries
 * are the same; by default their JSON, which depends on the order of properties.
 */
export function checkExactlyOnce<Entry>(
  final: Final<readonly Entry[]>,
  acknowledged: Final<readonly Entry[]> = new Map(),
  identify: (entry: Entry) => string = (entry) => JSON.stringify(entry),
): Violation[] {
  const violations: Violation[] = [];
  for (const key of new Set([...final.keys(), ...acknowledged.keys()])) {
    const report = reporter(violations, "exactly-once", key);
    const positions = new Map<string, number[]>();
    for (const [position, entry] of (final.get(key) ?? []).entries()) {
      const identity = identify(entry);
      const at = positions.get(identity);
      if (at === undefined) positions.set(identity, [position]);
      else at.push(position);
    }
    for (const [identity, at] of positions) {
      if (at.length > 1) report(`${show(identity)} is there ${at.length} times, at ${show(at)}`);
    }
    for (const entry of acknowledged.get(key) ?? []) {
      if (!positions.has(identify(entry))) report(`${show(entry)} was acknowledged and is missing`);
    }
  }
  return violations;
}

/** One timer as its client knows it. All times are of the clock that fires it. */
export interface TimerRecord {
  readonly key: string;
  /** Unique within the key: a timer set again is another timer. */
  readonly timer: string;
  readonly due: number;
  /** Outcome of scheduling it. */
  readonly scheduled: Outcome;
  /** Outcome of cancelling it and when that was known; absent if never tried. */
  readonly cancelled?: { readonly outcome: Outcome; readonly at: number };
}

export interface TimerFiring {
  readonly key: string;
  readonly timer: string;
  readonly at: number;
}

export interface TimerCheckOptions {
  /** When the run ended. */
  readonly end: number;
  /** How long after it was due a timer may still be on its way; default 0. */
  readonly latenessMax?: number;
}

/**
 * Timers: one that was scheduled and not cancelled fires exactly once, and never
 * before it is due; none fires twice, none fires after its cancellation was
 * acknowledged, none fires that was not scheduled. What is due within
 * `latenessMax` of the end, or of unknown outcome, may fire once or not at all.
 * Throws a `RangeError` if two timers of a key share a name.
 */
export function checkTimersOnce(
  timers: readonly TimerRecord[],
  firings: readonly TimerFiring[],
  { end, latenessMax = 0 }: TimerCheckOptions,
): Violation[] {
  const violations: Violation[] = [];
  const firedAt = new Map<string, number[]>();
  for (const { key, timer, at } of firings) {
    const name = nameOf(key, timer);
    firedAt.set(name, [...(firedAt.get(name) ?? []), at]);
  }
  const known = new Set<string>();
  for (const record of timers) {
    const { key, timer, due, scheduled, cancelled } = record;
    const report = reporter(violations, "timer-once", key);
    const name = nameOf(key, timer);
    if (known.has(name)) throw new RangeError(`timer ${name} is scheduled twice in the records`);
    known.add(name);
    const times = firedAt.get(name) ?? [];
    const title = `${show(timer)}, due at ${due},`;
    if (times.length > 1) report(`${title} fired ${times.length} times, at ${show(times)}`);
    if (scheduled === "failed" && times.length > 0) {
      report(`${title} was refused and fired at ${show(times)}`);
      continue;
    }
    const early = times.filter((at) => at < due);
    if (early.length > 0) report(`${title} fired early, at ${show(early)}`);
    if (cancelled?.outcome === "ok") {
      const after = times.filter((at) => at > cancelled.at);
      if (after.length > 0) report(`${title} cancelled at ${cancelled.at}, fired at ${show(after)}`);
    }
    // An unknown cancellation may have worked; a failed one certainly did not.
    const isCertain = scheduled === "ok" && (cancelled === undefined || cancelled.outcome === "failed");
    if (isCertain && times.length === 0 && due + latenessMax <= end) {
      report(`${title} never fired until ${end}`);
    }
  }
  for (const { key, timer, at } of firings) {
    if (known.has(nameOf(key, timer))) continue;
    reporter(violations, "timer-once", key)(`${show(timer)} fired at ${at} but was never scheduled`);
  }
  return violations;
}

/** Injective for any key and timer, unlike joining with a separator. */
function nameOf(key: string, timer: string): string {
  return JSON.stringify([key, timer]);
}

/** All balances as one read saw them. */
export interface BankRead {
  /** Who read, or when; for messages. */
  readonly label: string;
  readonly balances: readonly { readonly account: string; readonly balance: number }[];
  /** Taken from one account and not yet given to the other; default 0. */
  readonly inTransit?: number;
}

export interface BankExpectation {
  readonly total: number;
  readonly accounts: readonly string[];
  /** Whether a balance may be below zero; default false. */
  readonly mayOverdraw?: boolean;
}

/**
 * Bank: in every read each account is there once, and the balances together with
 * what is in transit make up the total. Jepsen's `bank`. Amounts in whole units:
 * sums are compared exactly.
 */
export function checkBank(
  reads: readonly BankRead[],
  { total, accounts, mayOverdraw = false }: BankExpectation,
): Violation[] {
  const violations: Violation[] = [];
  for (const { label, balances, inTransit = 0 } of reads) {
    const reportOf = (account: string) => reporter(violations, "bank", account);
    const missing = new Set(accounts);
    const seen = new Set<string>();
    let sum = inTransit;
    for (const { account, balance } of balances) {
      const report = reportOf(account);
      if (seen.has(account)) report(`counted twice in ${label}`);
      else if (!missing.has(account)) report(`no such account, in ${label}`);
      if (!Number.isFinite(balance)) report(`balance ${balance} in ${label}`);
      else if (balance < 0 && !mayOverdraw) report(`overdrawn to ${balance} in ${label}`);
      seen.add(account);
      missing.delete(account);
      sum += balance;
    }
    for (const account of missing) reportOf(account)(`missing in ${label}`);
    if (sum !== total) {
      reportOf("")(`money not conserved in ${label}: ${sum} instead of ${total}`);
    }
  }
  return violations;
}
