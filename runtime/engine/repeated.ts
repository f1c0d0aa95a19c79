/**
 * Repeated requests: whether a request whose id an actor remembers is the one that made the turn.
 *
 * Owns that comparison. Talks to user code, the type's `fingerprint`. What was asked stands in the turn's own record, so
 * nothing is stored for it.
 *
 * Invariant: a request is refused as another one only if it is; where that cannot be told, its outcome is unknown.
 */
import { isDeepStrictEqual } from "node:util";
import { decode, encode } from "../words/codec.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { Create } from "../words/frames.ts";
import type { Job } from "./activation.ts";
import type { AnyActorDefinition } from "./definition.ts";
import { recorded } from "./step.ts";

/**
 * @param before the event of the turn that the request id has made, as the journal has it
 * @throws KeyturnError `request_id_reused`; `request_forgotten` if the type's `fingerprint` throws
 */
export function checkRepeated(definition: AnyActorDefinition, job: Job, before: unknown): void {
  // As it would come from the journal.
  const event = decode(encode(recorded(job)));
  if (isSame(definition, job, before, event)) return;
  throw new KeyturnError(
    "request_id_reused",
    `This request id was used for another request to ${definition.type}/${job.message.key}${whichWas(before)}: that one was applied, this one was not. A repeated request has the event that it had; another one has an id of its own.`,
  );
}

function isSame(definition: AnyActorDefinition, job: Job, before: unknown, event: unknown): boolean {
  if (isDeepStrictEqual(before, event)) return true;
  const { fingerprint } = definition;
  if (fingerprint === undefined || job.kind === Create || typeOf(before) !== typeOf(event)) return false;
  try {
    const [was, is] = [fingerprint(before as never), fingerprint(event as never)];
    return was === undefined || is === undefined || isDeepStrictEqual(was, is);
  } catch (cause) {
    const text = `Whether this is the request that had this id before cannot be told: the fingerprint of "${definition.type}" threw: ${textOf(cause)}`;
    throw new KeyturnError("request_forgotten", text, { cause });
  }
}

function typeOf(event: unknown): unknown {
  return (event as { readonly type?: unknown } | null)?.type;
}

function whichWas(before: unknown): string {
  const type = typeOf(before);
  return typeof type === "string" && !type.startsWith("xstate.") ? `, "${type.slice(0, 80)}"` : "";
}
