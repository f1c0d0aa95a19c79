/** How the reports write what they say. */
import Table from "cli-table3";

const BAR = 30;

export function tableOf(head: string[], rows: readonly (readonly string[])[]): string {
  // No colours: what is shown may be a file. Numbers stand to the right.
  const table = new Table({
    head,
    colAligns: head.map((_, at) => (rows.every((row) => isNumber(row[at] ?? "")) ? "right" : "left")),
    style: { head: [], border: [], compact: true },
  });
  table.push(...rows.map((row) => [...row]));
  return table.toString();
}

function isNumber(cell: string): boolean {
  return /^(?:about )?-?[\d,.]*(?: min| %)?$/.test(cell);
}

/** One line, without what a terminal would take for a command. */
export function shortened(text: string, most: number): string {
  const plain = text.replace(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, "?");
  return plain.length > most ? `${plain.slice(0, most - 1)}…` : plain;
}

/** @param part from 0 to 1 */
export function bar(part: number): string {
  return "█".repeat(Math.round(Math.max(0, part) * BAR));
}

export function share(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}

export function percent(part: number): string {
  return `${(100 * part).toFixed(1)} %`;
}

export function count(number: number): string {
  return number.toLocaleString("en-US");
}

/** Hundredths as a price. */
export function money(cents: number): string {
  return (cents / 100).toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}
