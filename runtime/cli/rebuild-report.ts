/** What `keyturn rebuild` prints for people. */
import type { PromoteReport } from "../rebuild/promote.ts";
import type { RebuildReport } from "../rebuild/report.ts";
import { columns } from "./columns.ts";

/** Rows of each table. `--json` has all. */
const ROWS = 30;
const VALUE = 60;

export function reportText(report: RebuildReport, same: boolean): string {
  const { type, version, records, elapsed_ms, per_s, passes, keys } = report;
  const lines = [
    `${number(records)} records of ${number(keys)} actors of type "${type}" replayed through version ${version} in ${(elapsed_ms / 1_000).toFixed(1)} s (${number(per_s)}/s${passes > 1 ? `, ${passes} passes` : ""}).`,
    "",
    ...columns(
      [
        ["equal", number(report.equal)],
        ["differing", number(report.differing)],
        ...(report.notWhole.count > 0
          ? [["history trimmed", `${number(report.notWhole.count)}  ${keysText(report.notWhole.samples)}`]]
          : []),
        ...(report.unbegun.count > 0
          ? [["do not begin", `${number(report.unbegun.count)}  ${keysText(report.unbegun.samples)}`]]
          : []),
        ...(report.circled.count > 0
          ? [["delays in a circle", `${number(report.circled.count)}  ${keysText(report.circled.samples)}`]]
          : []),
      ],
      new Set(),
    ),
  ];
  table(
    lines,
    "They stand in other states:",
    ["running", "rebuilt", "actors", "for example"],
    2,
    report.states,
    (row) => [
      row.running || "(no states)",
      row.rebuilt || "(no states)",
      number(row.keys),
      keysText(row.samples),
    ],
  );
  table(
    lines,
    "They differ in:",
    ["where", "actors", "for example", "running", "rebuilt"],
    1,
    report.paths,
    (row) => {
      const [sample] = row.samples;
      return [
        row.path,
        number(row.keys),
        JSON.stringify(sample?.key),
        valueText(sample?.running),
        valueText(sample?.rebuilt),
      ];
    },
  );
  table(
    lines,
    "Events that are rejected now:",
    ["event", "events", "for example", "why"],
    1,
    report.rejected,
    (row) => {
      const [sample] = row.samples;
      return [
        row.event,
        number(row.events),
        JSON.stringify(sample?.key),
        `${row.code}: ${oneLine(sample?.reason ?? "")}`,
      ];
    },
  );
  table(
    lines,
    "Timers that fired and results that came, and for which the new definition does not wait:",
    ["event", "events", "for example"],
    1,
    report.unmatched,
    (row) => [row.name, number(row.count), keysText(row.samples)],
  );
  const { tells } = report;
  table(
    lines,
    "It tells others otherwise; they are not told by a rebuild:",
    ["what", "otherwise", "not any more", "not yet", "for example", "running", "rebuilt"],
    [1, 2, 3],
    tells.rows,
    (row) => {
      const [sample] = row.samples;
      return [
        `${row.way} ${row.to === "" ? "" : `${row.to} `}${row.event}`,
        number(row.otherwise),
        number(row.notAnyMore),
        number(row.notYet),
        `${JSON.stringify(sample?.key)}${sample?.to ? ` to ${sample.to}` : ""}`,
        valueText(sample?.running),
        valueText(sample?.rebuilt),
      ];
    },
  );
  table(
    lines,
    "Whom it tells otherwise:",
    ["address", "otherwise", "not any more", "not yet"],
    [1, 2, 3],
    tells.addresses,
    (row) => [row.to, number(row.otherwise), number(row.notAnyMore), number(row.notYet)],
  );
  if (!tells.exact)
    lines.push(
      "So many differ that some which are only told earlier or later count as told by one of the two.",
    );
  lines.push(
    "",
    same ? "The new definition makes the same of it all." : "The new definition makes something else of it.",
  );
  return `${lines.join("\n")}\n`;
}

function table<T>(
  lines: string[],
  title: string,
  head: readonly string[],
  right: number | readonly number[],
  rows: readonly T[],
  cells: (row: T) => readonly string[],
): void {
  if (rows.length === 0) return;
  lines.push("", title, ...columns([head, ...rows.slice(0, ROWS).map(cells)], new Set([right].flat())));
  if (rows.length > ROWS) lines.push(`and ${rows.length - ROWS} more: see --json`);
}

export function promotedText(
  { promoted, told, gone, failed, failures }: PromoteReport,
  report: RebuildReport,
): string {
  const lines = [`${number(promoted)} actors have the rebuilt state now.`];
  if (gone > 0) lines.push(`${number(gone)} were deleted meanwhile.`);
  if (report.notWhole.count > 0)
    lines.push(
      `${number(report.notWhole.count)} whose history is trimmed stay as they are, but for those begun with --from-snapshots.`,
    );
  if (told > 0) lines.push(`${number(told)} messages that only it would have told were told with it.`);
  const untold = untoldBy(report) - told;
  if (untold > 0) {
    lines.push(
      `${number(untold)} messages of theirs were otherwise or would be told by the new definition only: nobody is told now, and nothing is taken back.`,
    );
  }
  if (failed > 0) {
    lines.push(`${number(failed)} could not be replaced. Run it again:`, "");
    const rows = failures
      .slice(0, ROWS)
      .map(({ key, code, reason }) => [JSON.stringify(key), `${code}: ${oneLine(reason)}`]);
    lines.push(...columns([["key", "why"], ...rows], new Set()));
  }
  return `${lines.join("\n")}\n`;
}

/** Messages that differ from what others were told. */
export function untoldBy({ tells }: RebuildReport): number {
  return tells.rows.reduce((sum, row) => sum + row.otherwise + row.notAnyMore + row.notYet, 0);
}

function keysText(samples: readonly string[]): string {
  return samples.map((key) => JSON.stringify(key)).join(", ");
}

export function valueText(value: unknown): string {
  const text = value === undefined ? "(none)" : (JSON.stringify(value) ?? String(value));
  return text.length > VALUE ? `${text.slice(0, VALUE)}…` : text;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ");
}

function number(value: number): string {
  return value.toLocaleString("en-US");
}
