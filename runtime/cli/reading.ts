/** What only reads changes nothing: an unknown outcome is a failure there, and no question of what was applied. */
import { isKeyturnError } from "../words/errors.ts";
import { Failure } from "./shell.ts";

export async function asReading<T>(reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (cause) {
    if (isKeyturnError(cause) && cause.outcome === "unknown") throw new Failure(cause.message, { cause });
    throw cause;
  }
}
