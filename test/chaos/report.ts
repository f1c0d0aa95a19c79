/** What a chaos run has come to, as tables for people and as one JSON document. */
import Table from "cli-table3";
import type { ChaosResult } from "./run.ts";

export interface Report {
  readonly held: boolean;
  readonly seed: number;
  readonly duration_s: number;
  readonly lease_ms: number;
  readonly faults: readonly {
    readonly kind: string;
    readonly count: number;
    /** While it was the only fault. */
    readonly longestWaitAlone_ms: number | undefined;
    readonly longestWait_ms: number;
    readonly longestSilenceAlone_ms: number | undefined;
  }[];
  readonly calmWait_ms: number;
  readonly operations: readonly {
    readonly workload: string;
    readonly ok: number;
    readonly failed: number;
    readonly unknown: number;
    readonly codes: Readonly<Record<string, number>>;
  }[];
  readonly checks: readonly {
    readonly promise: string;
    readonly scope: string;
    readonly violations: readonly string[];
  }[];
  readonly violations: readonly string[];
}

export function reportOf(result: ChaosResult, seed: number): Report {
  const { meter, checks, violations, lease_ms, duration_ms } = result;
  return {
    held: violations.length === 0 && checks.every((check) => check.violations.length === 0),
    seed,
    duration_s: Math.round(duration_ms / 1_000),
    lease_ms,
    faults: [...meter.felt()].map(([kind, { count, aloneWait_ms, wait_ms, silence_ms }]) => ({
      kind,
      count,
      longestWaitAlone_ms: rounded(aloneWait_ms),
      longestWait_ms: Math.round(wait_ms),
      longestSilenceAlone_ms: rounded(silence_ms),
    })),
    calmWait_ms: Math.round(meter.calmWait_ms),
    operations: [...meter.tallies].map(([workload, { ok, failed, unknown, codes }]) => ({
      workload,
      ok,
      failed,
      unknown,
      codes: Object.fromEntries(codes),
    })),
    checks: checks.map(({ promise, scope, violations }) => ({
      promise,
      scope,
      violations: violations.map(({ message }) => message),
    })),
    violations,
  };
}

export function textOf(report: Report): string {
  const faults = table(
    ["thrown", "times", "longest wait, alone", "with others", "silence, alone"],
    [1, 2, 3, 4],
  );
  for (const { kind, count, ...felt } of report.faults)
    faults.push([
      kind,
      count,
      ms(felt.longestWaitAlone_ms),
      ms(felt.longestWait_ms),
      ms(felt.longestSilenceAlone_ms),
    ]);
  faults.push(["nothing", "", ms(report.calmWait_ms), "", ""]);
  const operations = table(["operations", "ok", "failed", "unknown", "errors"], [1, 2, 3]);
  for (const { workload, ok, failed, unknown, codes } of report.operations) {
    const text = Object.entries(codes)
      .map(([code, count]) => `${code} ${count}`)
      .join(", ");
    operations.push([workload, ok, failed, unknown, text]);
  }
  const checks = table(["promise", "looked at", "held"], []);
  for (const { promise, scope, violations } of report.checks)
    checks.push([promise, scope, violations.length === 0 ? "yes" : `NO: ${violations.length}`]);
  checks.push([
    "nodes live, are fenced when they must be, hand over when told, and serve again",
    `${report.faults.reduce((sum, { count }) => sum + count, 0)} faults, then a SIGKILL of everything`,
    report.violations.length === 0 ? "yes" : `NO: ${report.violations.length}`,
  ]);
  const waits = `Waits are of asks, from the call to the answer; the lease is ${report.lease_ms} ms. Silence: nobody was answered.`;
  return `${faults}\n${waits}\n\n${operations}\n\n${checks}\n`;
}

function table(head: string[], right: readonly number[]): Table.Table {
  return new Table({
    head,
    style: { head: [], border: [], compact: true },
    colAligns: head.map((_, at) => (right.includes(at) ? "right" : "left")),
    chars: {
      top: "",
      "top-mid": "",
      "top-left": "",
      "top-right": "",
      bottom: "",
      "bottom-mid": "",
      "bottom-left": "",
      "bottom-right": "",
      left: "",
      right: "",
      mid: "",
      "left-mid": "",
      "mid-mid": "",
      "right-mid": "",
      middle: " ",
    },
  });
}

function rounded(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.round(ms);
}

function ms(value: number | undefined): string {
  if (value === undefined) return "–";
  return value === 0 ? "< 250 ms" : `${value} ms`;
}
