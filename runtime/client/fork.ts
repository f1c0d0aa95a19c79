/**
 * Forks: a sandbox actor that begins with another's past state.
 *
 * Owns the checks of what is asked for, and the request that begins the sandbox. Talks to the client; the state is read
 * by the actor's owner (engine/history.ts), the sandbox is begun by its own (engine/replace.ts). No user code runs.
 */
import type { HistoryQuery, PastQuery, PastState } from "../engine/history.ts";
import { isLifeTimer } from "../engine/life.ts";
import { isWorkTimer } from "../engine/machine.ts";
import { unpackTimer } from "../engine/record.ts";
import { FORKED, type Replacement } from "../engine/replace.ts";
import { parseAddress } from "../words/address.ts";
import { KeyturnError } from "../words/errors.ts";
import { History, Replace } from "../words/frames.ts";
import { sizeOf } from "../words/values.ts";
import type { Client } from "./client.ts";
import type { CallOptions } from "./options.ts";
import type { ActorRef } from "./ref.ts";

export interface ForkOptions {
  /** Where the sandbox begins: after that turn, or after the last turn up to a journal position; the present by default. */
  readonly at?: number | { readonly position: number } | undefined;
  /** The sandbox: an address or reference of the same type, which must not exist. */
  readonly to: string | { readonly type: string; readonly key: string };
  /**
   * What becomes of delays that were running: dropped by default, so that nothing happens by itself; "keep" leaves
   * them due when they were. Work outside (promises, callbacks, observables) is never taken along: it stands still.
   */
  readonly timers?: "drop" | "keep" | undefined;
  readonly timeout_ms?: number | undefined;
}

/** A past state of an actor as a whole. */
export async function pastOf(
  client: Client,
  ref: ActorRef,
  at: ForkOptions["at"],
  options: CallOptions,
): Promise<PastState> {
  const query: HistoryQuery = { order: "newest", limit: 1, cursor: undefined, state: pastQuery(at) };
  const found = (await client.request(ref, History, query, options, sizeOf(query))) as PastState;
  if (found.machine !== undefined) return found;
  throw new KeyturnError(
    "newer_version",
    `The node that has ${ref.address} runs an older Keyturn, which cannot tell past states. Upgrade it.`,
  );
}

function pastQuery(at: ForkOptions["at"]): PastQuery {
  const position = typeof at === "object" && at !== null ? at.position : undefined;
  const query: PastQuery =
    at === undefined
      ? { position: Number.MAX_SAFE_INTEGER }
      : position === undefined
        ? { turn: at as number }
        : { position };
  const [value] = Object.values(query) as [unknown];
  if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return query;
  throw new KeyturnError(
    "invalid_options",
    "A fork begins at a turn, a whole number from 1, or at { position }.",
  );
}

/** Begins a sandbox; resolves with its address. */
export async function forkActor(
  client: Client,
  ref: ActorRef,
  options: ForkOptions,
): Promise<{ type: string; key: string }> {
  const { to, timers = "drop", timeout_ms } = options;
  const target = typeof to === "string" ? parseAddress(to) : { type: to?.type, key: to?.key };
  if (target.type !== ref.type || target.key === ref.key) {
    throw new KeyturnError(
      "invalid_options",
      `A fork of ${ref.address} is another actor of type "${ref.type}", not ${target.type}/${target.key}.`,
    );
  }
  if (timers !== "drop" && timers !== "keep")
    throw new KeyturnError("invalid_options", 'What becomes of timers is "drop" or "keep".');
  const sandbox = client.actor(`${target.type}/${target.key}`);
  const past = await pastOf(client, ref, options.at, { timeout_ms });
  const kept = past.timers.filter((packed) => {
    const timer = unpackTimer(packed);
    return timers === "keep" && !isWorkTimer(timer) && !isLifeTimer(timer);
  });
  const replacement: Replacement = {
    why: FORKED,
    turn: 0,
    at: null,
    version: past.version,
    machine: past.machine,
    timers: kept,
    of: `${ref.address}@${past.turn}`,
  };
  if (await replaceActor(client, sandbox, replacement, { timeout_ms })) return target;
  throw new KeyturnError(
    "already_exists",
    `${sandbox.address} exists already. Fork to an address of its own.`,
  );
}

/** Puts a state in an actor's place. False if the actor does not stand where the replacement expects it. */
export async function replaceActor(
  client: Client,
  ref: ActorRef,
  replacement: Replacement,
  options: CallOptions,
): Promise<boolean> {
  const answer = await client.request(ref, Replace, replacement, options, sizeOf(replacement));
  return answer === true;
}
