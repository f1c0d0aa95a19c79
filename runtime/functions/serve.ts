/**
 * The other side: serves functions to nodes, from any Node process.
 *
 * Owns one HTTP listener; has no state, and needs no node, store or client. Talks to the user's functions. What it is sent
 * is checked, and bounded.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Wish } from "../engine/machine.ts";
import { textOf } from "../words/errors.ts";
import type { AnyFunction, EventOf, Handler, ResultOf, StatesRecordOf } from "./function.ts";
import { type FunctionContext, type Home, Invocation } from "./invocation.ts";
import {
  BODY_BYTES,
  checkJson,
  type WireInvocation,
  type WireRequest,
  type WireResult,
  type WireSend,
} from "./wire.ts";

/** What a function served elsewhere looks like, from its definition: `const score: HandlerOf<typeof scoreFunction> = …`. */
export type HandlerOf<F extends AnyFunction> = Handler<EventOf<F>, StatesRecordOf<F>, ResultOf<F>>;

/** A function of whatever event and states; `HandlerOf` says which. */
// biome-ignore lint/suspicious/noExplicitAny: the server has no definitions
type AnyHandler = (event: any, state: any, context: FunctionContext) => AnyReturned | Promise<AnyReturned>;
type AnyReturned = { readonly state?: object; readonly result?: unknown } | void;

/** Refuses a whole request. */
class Refused extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/**
 * A listener for `node:http` that runs functions for `defineRemoteFunction`:
 *
 * ```ts
 * createServer(serveFunctions({ score: (event, { seen }) => ({ state: { seen: seen + 1 }, result: 0.7 }) })).listen(8080);
 * ```
 *
 * A function is given what it would be given anywhere, and may be async. It runs at least once for each event: use the
 * `idempotencyKey` for what it does outside. Who may call is up to whatever stands in front of the listener.
 */
export function serveFunctions(
  handlers: Readonly<Record<string, AnyHandler>>,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    const controller = new AbortController();
    response.on("close", () => {
      if (!response.writableFinished) controller.abort();
    });
    answer(handlers, request, controller.signal).then(
      (body) => end(response, 200, body),
      (error: unknown) => {
        const status = error instanceof Refused ? error.status : 500;
        end(response, status, JSON.stringify({ error: { message: textOf(error) } }));
      },
    );
  };
}

function end(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(body);
}

async function answer(
  handlers: Readonly<Record<string, AnyHandler>>,
  request: IncomingMessage,
  signal: AbortSignal,
): Promise<string> {
  if (request.method !== "POST") throw new Refused(405, "Functions are invoked by POST.");
  const { function: name, type, invocations } = read(await bodyOf(request));
  if (!Object.hasOwn(handlers, name))
    throw new Refused(404, `There is no function "${name.slice(0, 80)}" here.`);
  const handler = handlers[name] as AnyHandler;
  const results = await Promise.all(invocations.map((one) => run(handler, type, one, signal)));
  return `{"results":[${results.join(",")}]}`;
}

/** The result of one invocation, as a text. */
async function run(
  handler: AnyHandler,
  type: string,
  { id, attempt, key, now, event, state }: WireInvocation,
  signal: AbortSignal,
): Promise<string> {
  try {
    const home: Home = { type, has: () => true, typeOf: (to) => to.type };
    const invocation = new Invocation(home, key, now, { idempotencyKey: id, attempt, signal });
    const returned = (await handler(event, state as never, invocation)) ?? {};
    const next = (returned.state ?? {}) as Readonly<Record<string, unknown>>;
    const names = Object.keys(next);
    const result: WireResult = {
      id,
      state: Object.fromEntries(
        names.filter((name) => next[name] !== undefined).map((name) => [name, next[name]]),
      ),
      reset: names.filter((name) => next[name] === undefined),
      ...(returned.result === undefined ? {} : { result: returned.result }),
      ...sentBy(invocation.end()),
    };
    checkJson(result, "the result", 0);
    return JSON.stringify(result);
  } catch (error) {
    return JSON.stringify({ id, error: { message: textOf(error) } });
  }
}

function sentBy(wishes: readonly Wish[]): Pick<WireResult, "send" | "cancel" | "emit"> {
  const send: WireSend[] = [];
  const cancel: string[] = [];
  const emit: { type: string }[] = [];
  for (const wish of wishes) {
    if (wish.kind === "tell") send.push({ to: wish.to, event: wish.event as { type: string } });
    else if (wish.kind === "emit") emit.push(wish.event as { type: string });
    else if (wish.kind === "cancel") cancel.push(idOf(wish.id));
    else if (wish.kind === "later") {
      const { to, event } = wish.event as unknown as WireSend;
      send.push({
        to,
        event,
        after_ms: wish.delay_ms,
        ...(wish.id === undefined ? {} : { id: idOf(wish.id) }),
      });
    }
  }
  return { send, cancel, emit };
}

/** An id as the function gave it; see invocation.ts. */
function idOf(id: string): string {
  return id.slice("later.".length);
}

function read(text: string): WireRequest {
  let request: Partial<WireRequest> | null;
  try {
    request = JSON.parse(text) as Partial<WireRequest> | null;
  } catch (error) {
    throw new Refused(400, `The request is not JSON: ${textOf(error)}`);
  }
  const { version, function: name, type, invocations } = request ?? {};
  if (version !== 1) throw new Refused(400, `This server speaks version 1, not ${String(version)}.`);
  const good = (one: Partial<WireInvocation> | null): boolean =>
    typeof one?.id === "string" &&
    typeof one.key === "string" &&
    typeof one.now === "number" &&
    typeof one.event === "object" &&
    typeof one.state === "object";
  if (
    typeof name !== "string" ||
    typeof type !== "string" ||
    !Array.isArray(invocations) ||
    !invocations.every(good)
  )
    throw new Refused(
      400,
      "A request is { version, function, type, invocations: [{ id, attempt, key, now, event, state }] }.",
    );
  return request as WireRequest;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request) {
    bytes += (part as Buffer).byteLength;
    if (bytes > BODY_BYTES) throw new Refused(413, `A request takes at most ${BODY_BYTES} bytes.`);
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts).toString("utf8");
}
