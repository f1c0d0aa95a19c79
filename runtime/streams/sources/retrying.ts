/** Asks again what may be asked again, until it is answered or given up. */
import type { Clock } from "../../ports/index.ts";
import { isKeyturnError } from "../../words/errors.ts";
import { pause } from "./pause.ts";

const PAUSE_FIRST_MS = 20;
const PAUSE_LAST_MS = 2_000;

/**
 * @param ask something that changes nothing when it is done twice
 * @param troubled called with what is in the way, and without once it is over
 * @throws what no repetition can cure, and the last error once `signal` is aborted
 */
export async function retrying<T>(
  clock: Clock,
  ask: () => Promise<T>,
  signal: AbortSignal,
  troubled: (error: unknown) => void = () => undefined,
): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      const answer = await ask();
      if (tries > 0) troubled(undefined);
      return answer;
    } catch (error) {
      if (!isKeyturnError(error) || !error.retryable || signal.aborted) throw error;
      troubled(error);
    }
    const pause_ms = Math.min(PAUSE_LAST_MS, PAUSE_FIRST_MS * 2 ** tries);
    await pause(clock, pause_ms, signal);
  }
}
