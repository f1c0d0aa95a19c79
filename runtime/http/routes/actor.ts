/**
 * One actor: `/actors/{type}/{key}`.
 *
 *   POST    asks; `?mode=send` answers without a state, `?mode=create` begins the actor with an input
 *   GET     its state; `/watch` the state and every later one, `/history`, `/timers`, `/mailbox`
 *   DELETE  removes it; `/timers/{id}` takes a timer away
 *
 * An actor's version is where its last turn stands: `ETag: "<position>-<turn>"`, also the id of a watched state. (Turns
 * of one batch have one position.) Talks to the client.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ActorRef } from "../../client/client.ts";
import type { ActorState } from "../../engine/definition.ts";
import { limits } from "../../words/limits.ts";
import { KeyturnError } from "../../words/errors.ts";
import { flagIn, type HttpContext, queryOf, valueIn, wholeIn } from "../context.ts";
import { type Json, toJson } from "../json.ts";
import { wrong } from "../options.ts";

interface Place {
  Params: { type: string; key: string };
}

interface TimerPlace {
  Params: { type: string; key: string; id: string };
}

const MODES = ["ask", "send", "create"] as const;
type Mode = (typeof MODES)[number];
const HISTORY_PAGE = 50;
/** The longest that a watch may want to hear nothing. */
const PAUSE_MAX_MS = 60_000;

export function actorRoutes(app: FastifyInstance, context: HttpContext): void {
  const refOf = ({ params: { type, key } }: FastifyRequest<Place>): ActorRef =>
    context.client.actor(`${type}/${key}`);

  app.post<Place>("/actors/:type/:key", async (request, reply) => {
    const mode = modeOf(request);
    refuseCondition(request);
    const { type, key } = request.params;
    const ref = refOf(request);
    if (mode === "create") {
      const input = context.inputIn(type, request.body);
      await context.allow(request, "create", type, key, input);
      const state = await ref.create(input as undefined, context.callOptions(request));
      reply.header("etag", etagOf(state)).header("location", pathOf(ref));
      return context.json(reply, stateJson(state), 201);
    }
    const event = eventIn(request.body);
    await context.allow(request, mode, type, key, event);
    const options = context.callOptions(request);
    if (mode === "send") {
      await ref.send(event, options);
      return reply.code(204).send();
    }
    const answer = await ref.call(event, options);
    reply.header("etag", etagOf(answer.state));
    return context.json(reply, answerJson(answer));
  });

  app.get<Place>("/actors/:type/:key", async (request, reply) => {
    const stale = flagIn(queryOf(request, ["stale"]), "stale", false);
    const { type, key } = request.params;
    await context.allow(request, "get", type, key);
    const options = context.callOptions(request, undefined);
    const ref = refOf(request);
    const state = stale ? await ref.get({ ...options, stale }) : await ref.get(options);
    // Nothing of it is written out yet; that is not to say that it has no state.
    if (state === undefined) return reply.code(204).header("cache-control", "no-store").send();
    const etag = etagOf(state);
    reply.header("etag", etag).header("cache-control", "private, no-cache");
    if (isKnown(request.headers["if-none-match"], etag)) return reply.code(304).send();
    return context.json(reply, stateJson(state));
  });

  app.delete<Place>("/actors/:type/:key", async (request, reply) => {
    queryOf(request, []);
    refuseCondition(request);
    const { type, key } = request.params;
    await context.allow(request, "delete", type, key);
    const { requestId: _, ...options } = context.callOptions(request, undefined);
    await refOf(request).delete(options);
    return reply.code(204).send();
  });

  app.get<Place>("/actors/:type/:key/history", async (request, reply) => {
    const query = queryOf(request, ["order", "limit", "cursor", "upTo"]);
    const { type, key } = request.params;
    await context.allow(request, "history", type, key);
    const page = await refOf(request).historyPage({
      order: orderIn(query.get("order")),
      limit: wholeIn(query, "limit", limits.historyPage, HISTORY_PAGE),
      cursor: query.get("cursor"),
      upTo: query.has("upTo") ? wholeIn(query, "upTo", 9_999_999_999, 1) : undefined,
      timeout_ms: context.callOptions(request, undefined).timeout_ms,
    });
    return context.json(reply, { turns: page.turns.map(toJson), next: page.next });
  });

  app.get<Place>("/actors/:type/:key/timers", async (request, reply) => {
    queryOf(request, []);
    const { type, key } = request.params;
    await context.allow(request, "timers", type, key);
    const timers = await refOf(request).timers(context.callOptions(request, undefined));
    return context.json(reply, { timers: timers.map(toJson) });
  });

  app.get<Place>("/actors/:type/:key/mailbox", async (request, reply) => {
    queryOf(request, []);
    const { type, key } = request.params;
    await context.allow(request, "mailbox", type, key);
    return context.json(reply, await refOf(request).mailbox(context.callOptions(request, undefined)));
  });

  app.delete<TimerPlace>("/actors/:type/:key/timers/:id", async (request, reply) => {
    const query = queryOf(request, ["child"]);
    const { type, key, id } = request.params;
    await context.allow(request, "cancelTimer", type, key);
    const child = query.get("child");
    const ref = context.client.actor(`${type}/${key}`);
    const name = child === undefined ? { id } : { id, child };
    const cancelled = await ref.cancelTimer(name, context.callOptions(request, undefined));
    return context.json(reply, { cancelled });
  });

  const ofStream = { exposeHeadRoute: false, config: { stream: true } };
  app.get<Place>("/actors/:type/:key/watch", ofStream, async (request, reply) => {
    const pause_ms = wholeIn(queryOf(request, ["pause"]), "pause", PAUSE_MAX_MS, 0);
    const { type, key } = request.params;
    await context.allow(request, "watch", type, key);
    const ref = refOf(request);
    const giveBack = context.reserveStream(request);
    const stop = new AbortController();
    try {
      const states = ref.watch({ signal: stop.signal });
      const first = await within(states.next(), context.callOptions(request).timeout_ms ?? 1);
      await stream(context, request, reply, giveBack, { first, states, stop, pause_ms });
    } catch (error) {
      stop.abort();
      giveBack();
      throw error;
    }
    return reply;
  });
}

