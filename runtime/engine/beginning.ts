/**
 * How an actor begins, and ends: the input that its machine starts with, and the output it is done with.
 *
 * A virtual actor has no constructor. It begins with the first message that reaches it, on an input that is made from
 * its address, or with a `create` that brings one. Talks to the machine's host and to the type's schemas.
 *
 * Invariants:
 * 1. No machine starts on an input that does not fit its type's schema, whoever gave it.
 * 2. An input is plain data and frozen before user code sees it.
 */
import { KeyturnError, textOf } from "../words/errors.ts";
import { seal, ValueFault } from "../words/values.ts";
import type { AnyActorDefinition, HostedType } from "./definition.ts";
import { type Effects, type MachineSnapshot, withoutRefs } from "./machine.ts";
import { checkSchema } from "./schema.ts";

/** The snapshot of an actor that begins now. */
export interface Begun {
  readonly snapshot: MachineSnapshot;
  readonly effects: Effects;
}

/**
 * Begins an actor.
 * @param given the input that a `create` brought, checked already; if undefined one is made from the address
 * @throws KeyturnError `invalid_input`, and what `MachineHost.start` throws
 */
export function begin(
  { definition, host }: HostedType,
  key: string,
  turn: number,
  now: number,
  given?: unknown,
): Begun {
  const own = definition.input === undefined && definition.inputSchema === undefined;
  if (given === undefined && own) return host.start(key, turn, now);
  return host.start(key, turn, now, given === undefined ? inputFor(definition, key) : given);
}

/** Throws `invalid_input` if what a `create` brought does not fit; undefined says: what the address gives. */
export function checkInput({ type, inputSchema }: AnyActorDefinition, input: unknown): void {
  if (input === undefined) return;
  checkSchema(inputSchema, input, { code: "invalid_input", name: "input", type });
}

/** Throws `output_invalid` if a machine that is done has an output that does not fit. */
export function checkOutput({ type, outputSchema }: AnyActorDefinition, { output }: MachineSnapshot): void {
  if (outputSchema === undefined) return;
  checkSchema(outputSchema, withoutRefs(output), { code: "output_invalid", name: "output", type });
}

/** The input that an actor's address gives it. */
function inputFor(definition: AnyActorDefinition, key: string): unknown {
  const { type, input: make } = definition;
  try {
    const address = { type, key };
    const input = make === undefined ? address : make(address);
    seal(input, "input");
    checkSchema(definition.inputSchema, input, { code: "invalid_input", name: "input", type });
    return input;
  } catch (cause) {
    const known = cause instanceof KeyturnError || cause instanceof ValueFault;
    const text = known ? cause.message : `its input threw: ${textOf(cause)}`;
    throw new KeyturnError(
      "invalid_input",
      `"${type}" cannot begin by itself (${text}). If this actor is to begin with an input, create it first with ref.create(input).`,
      { cause },
    );
  }
}
