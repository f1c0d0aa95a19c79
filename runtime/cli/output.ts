/**
 * What the commands that ask and look print: tables and values for people, one JSON object a line for programs.
 *
 * Owns the forms. Results go to standard output and nothing else does; notes go to standard error. Colours only on a
 * terminal, and never where NO_COLOR is set.
 */
import { inspect, stripVTControlCharacters } from "node:util";
import Table from "cli-table3";
import { replaced } from "../gateway.ts";
import { durationText } from "../words/duration.ts";
import type { Shell } from "./shell.ts";

export interface OutputFlags {
  readonly json?: boolean;
}

export interface Column {
  readonly head: string;
  readonly right?: boolean;
}

const COLORS = {
  dim: [2, 22],
  bold: [1, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
} as const;
export type Color = keyof typeof COLORS;

/** No lines: columns are told apart by two spaces. */
const BARE = Object.fromEntries(
  [
    ...["top", "top-mid", "top-left", "top-right", "bottom", "bottom-mid", "bottom-left", "bottom-right"],
    ...["left", "left-mid", "mid", "mid-mid", "right", "right-mid"],
  ].map((name) => [name, ""]),
);
/** The widest that a value in a cell may be. */
const CELL = 60;
/** Between two columns; and what a column is cut to at most. */
const GAP = 2;
const NARROWEST = 8;
/** The longest line of a value, in a terminal that is wider. */
const VALUE = 100;
/** Escape sequences, and what else would move a terminal's cursor. Line breaks and tabs stay in values. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is what they are looked for by
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

export class Output {
  readonly json: boolean;
  readonly colors: boolean;
  readonly #shell: Shell;

  constructor(shell: Shell, { json = false }: OutputFlags) {
    this.#shell = shell;
    this.json = json;
    const { isTTY } = shell.stdout as NodeJS.WriteStream;
    this.colors = isTTY === true && !shell.env.NO_COLOR && shell.env.TERM !== "dumb";
  }

  get isTerminal(): boolean {
    return (this.#shell.stdout as NodeJS.WriteStream).isTTY === true;
  }

  /** Lines that a terminal shows at once. */
  get rows(): number {
    return (this.#shell.stdout as NodeJS.WriteStream).rows ?? 24;
  }

  /** One object for programs, as one line. */
  row(value: object): void {
    this.#shell.stdout.write(`${JSON.stringify(value, replaced)}\n`);
  }

  /** Text for people. */
  text(text: string): void {
    this.#shell.stdout.write(`${text}\n`);
  }

  /** Something that only people want to know. */
  note(text: string): void {
    this.#shell.stderr.write(`${clean(text)}\n`);
  }

  /** The same to both: a line for people, or an object. */
  say(value: object, text: string): void {
    if (this.json) this.row(value);
    else this.text(text);
  }

  paint(color: Color, text: string): string {
    const [on, off] = COLORS[color];
    return this.colors ? `\u001b[${on}m${text}\u001b[${off}m` : text;
  }

  /** A table for people. */
  table(columns: readonly Column[], rows: readonly (readonly string[])[]): void {
    this.text(this.tableText(columns, rows));
  }

  tableText(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
    const widths = this.#widths(columns, rows);
    const table = new Table({
      head: columns.map(({ head }) => (head === "" ? "" : this.paint("bold", head))),
      colAligns: columns.map(({ right }) => (right ? "right" : "left")),
      chars: { ...BARE, middle: " ".repeat(GAP) },
      style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
      ...(widths === undefined ? {} : { colWidths: widths }),
    });
    table.push(...rows.map((row) => [...row]));
    return table
      .toString()
      .split("\n")
      .map((line) => line.trimEnd())
      .join("\n");
  }

  /**
   * Columns of a table that is wider than the terminal: the widest are cut, as far as they can be. Undefined where all fit,
   * and where it is no terminal: whoever reads a pipe gets all of it.
   */
  #widths(columns: readonly Column[], rows: readonly (readonly string[])[]): number[] | undefined {
    const { isTTY, columns: room } = this.#shell.stdout as NodeJS.WriteStream;
    if (isTTY !== true || !(room > 0)) return undefined;
    const widths = columns.map(({ head }, at) =>
      Math.max(head.length, ...rows.map((row) => stripVTControlCharacters(row[at] ?? "").length)),
    );
    const gaps = GAP * (columns.length - 1);
    let over = widths.reduce((sum, width) => sum + width, gaps) - room;
    if (over <= 0) return undefined;
    while (over > 0) {
      const widest = Math.max(...widths);
      if (widest <= NARROWEST) break;
      widths[widths.indexOf(widest)] = widest - 1;
      over--;
    }
    return widths;
  }

  /** A value for people: a text as it is, anything else as JavaScript would write it. */
  value(value: unknown): string {
    if (typeof value === "string") return clean(value);
    const { columns: room = VALUE } = this.#shell.stdout as NodeJS.WriteStream;
    const breakLength = Math.min(VALUE, room);
    return clean(inspect(plain(value), { depth: 12, maxArrayLength: 1_000, breakLength, compact: 3 }));
  }

  /** A value in a cell, on one line. */
  cell(value: unknown, width = CELL): string {
    const text = typeof value === "string" ? value : (JSON.stringify(value, replaced) ?? "");
    const line = clean(text).replace(/\s+/g, " ");
    return line.length > width ? `${line.slice(0, width - 1)}…` : line;
  }
}

/** Objects of other realms and without prototypes are shown as what they hold. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
}

/** What actors hold comes from anywhere; it must not write to a terminal as if it were this program. */
function clean(text: string): string {
  return text.replace(CONTROL, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** The path of a state value for people: `waiting.payment`, `{a.x, b.y}` for parallel ones. */
export function stateText(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return "";
  const parts = Object.entries(value).map(([name, inner]) => {
    const below = stateText(inner);
    return below === "" ? name : `${name}.${below}`;
  });
  return parts.length <= 1 ? (parts[0] ?? "") : `{${parts.join(", ")}}`;
}

/** A moment for people, in the zone of their machine, to the second. */
export function timeText(ms: number): string {
  const at = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return at.toISOString().slice(0, 19).replace("T", " ");
}

/** How far a moment is from another: "in 3 m 20 s", "2 h ago". */
export function fromNow(ms: number, now: number): string {
  const distance = Math.abs(ms - now);
  const seconds = Math.max(distance > 0 ? 1 : 0, Math.round(distance / 1_000)) * 1_000;
  // The two largest units: number and unit are words of their own.
  const shown = durationText(seconds).split(" ").slice(0, 4).join(" ");
  return ms >= now ? `in ${seconds === 0 ? "0 s" : shown}` : `${shown} ago`;
}
