/**
 * How many actors of a type there are, in all and in each state, as the page shows it.
 *
 * Counting a type for the first time reads all of it, which takes long where there are millions. So counts are asked for
 * only where they are looked at, two at a time; the last one stays while the next is on its way; and one that does not
 * come in time is no error but being counted still.
 */
import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, type Count, Refused } from "./api.ts";
import { usePolled } from "./hooks.ts";

const COUNT_MS = 1_000;
const AT_ONCE = 2;

/** The first count of millions takes longer than requests do otherwise. A server may allow less. */
const PATIENCE_MS = 45_000;

let isPatient = true;
let counting = 0;
const waiting: (() => void)[] = [];

async function inTurn<T>(signal: AbortSignal, run: () => Promise<T>): Promise<T> {
  while (counting >= AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  counting++;
  try {
    signal.throwIfAborted();
    return await run();
  } finally {
    counting--;
    waiting.shift()?.();
  }
}

async function countOf(type: string, signal: AbortSignal): Promise<Count> {
  const path = `/types/${type}/count`;
  if (!isPatient) return ask(path, { signal });
  try {
    return await ask(path, { signal, headers: { "keyturn-timeout": String(PATIENCE_MS) } });
  } catch (error) {
    if (!(error instanceof Refused && error.problem.code === "invalid_options")) throw error;
    isPatient = false;
    return ask(path, { signal });
  }
}

export interface Counted {
  readonly value: Count | undefined;
  /** A count is waited for. */
  readonly isCounting: boolean;
  /** Why there will be none. */
  readonly refusal: string | undefined;
  /** Put on what shows it: nothing is counted that cannot be seen. */
  readonly place: RefObject<HTMLElement | null>;
}

export function useCount(type: string): Counted {
  const place = useRef<HTMLElement | null>(null);
  const last = useRef<Count | undefined>(undefined);
  const isSeen = useRef(false);
  const seen = useSeen(place, isSeen);
  const { value, problem, isSlow, error } = usePolled<Count | undefined>(
    async (signal) => {
      if (isSeen.current) last.current = await inTurn(signal, () => countOf(type, signal));
      return last.current;
    },
    COUNT_MS,
    [type],
    seen,
  );
  const isLate = problem !== undefined && (problem.retryable === true || problem.status === 504);
  const refusal = problem !== undefined && !isLate ? error : undefined;
  return { value, isCounting: isSlow || isLate, refusal, place };
}

/** Whether an element is in sight, or nearly. @param now always says the same at once */
function useSeen(place: RefObject<HTMLElement | null>, now: { current: boolean }): boolean {
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const look = new IntersectionObserver(
      ([entry]) => {
        now.current = entry?.isIntersecting ?? false;
        setSeen(now.current);
      },
      { rootMargin: "120px" },
    );
    look.observe(element);
    return () => look.disconnect();
  }, []);
  return seen;
}
