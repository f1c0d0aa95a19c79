/**
 * Waiting for what somebody else may be about to set right: a server that starts, a process that ends, a provisioner
 * that runs. What cannot get right by itself is thrown at once.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isKeyturnError, type KeyturnError } from "../words/errors.ts";
import type { Console } from "./console.ts";
import { Failure } from "./shell.ts";

export interface WaitOptions {
  readonly wait_ms: number;
  /** What is waited for, for people. */
  readonly where: string;
  readonly console: Console;
  /** Ends the waiting early. */
  readonly stop?: AbortSignal;
}

const RETRY_FIRST_MS = 200;
const RETRY_LAST_MS = 2_000;
/** How often people are told that there is still nothing. */
const STILL_MS = 5_000;

/**
 * Tries until it succeeds. Undefined if it was told to stop before.
 * @throws Failure after the time; what `run` throws, if waiting does not help
 */
export function withinWait<T>(
  options: WaitOptions & { readonly stop: AbortSignal },
  run: () => Promise<T>,
): Promise<T | undefined>;
export function withinWait<T>(options: Omit<WaitOptions, "stop">, run: () => Promise<T>): Promise<T>;
export async function withinWait<T>(
  { wait_ms, where, console, stop }: WaitOptions,
  run: () => Promise<T>,
): Promise<T | undefined> {
  const until_ms = performance.now() + wait_ms;
  let pause_ms = RETRY_FIRST_MS;
  let said_ms = Number.NEGATIVE_INFINITY;
  while (!stop?.aborted) {
    try {
      return await run();
    } catch (error) {
      if (!isWorthWaiting(error)) throw error;
      const now_ms = performance.now();
      if (now_ms >= until_ms) {
        const within = wait_ms > 0 ? ` within ${wait_ms / 1_000} s` : "";
        const text = `${where} could not be used${within}: ${error.message}`;
        throw new Failure(text, { cause: error });
      }
      if (now_ms - said_ms >= STILL_MS) {
        said_ms = now_ms;
        console.note(
          `${error.message} It is tried for ${Math.ceil((until_ms - now_ms) / 1_000)} s more.`,
          "warn",
        );
      }
      await pause(Math.min(pause_ms, until_ms - now_ms), stop);
      pause_ms = Math.min(pause_ms * 2, RETRY_LAST_MS);
    }
  }
  return undefined;
}

function isWorthWaiting(error: unknown): error is KeyturnError {
  return (
    isKeyturnError(error) &&
    (error.retryable || error.code === "store_locked" || error.code === "not_provisioned")
  );
}

async function pause(ms: number, stop: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, stop === undefined ? {} : { signal: stop }).catch(() => undefined);
}
