/**
 * Updates: arithmetic on a state that is a number.
 *
 * Owns the four operations and what is refused. Talks to nobody.
 */
import { KeyturnError } from "../words/errors.ts";

export type Operation = "add" | "subtract" | "multiply" | "divide";

const operations: Readonly<Record<Operation, (value: number, operand: number) => number>> = {
  add: (value, operand) => value + operand,
  subtract: (value, operand) => value - operand,
  multiply: (value, operand) => value * operand,
  divide: (value, operand) => value / operand,
};

/** @throws KeyturnError `invalid_operand` (also for a division by zero), `invalid_event` for an unknown operation */
export function updated(name: string, value: unknown, operand: unknown, operation: unknown): number {
  if (typeof operation !== "string" || !Object.hasOwn(operations, operation))
    throw new KeyturnError(
      "invalid_event",
      `An operation is "add", "subtract", "multiply" or "divide", not ${JSON.stringify(operation)}.`,
    );
  const before = finite(value, `The state "${name}"`);
  const by = finite(operand, "The operand");
  if (operation === "divide" && by === 0)
    throw new KeyturnError("invalid_operand", `The state "${name}" cannot be divided by zero.`);
  const next = operations[operation as Operation](before, by);
  return finite(next, `What becomes of the state "${name}" (${before} ${operation} ${by})`);
}

function finite(value: unknown, what: string): number {
  if (typeof value === "number" && Number.isFinite(value)) return value;
  const shown = typeof value === "number" ? String(value) : value === null ? "null" : `a ${typeof value}`;
  throw new KeyturnError("invalid_operand", `${what} is ${shown}; it has to be a finite number.`);
}
