/** What the shop has come to: as data, and as short tables for people. */
import Table from "cli-table3";
import { type Advice, adviceFor, type HitRates, popularOf, type Shelf, SHOWN } from "./advice.ts";

export interface Report extends HitRates {
  /** How many the shop has learnt from, and how many it was asked about. */
  readonly baskets: number;
  readonly heldOut: number;
  /** How many different ones it knows. */
  readonly items: number;
  /** The most popular, and what goes with them. */
  readonly examples: readonly {
    readonly item: string;
    readonly baskets: number;
    readonly with: readonly Advice[];
  }[];
}

const EXAMPLES = 8;
const NEIGHBOURS = 3;

export function reportOf(baskets: number, heldOut: number, shelf: Shelf, rates: HitRates): Report {
  const examples = popularOf(shelf)
    .slice(0, EXAMPLES)
    .map((item) => ({
      item,
      baskets: shelf.get(item)?.baskets ?? 0,
      with: adviceFor([item], shelf).slice(0, NEIGHBOURS),
    }));
  return { baskets, heldOut, items: shelf.size, ...rates, examples };
}

export function textOf(report: Report): string {
  const { baskets, heldOut, items, hidden, unknown, together, popular, examples } = report;
  return [
    "What goes with the most popular packages, and how likely:",
    tableOf(
      [
        "package",
        "baskets",
        ...Array.from({ length: NEIGHBOURS }, (_, place) => (place === 0 ? "with" : "")),
      ],
      examples.map((row) => [
        row.item,
        `${row.baskets}`,
        ...Array.from({ length: NEIGHBOURS }, (_, place) => cellOf(row.with[place])),
      ]),
    ),
    `Learnt from ${baskets} baskets with ${items} packages. From ${heldOut} others each package was hidden in turn:`,
    tableOf(
      [`first ${SHOWN} are`, "hidden package is among them"],
      [
        ["what goes with the others", percent(together)],
        ["what is most popular", percent(popular)],
      ],
    ),
    `Of ${hidden} that were hidden; ${unknown} more are in no basket that was learnt from.`,
  ].join("\n");
}

export function adviceText(
  liked: readonly string[],
  unknown: readonly string[],
  advice: readonly Advice[],
): string {
  const known = liked.filter((item) => !unknown.includes(item));
  const lines = unknown.map((item) => `Nobody has ${item}.`);
  if (advice.length > 0) {
    lines.push(
      `Who has ${known.join(", ")} is likely to have:`,
      tableOf(
        ["package", "chance"],
        advice.map(({ item, chance }) => [item, percent(chance)]),
      ),
    );
  } else if (known.length > 0) lines.push(`Nothing goes with ${known.join(", ")}.`);
  return lines.join("\n");
}

function tableOf(head: string[], rows: readonly (readonly string[])[]): string {
  // No colours: what is shown may be a file.
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  table.push(...rows.map((row) => [...row]));
  return table.toString();
}

function cellOf(advice: Advice | undefined): string {
  return advice === undefined ? "" : `${advice.item} ${Math.round(100 * advice.chance)} %`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
