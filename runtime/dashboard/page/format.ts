/** How times, counts, states and events are written. */
import type { Json } from "./api.ts";
import { spanText } from "./chart-layout.ts";

const number = new Intl.NumberFormat("en");

export function count(value: number): string {
  return number.format(value);
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** Where there is little room: 12.3M. */
export function rounded(value: number): string {
  return compact.format(value);
}

export function span(ms: number): string {
  const whole = Math.max(0, Math.round(ms));
  if (whole < 1_000) return `${whole} ms`;
  const s = whole / 1_000;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.floor(s)} s`;
  if (s < 3_600) return parts(s, 60, "min", 1, "s");
  if (s < 86_400) return parts(s, 3_600, "h", 60, "min");
  return parts(s, 86_400, "d", 3_600, "h");
}

function parts(s: number, large: number, name: string, small: number, less: string): string {
  const rest = Math.floor((s % large) / small);
  return `${Math.floor(s / large)} ${name}${rest === 0 ? "" : ` ${rest} ${less}`}`;
}

/** An event's type; XState's own name of an `after` in words: how long, and in which state. */
export function eventText(type: string): string {
  const [, delay, state] = /^xstate\.after\.([^.]+)\.(.+)$/.exec(type) ?? [];
  if (delay === undefined || state === undefined) return type;
  const time = /^\d+$/.test(delay) ? spanText(Number(delay)) : delay;
  return `after ${time} in ${state.replace(/^[^.]+\./, "")}`;
}

export function moment(ms: number): string {
  const date = new Date(ms);
  const day = date.toDateString() === new Date().toDateString() ? "" : `${date.toISOString().slice(0, 10)} `;
  const two = (part: number): string => String(part).padStart(2, "0");
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day}${clock}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** The paths of a state value: `"a"` is ["a"], `{ a: "b", c: "d" }` is ["a.b", "c.d"]. */
export function pathsOf(value: Json): string[] {
  if (typeof value === "string") return [value];
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [];
  return Object.entries(value).flatMap(([key, below]) => {
    const inner = pathsOf(below);
    return inner.length === 0 ? [key] : inner.map((path) => `${key}.${path}`);
  });
}

export function stateText(value: Json): string {
  const paths = pathsOf(value);
  return paths.length === 0 ? "–" : paths.join(", ");
}

/** One of the eight colours of the style sheet, always the same for a name. */
export function colourOf(name: string): number {
  let hash = 2_166_136_261;
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 16_777_619);
  hash ^= hash >>> 15;
  return (hash >>> 0) % 8;
}
