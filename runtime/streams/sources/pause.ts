/** Waiting by a clock that is handed in, until it is time or somebody has given up. */
import type { Clock } from "../../ports/index.ts";

/** Resolves after so long, or at once when `signal` is aborted. */
export function pause(clock: Clock, duration_ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      signal.removeEventListener("abort", end);
      cancel();
      resolve();
    };
    const cancel = clock.after(duration_ms, end);
    signal.addEventListener("abort", end);
  });
}
