/**
 * The states that a machine has, for whoever names one that it has not.
 *
 * Owns how near two names are. Talks to nobody.
 */
import type { Machine } from "./machine/internals.ts";

/** As many are told. */
const TOLD = 8;

/**
 * The states to choose from, if a machine has none of that path: all if they are few, else those whose names are near.
 * Undefined if it has it.
 */
export function statesBeside(machine: Machine, path: string): readonly string[] | undefined {
  const all: string[] = [];
  collect(machine.root, "", all);
  if (all.includes(path)) return undefined;
  if (all.length <= TOLD) return all;
  const most = Math.max(2, Math.floor(path.length / 2));
  const near = all
    .map((state) => ({ state, far: Math.min(distance(state, path), distance(lastOf(state), lastOf(path))) }))
    .filter(({ far }) => far <= most)
    .sort((a, b) => a.far - b.far);
  return near.length === 0
    ? all.filter((state) => !state.includes(".")).slice(0, TOLD)
    : near.slice(0, TOLD).map(({ state }) => state);
}

function collect(node: Machine["root"], path: string, all: string[]): void {
  for (const [key, child] of Object.entries(node.states)) {
    // Nobody stands in one.
    if (child.type === "history") continue;
    const own = path === "" ? key : `${path}.${key}`;
    all.push(own);
    collect(child as Machine["root"], own, all);
  }
}

function lastOf(path: string): string {
  return path.slice(path.lastIndexOf(".") + 1);
}

/** Letters to be changed, put in or taken out (Levenshtein), whatever their case. */
function distance(from: string, to: string): number {
  const [a, b] = [from.toLowerCase().slice(0, 100), to.toLowerCase().slice(0, 100)];
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const put = Math.min(next[j - 1] as number, row[j] as number) + 1;
      next.push(Math.min(put, (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length] as number;
}
