/**
 * The children of a state that has too many of them, or too many arrows between them, to be drawn as a graph: side by
 * side, in the order in which they are declared. What leads from one to another is written into its box instead.
 *
 * A graph of 200 states takes seconds to lay out, and nobody can follow its arrows.
 */
import type { ChartState } from "../../words/chart.ts";

/** So many may be a graph. */
const CHILDREN = 24;
const EDGES = 60;
/** In a chart with so many states, a state with more children than some is a grid too. */
const STATES = 100;
const SOME = 12;
/** What a page is wide, at the least scale. */
const WIDTH = 1_560;
const GAP = 18;

export function isCrowded(state: ChartState, edges: number, statesInAll: number): boolean {
  const children = state.states.length;
  return children > CHILDREN || edges > EDGES || (statesInAll > STATES && children > SOME);
}

/** Whether a chart is laid out once only, not in both directions. */
export function isHeavy(statesInAll: number): boolean {
  return statesInAll > STATES;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Grid extends Size {
  /** The upper left corner of each. */
  readonly places: readonly { readonly x: number; readonly y: number }[];
}

export function gridOf(sizes: readonly Size[]): Grid {
  let columns = 1;
  while (columns < sizes.length && widthsOf(sizes, columns + 1).total <= WIDTH) columns++;
  const { widths, total } = widthsOf(sizes, columns);
  const places: { x: number; y: number }[] = [];
  let [x, y, height] = [0, 0, 0];
  for (const [n, size] of sizes.entries()) {
    const column = n % columns;
    if (column === 0 && n > 0) {
      y += height + GAP;
      [x, height] = [0, 0];
    }
    places.push({ x, y });
    x += (widths[column] as number) + GAP;
    height = Math.max(height, size.height);
  }
  return { places, width: total, height: y + height };
}

function widthsOf(
  sizes: readonly Size[],
  columns: number,
): { readonly widths: number[]; readonly total: number } {
  const widths: number[] = new Array(columns).fill(0);
  for (const [n, { width }] of sizes.entries())
    widths[n % columns] = Math.max(widths[n % columns] as number, width);
  return { widths, total: widths.reduce((sum, width) => sum + width, (columns - 1) * GAP) };
}
