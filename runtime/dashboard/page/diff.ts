/** What differs between two values, path by path. */
import type { Json } from "./api.ts";

export interface Difference {
  readonly path: string;
  readonly kind: "added" | "removed" | "changed";
  readonly before?: Json | undefined;
  readonly after?: Json | undefined;
}

const MOST = 500;

export function differences(before: Json | undefined, after: Json | undefined): Difference[] {
  const found: Difference[] = [];
  collect("", before, after, found);
  return found;
}

function collect(path: string, before: Json | undefined, after: Json | undefined, found: Difference[]): void {
  if (found.length >= MOST || before === after) return;
  if (before === undefined || after === undefined) {
    const kind = before === undefined ? "added" : "removed";
    if (isOpen(before ?? after) && path === "") {
      for (const [key, value] of Object.entries((before ?? after) as Record<string, Json>))
        found.push(
          before === undefined ? { path: key, kind, after: value } : { path: key, kind, before: value },
        );
      return;
    }
    found.push({ path, kind, before, after });
    return;
  }
  if (!isOpen(before) || !isOpen(after) || Array.isArray(before) !== Array.isArray(after)) {
    // A Date, or bytes: two of the same are two objects.
    if (JSON.stringify(before) === JSON.stringify(after)) return;
    found.push({ path, kind: "changed", before, after });
    return;
  }
  const old = before as Record<string, Json>;
  const now = after as Record<string, Json>;
  for (const key of new Set([...Object.keys(old), ...Object.keys(now)])) {
    const below = Array.isArray(before) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`;
    collect(below, old[key], now[key], found);
  }
}

/** Whether a value has parts of its own; a tagged one (a Date, bytes) has none. */
function isOpen(value: Json | undefined): boolean {
  if (typeof value !== "object" || value === null) return false;
  const names = Object.keys(value);
  return !(names.length === 1 && /^~(date|bytes|bigint|number|undefined)$/.test(names[0] ?? ""));
}
