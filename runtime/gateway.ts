/**
 * The gateway: answers clients that are not ours, in JSON.
 *
 * Owns the form of the answers. Talks to a client of the runtime in the same process, so that a plain message is a
 * request like any other: once applied, fenced, and answered after the commit.
 *
 *   payload   the event as JSON, or nothing to read the state
 *   headers   Keyturn-Request-Id (or Nats-Msg-Id), Keyturn-Timeout (milliseconds), traceparent, tracestate
 *   answer    { value, state, position } or { error: { code, message, retryable, outcome } }
 *
 * Invariants:
 * 1. Every message that waits for an answer gets exactly one.
 * 2. At most `limits.plainInFlight` are in flight; the others are refused at once.
 */
import type { Client } from "./client/client.ts";
import type { ActorState } from "./engine/definition.ts";
import type { AppSettings, Gateway, PlainMessage } from "./ports/index.ts";
import { decodeKey, encodeKey } from "./words/address.ts";
import { isKeyturnError, KeyturnError, textOf } from "./words/errors.ts";
import { limits } from "./words/limits.ts";

const toUtf8 = new TextEncoder();
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** What a plain client is answered. */
export interface PlainAnswer {
  /** The machine's reply; null if it gave none. */
  readonly value: unknown;
  readonly state: Omit<ActorState, "position">;
  readonly position: number;
}

export class PlainGateway implements Gateway {
  readonly #client: () => Client;
  readonly #settings: AppSettings;
  #inFlight = 0;
  #onIdle: (() => void) | undefined;

  constructor(client: () => Client, settings: AppSettings) {
    this.#client = client;
    this.#settings = settings;
  }

  info(): Uint8Array {
    return bytesOf(this.#settings);
  }

  plain(message: PlainMessage): void {
    if (this.#inFlight >= limits.plainInFlight) {
      const text = `This node has ${limits.plainInFlight} plain requests in flight, its limit. Try again later.`;
      message.respond?.(bytesOf(errorOf(new KeyturnError("overloaded", text))));
      return;
    }
    this.#inFlight++;
    void this.#answer(message)
      .catch((error: unknown) => bytesOf(errorOf(error)))
      .then((answer) => {
        this.#inFlight--;
        message.respond?.(answer);
        if (this.#inFlight === 0) this.#onIdle?.();
      });
  }

  /** Resolves when everything taken so far is answered. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#inFlight === 0) resolve();
      else this.#onIdle = resolve;
    });
  }

  async #answer({ type, token, payload, header }: PlainMessage): Promise<Uint8Array> {
    const ref = this.#client().actor(`${type}/${keyOf(token)}`);
    const timeout = header("Keyturn-Timeout");
    const options = {
      requestId: header("Keyturn-Request-Id") ?? header("Nats-Msg-Id"),
      trace: header("traceparent"),
      traceState: header("tracestate"),
      timeout_ms: timeout === undefined ? undefined : Number(timeout),
    };
    if (payload.length === 0) {
      const state = await ref.get(options);
      return carriable(bytesOf(plainAnswer(null, state)), "state_too_large");
    }
    const { value, state } = await ref.call(eventOf(payload), options);
    return carriable(bytesOf(plainAnswer(value, state)), "answer_too_large");
  }
}

/** What fits into one message. @throws KeyturnError of that code */
function carriable(answer: Uint8Array, code: "state_too_large" | "answer_too_large"): Uint8Array {
  if (answer.length <= limits.frameBytes) return answer;
  const done = code === "answer_too_large" ? "The turn is committed, but what it answers" : "The state";
  throw new KeyturnError(
    code,
    `${done} takes ${answer.length} bytes as JSON, and at most ${limits.frameBytes} can be carried. Reply with less, and keep less in the context.`,
  );
}

/** The form in which plain clients see a turn. */
export function plainAnswer(value: unknown, { position, ...state }: ActorState): PlainAnswer {
  return { value: value ?? null, state, position };
}

/** The key in a subject's token, which has to be written as `encodeKey` writes it. */
function keyOf(token: string): string {
  try {
    return decodeKey(token);
  } catch {
    let hint = "";
    try {
      hint = ` Write "${encodeKey(token)}".`;
    } catch {
      // Then it cannot be a key at all.
    }
    throw new KeyturnError(
      "invalid_address",
      `"${token.slice(0, 80)}" is not a key as it stands in a subject: letters, digits, "_" and "-" as they are, every other byte of its UTF-8 as =XX in hexadecimal capitals.${hint}`,
    );
  }
}

function eventOf(payload: Uint8Array): { type: string } {
  if (payload.length > limits.eventBytes * 2) {
    throw new KeyturnError(
      "event_too_large",
      `The message has ${payload.length} bytes; an event has at most ${limits.eventBytes}.`,
    );
  }
  try {
    return JSON.parse(utf8.decode(payload)) as { type: string };
  } catch (cause) {
    throw new KeyturnError(
      "invalid_event",
      `The message is not JSON: ${textOf(cause)}. Send an event like {"type":"add","by":1}.`,
      { cause },
    );
  }
}

function errorOf(error: unknown): unknown {
  const known = isKeyturnError(error)
    ? error
    : new KeyturnError("store_failed", textOf(error), { cause: error });
  return { error: known.toJSON() };
}

/** As JSON; what it has no form for becomes text. */
function bytesOf(value: unknown): Uint8Array {
  return toUtf8.encode(JSON.stringify(value, replaced));
}

/**
 * By what it is, before its own toJSON has had its say: bytes as base64, large integers as their digits, Maps as lists of
 * their entries, Sets as lists, Errors as objects with their name and message.
 */
export function replaced(this: unknown, name: string, part: unknown): unknown {
  const whole = (this as Readonly<Record<string, unknown>>)[name];
  if (whole instanceof Uint8Array) return Buffer.from(whole).toString("base64");
  if (whole instanceof Map || whole instanceof Set) return [...whole];
  if (whole instanceof Error && part === whole) {
    const { name, message, cause } = whole;
    return Object.assign({ name, message, cause }, whole);
  }
  return typeof part === "bigint" ? String(part) : part;
}