interface Watched {
  readonly first: IteratorResult<ActorState>;
  readonly states: AsyncGenerator<ActorState>;
  readonly stop: AbortController;
  /** Between two states, at the least. */
  readonly pause_ms: number;
}

/** Sends a state at a time: a slow reader is told the newest when it is ready. */
async function stream(
  context: HttpContext,
  request: FastifyRequest,
  reply: FastifyReply,
  giveBack: () => void,
  { first, states, stop, pause_ms }: Watched,
): Promise<void> {
  const known = request.headers["last-event-id"];
  const out = context.openStream(request, reply, giveBack);
  out.signal.addEventListener("abort", () => stop.abort());
  if (out.signal.aborted) stop.abort();
  try {
    for (let next = first; next.done !== true; next = await states.next()) {
      const id = versionOf(next.value);
      if (next === first && id === known) continue;
      await out.send({ id, event: "state", data: JSON.stringify(stateJson(next.value)) });
      if (pause_ms > 0) await rested(pause_ms, out.signal);
    }
  } catch (error) {
    await out.send({ event: "problem", data: JSON.stringify(context.problem(error)) });
  } finally {
    out.end();
  }
}

/** Resolves after so long, or when the stream is over. */
function rested(ms: number, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      over.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    over.addEventListener("abort", done);
    if (over.aborted) done();
  });
}

async function within<T>(promise: Promise<T>, timeout_ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new KeyturnError("timeout", "The actor's state did not come in time.")),
      timeout_ms,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

type Answer = Awaited<ReturnType<ActorRef["call"]>>;

/** @throws KeyturnError `invalid_event` */
export function eventIn(body: unknown): { type: string } {
  if (body === undefined)
    throw new KeyturnError(
      "invalid_event",
      'There is no event. It is the body, as JSON: {"type": "add", "by": 1}.',
    );
  return valueIn(body, "event", "invalid_event") as { type: string };
}

export function stateJson(state: ActorState): Json {
  return toJson(state);
}

export function answerJson({ value, replied, state: { position, ...state } }: Answer): Json {
  return { value: toJson(value ?? null), replied, state: toJson(state), position };
}

export function versionOf({ position, turn }: ActorState): string {
  return `${position}-${turn}`;
}

export function etagOf(state: ActorState): string {
  return `"${versionOf(state)}"`;
}

export function pathOf({ type, key }: { readonly type: string; readonly key: string }): string {
  return `/actors/${type}/${encodeURIComponent(key)}`;
}

function isKnown(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header.split(",").some((one) => one.trim().replace(/^W\//, "") === etag);
}

/** Nothing compares a condition with the state in one turn, so none may seem to be kept. */
function refuseCondition({ headers }: FastifyRequest): void {
  if (headers["if-match"] === undefined && headers["if-unmodified-since"] === undefined) return;
  throw wrong(
    "Conditions are not kept when something is changed. Let the machine decide: put it into the event.",
  );
}

function modeOf(request: FastifyRequest): Mode {
  const mode = queryOf(request, ["mode"]).get("mode") ?? "ask";
  if ((MODES as readonly string[]).includes(mode)) return mode as Mode;
  throw wrong(`"${mode.slice(0, 80)}" is no mode: there are ask, send and create.`);
}

function orderIn(text: string | undefined): "newest" | "oldest" | undefined {
  if (text === undefined || text === "newest" || text === "oldest") return text;
  throw wrong('The order is "newest" or "oldest".');
}
