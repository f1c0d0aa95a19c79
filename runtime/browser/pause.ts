/** Pauses between tries: they grow, and no two clients have the same. */

/** @param tries that have failed, from 1 */
export function pauseAfter(tries: number, first_ms: number, last_ms: number): number {
  const most = Math.min(last_ms, first_ms * 2 ** Math.min(tries - 1, 20));
  return most / 2 + (Math.random() * most) / 2;
}

/** Resolves after a while, or at once when the signal says so. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}
