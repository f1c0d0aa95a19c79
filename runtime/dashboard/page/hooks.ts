/** Small pieces of behaviour that several views share: where the page is, what is asked again and again, the theme. */
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Problem, Refused, textOf } from "./api.ts";

export interface Place {
  readonly parts: readonly string[];
  readonly query: URLSearchParams;
}

function placeNow(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter((part) => part !== "");
  return { parts: parts.map(decoded), query: new URLSearchParams(query) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Where the page is: the hash, so that every view has an address and the server needs to know of none. */
export function usePlace(): Place {
  const [place, setPlace] = useState(placeNow);
  useEffect(() => {
    const changed = (): void => setPlace(placeNow());
    addEventListener("hashchange", changed);
    // It may have changed before anybody listened.
    changed();
    return () => removeEventListener("hashchange", changed);
  }, []);
  return place;
}

export function linkTo(parts: readonly string[], query: Readonly<Record<string, string>> = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== "");
  const text = given.length === 0 ? "" : `?${new URLSearchParams(Object.fromEntries(given))}`;
  return `#/${parts.map(encodeURIComponent).join("/")}${text}`;
}

export interface Polled<T> {
  /** The newest answer; it stays while a further one is waited for, and when that is refused. */
  readonly value: T | undefined;
  readonly error: string | undefined;
  /** The refusal, if it was one: it may be worth waiting. */
  readonly problem: Problem | undefined;
  /** An answer is waited for, and has been for a while. */
  readonly isSlow: boolean;
  /** Asks now. */
  again(): void;
}

/** From when on an answer is said to be waited for. */
const SLOW_MS = 1_200;

interface Answered<T> {
  readonly value: T | undefined;
  readonly failure: unknown;
}

const NOT_YET = { value: undefined, failure: undefined };

/**
 * Asks again and again while the page is looked at: after a pause that is never shorter than ten times what the answer
 * took, so that looking costs a node little however large it is.
 * @param dependsOn what the question depends on: with another one, the answer to the last is forgotten
 * @param wake with another one it is asked at once, and the last answer stays until then
 */
export function usePolled<T>(
  load: (signal: AbortSignal) => Promise<T>,
  pause_ms: number,
  dependsOn: readonly unknown[],
  wake?: unknown,
): Polled<T> {
  const [{ value, failure }, setAnswered] = useState<Answered<T>>(NOT_YET);
  const [isSlow, setSlow] = useState(false);
  const waking = useRef<() => void>(() => undefined);
  useEffect(() => {
    const stop = new AbortController();
    setAnswered(NOT_YET);
    const run = async (): Promise<void> => {
      while (!stop.signal.aborted) {
        const began_ms = performance.now();
        const isAnswered = document.hidden || (await once());
        // What was refused has cost little, or is on its way: the first count of a million reads them all.
        const took_ms = isAnswered ? performance.now() - began_ms : 0;
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, Math.max(pause_ms, took_ms * 10));
          waking.current = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    };
    const once = async (): Promise<boolean> => {
      const slow = setTimeout(() => !stop.signal.aborted && setSlow(true), SLOW_MS);
      try {
        const found = await load(stop.signal);
        // One and the same is nothing new to be drawn.
        const newer = (now: Answered<T>): Answered<T> =>
          now.value === found && now.failure === undefined ? now : { value: found, failure: undefined };
        if (!stop.signal.aborted) setAnswered(newer);
        return true;
      } catch (failure) {
        if (!stop.signal.aborted) setAnswered(({ value }) => ({ value, failure }));
        return false;
      } finally {
        clearTimeout(slow);
        if (!stop.signal.aborted) setSlow(false);
      }
    };
    const shown = (): void => waking.current();
    document.addEventListener("visibilitychange", shown);
    void run();
    return () => {
      stop.abort();
      waking.current();
      document.removeEventListener("visibilitychange", shown);
    };
  }, dependsOn);
  useEffect(() => waking.current(), [wake]);
  const again = useCallback(() => waking.current(), []);
  const error = failure === undefined ? undefined : textOf(failure);
  return { value, error, problem: failure instanceof Refused ? failure.problem : undefined, isSlow, again };
}

export const THEMES = ["auto", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];
const THEME = "keyturn.theme";

export function useTheme(): [Theme, () => void] {
  const [theme, setTheme] = useState<Theme>(() => {
    const kept = localStorage.getItem(THEME) as Theme | null;
    return kept !== null && THEMES.includes(kept) ? kept : "auto";
  });
  useLayoutEffect(() => {
    localStorage.setItem(THEME, theme);
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }, [theme]);
  return [theme, () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] as Theme)];
}

/** A value that follows another one once that has been still for a moment. */
export function useSettled<T>(value: T, pause_ms: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(() => value), pause_ms);
    return () => clearTimeout(timer);
  }, [value, pause_ms]);
  return settled;
}

/** The clock, for what counts down. */
export function useNow(every_ms: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), every_ms);
    return () => clearInterval(timer);
  }, [every_ms]);
  return now;
}
