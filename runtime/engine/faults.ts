/** What goes wrong with a message, as one of our errors. */
import { KeyturnError, textOf } from "../words/errors.ts";
import { ValueFault } from "../words/values.ts";

/** Whatever a step threw, as one of our errors. */
export function asError(error: unknown): KeyturnError {
  if (error instanceof KeyturnError) return error;
  if (error instanceof ValueFault) return new KeyturnError("invalid_event", error.message, { cause: error });
  return new KeyturnError("machine_failed", textOf(error), { cause: error });
}

export function unknownType(type: string): KeyturnError {
  const text = `No actor of type "${type.slice(0, 80)}" is defined here. Give its definition to startNode({ actors }).`;
  return new KeyturnError("unknown_type", text);
}
