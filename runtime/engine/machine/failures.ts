/**
 * What is wrong with a step, as one of our errors.
 *
 * Owns the codes of failures of machines and of values that cannot be kept. Talks to the value checks.
 */
import { KeyturnError, textOf } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { rebuilt } from "../../words/thrown.ts";
import { seal, ValueFault } from "../../words/values.ts";

/** Checks and freezes what a step leaves in the state. @throws KeyturnError `context_invalid` */
export function sealState(value: unknown, name: string, known: unknown): void {
  try {
    seal(value, name, known);
  } catch (fault) {
    if (!(fault instanceof ValueFault)) throw fault;
    throw new KeyturnError("context_invalid", fault.message, { cause: fault });
  }
}

/** The same for what is not part of the state. */
export function sealNamed(value: unknown, code: "timers_full", name: string): void {
  try {
    seal(value, name);
  } catch (fault) {
    if (fault instanceof ValueFault) throw new KeyturnError(code, fault.message, { cause: fault });
    throw fault;
  }
}

/** What went wrong in a step, as one of our errors. The actor is as it was. */
export function failureOf(type: string, error: unknown): KeyturnError {
  if (error instanceof KeyturnError) return error;
  if (error instanceof ValueFault)
    return new KeyturnError("context_invalid", error.message, { cause: error });
  const text = textOf(error);
  if (text.startsWith("Infinite loop detected")) {
    return new KeyturnError(
      "machine_looped",
      `"${type}" took more than ${limits.microsteps} steps for one event without coming to rest. Look for eventless or raised transitions in a circle.`,
      { cause: error },
    );
  }
  if (
    error instanceof TypeError &&
    /read only property|not extensible|Cannot delete property|sealed array/.test(text)
  ) {
    return new KeyturnError(
      "context_mutated",
      `"${type}" changed its context or event in place (${text}). Return new values from assign instead.`,
      { cause: error },
    );
  }
  return new KeyturnError("machine_failed", `"${type}" threw: ${text}`, { cause: error });
}

/**
 * One of our errors as machines see it and as it is stored: an Error like those that promises throw, with `code`,
 * `outcome` and `retryable`. Others are values like any other (words/values.ts). Records from before hold the same
 * properties in a plain object.
 */
export function plainError(error: unknown): unknown {
  if (!(error instanceof KeyturnError)) return error;
  const { message, ...known } = error.toJSON();
  return rebuilt([0, error.name, message, known]);
}
