/**
 * `POST /batch`: many requests in one, each with an outcome of its own.
 *
 * They are begun in their order, so those for one actor are applied in that order; nothing is applied together. Talks to
 * the client.
 */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ActorRef, CallOptions } from "../../client/client.ts";
import type { Rate } from "../rate.ts";
import { KeyturnError } from "../../words/errors.ts";
import { checkedId, type HttpContext, queryOf, valueIn } from "../context.ts";
import type { Json } from "../json.ts";
import { answerJson, eventIn, stateJson } from "./actor.ts";

const MODES = ["ask", "send", "create", "get", "delete"] as const;
const PARTS = ["mode", "address", "type", "key", "event", "input", "requestId"];

/** One request of a batch, as it was found. */
interface Asked {
  readonly mode: (typeof MODES)[number];
  readonly ref: ActorRef;
  /** The event, or the input. */
  readonly given: unknown;
  readonly requestId: string | undefined;
}

/** What became of one: `status` as its own answer would have had. */
interface Outcome {
  readonly status: number;
  readonly problem?: object;
  readonly [part: string]: unknown;
}

export function batchRoutes(app: FastifyInstance, context: HttpContext, rate: Rate | undefined): void {
  app.post("/batch", { bodyLimit: context.limits.batchBytes }, async (request, reply) => {
    queryOf(request, []);
    const requests = requestsIn(request.body, context.limits.batchRequests);
    rate?.take(request.caller.name, requests.length - 1, performance.now());
    const options = context.callOptions(request, undefined);
    // Order is kept from one reference to its actor.
    const refs = new Map<string, ActorRef>();
    const allowed = await Promise.all(requests.map((one) => allow(context, request, one, refs)));
    const order = new Order();
    const room = new Room(context.limits.answerBytes);
    const results = await Promise.all(
      allowed.map((asked) => {
        const run = (): Promise<string> => outcomeOf(context, request, asked, options, room);
        return "thrown" in asked ? run() : order.run(asked, run);
      }),
    );
    return context.text(reply, `{"results":[${results.join(",")}]}`);
  });
}

/** How much the answers take together: what does not go in is told to be done, and left out. */
class Room {
  #left: number;

  constructor(bytes: number) {
    this.#left = bytes;
  }

  /** The text of an outcome. */
  take(context: HttpContext, outcome: Outcome, requestId: string | undefined): string {
    const text = JSON.stringify(outcome);
    if (outcome.problem !== undefined) return text;
    this.#left -= text.length;
    if (this.#left >= 0) return text;
    this.#left += text.length;
    const tooMuch =
      "It is done, but the answers of this batch take too much together. Ask for fewer at once.";
    const problem = context.problem(new KeyturnError("answer_too_large", tooMuch), requestId);
    return JSON.stringify({ status: problem.status, problem });
  }
}

/** Requests for one actor are sent one behind the other, without waiting; but a state that is read is the one in between. */
class Order {
  readonly #last = new Map<ActorRef, { barrier: Promise<unknown> | undefined; open: Promise<unknown>[] }>();

  run<T>({ ref, mode }: Asked, begin: () => Promise<T>): Promise<T> {
    const line = this.#last.get(ref) ?? { barrier: undefined, open: [] };
    this.#last.set(ref, line);
    if (mode !== "get") {
      const done = line.barrier === undefined ? begin() : line.barrier.then(begin);
      line.open.push(done);
      return done;
    }
    const before = [line.barrier, ...line.open.splice(0)];
    const read = before.every((one) => one === undefined) ? begin() : Promise.all(before).then(begin);
    line.barrier = read;
    return read;
  }
}

function requestsIn(body: unknown, most: number): readonly unknown[] {
  const { requests } = (body ?? {}) as { requests?: unknown };
  if (!Array.isArray(requests) || requests.length === 0 || requests.length > most)
    throw new KeyturnError(
      "invalid_options",
      `A batch is { "requests": [ { "address": "counter/home", "event": { "type": "add" } }, … ] }, 1 to ${most} of them.`,
    );
  return requests;
}

/** Finds what is asked for, and whether it may be; what is wrong stays with this one request. */
async function allow(
  context: HttpContext,
  request: FastifyRequest,
  one: unknown,
  refs: Map<string, ActorRef>,
): Promise<Asked | { readonly thrown: unknown }> {
  try {
    const asked = askedIn(context, one, refs);
    const { mode, ref, given } = asked;
    await context.allow(request, mode, ref.type, ref.key, given);
    return asked;
  } catch (thrown) {
    return { thrown };
  }
}

function askedIn(context: HttpContext, one: unknown, refs: Map<string, ActorRef>): Asked {
  if (typeof one !== "object" || one === null || Array.isArray(one)) throw wrong("A request is an object.");
  const parts = one as Readonly<Record<string, unknown>>;
  const stranger = Object.keys(parts).find((name) => !PARTS.includes(name));
  if (stranger !== undefined)
    throw wrong(`"${stranger.slice(0, 80)}" is no part of a request: there are ${PARTS.join(", ")}.`);
  const { mode = "ask", address, type, key, event, input, requestId } = parts;
  if (!(MODES as readonly unknown[]).includes(mode)) throw wrong(`A mode is ${MODES.join(", ")}.`);
  const named =
    address ?? (typeof type === "string" && typeof key === "string" ? `${type}/${key}` : undefined);
  if (typeof named !== "string" || (address !== undefined && (type !== undefined || key !== undefined)))
    throw wrong("A request names its actor by an address, or by type and key.");
  let ref = refs.get(named);
  if (ref === undefined) refs.set(named, (ref = context.client.actor(named)));
  let given: unknown;
  if (mode === "ask" || mode === "send") given = eventIn(event);
  else if (mode === "create") given = context.inputIn(ref.type, input);
  const id = requestId === undefined ? undefined : checkedId(requestId);
  return { mode: mode as Asked["mode"], ref, given, requestId: id };
}

async function outcomeOf(
  context: HttpContext,
  request: FastifyRequest,
  asked: Asked | { readonly thrown: unknown },
  options: CallOptions,
  room: Room,
): Promise<string> {
  const requestId = "thrown" in asked ? undefined : asked.requestId;
  try {
    if ("thrown" in asked) throw asked.thrown;
    const own = requestId === undefined ? options : context.callOptions(request, requestId);
    return room.take(context, await done(asked, own), requestId);
  } catch (error) {
    const problem = context.problem(error, requestId);
    return JSON.stringify({ status: problem.status, problem });
  }
}

async function done({ mode, ref, given }: Asked, options: CallOptions): Promise<Outcome> {
  switch (mode) {
    case "ask": {
      const answer = await ref.call(given as { type: string }, options);
      return { status: 200, ...(answerJson(answer) as Record<string, Json>) };
    }
    case "send":
      await ref.send(given as { type: string }, options);
      return { status: 204 };
    case "create":
      return { status: 201, state: stateJson(await ref.create(given as undefined, options)) };
    case "get":
      return { status: 200, state: stateJson(await ref.get(options)) };
    case "delete":
      await ref.delete({ timeout_ms: options.timeout_ms });
      return { status: 204 };
  }
}

function wrong(text: string): KeyturnError {
  return new KeyturnError("invalid_options", text);
}
