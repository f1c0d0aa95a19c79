/** Tables for people. */

/** Lines of aligned cells; numbers to the right, and nothing behind the last cell. */
export function columns(table: readonly (readonly string[])[], right: ReadonlySet<number>): string[] {
  const widths = (table[0] ?? []).map((_, at) => Math.max(...table.map((row) => row[at]?.length ?? 0)));
  return table.map((row) =>
    row
      .map((cell, at) => (right.has(at) ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}
