/**
 * The actors of a type: `GET /actors/{type}` finds, `/types/{type}/count` counts, `/types/{type}/timers` says what they
 * wait for, `/events?type=` tells of each that changes.
 *
 * What is counted is not below `/actors/{type}/`: every path there is somebody's key. Talks to the client.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ChangedActor, ChangesQuery } from "../../client/changes.ts";
import type { FoundActor, FoundTimer } from "../../client/find.ts";
import { isKeyturnError } from "../../words/errors.ts";
import { type Among, flagIn, type HttpContext, queryOf, visibleAmong, wholeIn } from "../context.ts";
import { toJson } from "../json.ts";
import { wrong } from "../options.ts";
import type { EventStream } from "../streams.ts";
import { Refusal } from "../problem.ts";
import { FILTERS, filterIn, WHERE } from "../query.ts";

interface OfType {
  Params: { type: string };
}

const PAGE = 100;
/** A stream's ids are as long as there are shards: beyond this many they would not fit into a header. */
const MARK_LENGTH = 8_000;
/** Between two ids. */
const MARK_MS = 250;

/** So long a question is held at most by whoever was asked, though nobody reads any more. */
const HELD_MS = 20_000;

export function actorsRoutes(app: FastifyInstance, context: HttpContext): void {
  let typeStreams = 0;
  /** A place for a stream of a type. @throws Refusal 429, 503 */
  const reserve = (request: FastifyRequest): (() => void) => {
    const most = context.limits.typeStreams;
    if (typeStreams >= most)
      throw new Refusal(503, "overloaded", `This server has ${most} streams of types open, its limit.`, {
        "retry-after": "20",
      });
    const giveBack = context.reserveStream(request);
    typeStreams++;
    let isMine = true;
    return () => {
      giveBack();
      if (!isMine) return;
      isMine = false;
      setTimeout(() => typeStreams--, HELD_MS).unref();
    };
  };
  const timeoutOf = (request: FastifyRequest): number | undefined =>
    context.callOptions(request, undefined).timeout_ms;

  app.get<OfType>("/actors/:type", async (request, reply) => {
    const query = queryOf(request, [...FILTERS, "limit", "cursor"], WHERE);
    const { type } = request.params;
    const among = await context.allowAmong(request, "find", type);
    const { actors, next } = await context.client.findPage(type, {
      ...filterIn(query),
      limit: wholeIn(query, "limit", context.limits.page, PAGE),
      after: query.get("cursor"),
      timeout_ms: timeoutOf(request),
    });
    // A page of which nothing may be seen is empty and says where to go on: no request looks through more than a page.
    return context.json(reply, { actors: (await visibleAmong(actors, among)).map(foundJson), next });
  });

  app.get<OfType>("/types/:type/count", async (request, reply) => {
    const query = queryOf(request, FILTERS, WHERE);
    const { type } = request.params;
    await context.allow(request, "count", type);
    const found = await context.client.count(type, { ...filterIn(query), timeout_ms: timeoutOf(request) });
    return context.json(reply, found);
  });

  app.get<OfType>("/types/:type/timers", async (request, reply) => {
    const query = queryOf(request, [...FILTERS, "limit", "id", "child", "dueBefore"], WHERE);
    const { type } = request.params;
    const among = await context.allowAmong(request, "timers", type);
    const timers: FoundTimer[] = [];
    const asked = {
      ...filterIn(query),
      limit: wholeIn(query, "limit", context.limits.page, PAGE),
      id: query.get("id"),
      child: query.get("child"),
      dueBefore: timeIn(query.get("dueBefore")),
      timeout_ms: timeoutOf(request),
    };
    for await (const timer of context.client.timers(type, asked)) timers.push(timer);
    return context.json(reply, { timers: await visibleAmong(timers, among) });
  });

  app.get("/events", { exposeHeadRoute: false, config: { stream: true } }, async (request, reply) => {
    const given = queryOf(
      request,
      [...FILTERS.filter((name) => name !== "olderThan"), "type", "initial"],
      WHERE,
    );
    const type = given.get("type");
    if (type === undefined) throw wrong("Say of which type: /events?type=order.");
    const filter = filterIn(given);
    const initial = flagIn(given, "initial", true);
    const among = await context.allowAmong(request, "events", type);
    const giveBack = reserve(request);
    try {
      // What is wrong with the question is better said before a stream has begun.
      await context.client.findPage(type, { ...filter, limit: 1, timeout_ms: timeoutOf(request) });
    } catch (error) {
      giveBack();
      throw error;
    }
    const query = { ...filter, initial };
    await stream(context, request, reply, giveBack, { type, query, among });
    return reply;
  });
}

/**
 * Tells of each actor that changed: `changed` with what it is now, `gone` for one that was deleted or does not fit any
 * more, `reset` if what came since `Last-Event-ID` is not known any more. The id of the last event that had one is where
 * a later stream goes on.
 */
async function stream(
  context: HttpContext,
  request: FastifyRequest,
  reply: FastifyReply,
  giveBack: () => void,
  followed: Followed,
): Promise<void> {
  const out = context.openStream(request, reply, giveBack);
  const follower = new Follower(context, out, followed);
  try {
    const last = request.headers["last-event-id"];
    await follower.run(typeof last === "string" && last !== "" ? last : undefined);
  } catch (error) {
    await out.send({ event: "problem", data: JSON.stringify(context.problem(error)) });
  } finally {
    out.end();
  }
}

interface Followed {
  readonly type: string;
  readonly query: ChangesQuery;
  /** Which of them the reader may see; all without it. */
  readonly among: Among | undefined;
}

/** Reads changes as fast as they are taken, and tells marks in between: when the reader has had all that one stands for. */
class Follower {
  readonly #context: HttpContext;
  readonly #out: EventStream;
  readonly #followed: Followed;
  #mark: string | undefined;
  #marked_ms = Number.NEGATIVE_INFINITY;
  #isReset = false;
  #wake: () => void = () => undefined;

  constructor(context: HttpContext, out: EventStream, followed: Followed) {
    this.#context = context;
    this.#out = out;
    this.#followed = followed;
  }

  async run(since: string | undefined): Promise<void> {
    try {
      await this.#follow(since);
    } catch (error) {
      // An id that is none of ours must not bring a browser back with it again and again.
      if (since === undefined || !isKeyturnError(error, "invalid_options")) throw error;
      this.#isReset = true;
      await this.#follow(undefined);
    }
  }

  async #follow(since: string | undefined): Promise<void> {
    const { type, query } = this.#followed;
    const changes = this.#context.client.changes(type, {
      ...query,
      since,
      signal: this.#out.signal,
      onMark: (mark) => {
        if (mark.length > MARK_LENGTH) return;
        this.#mark = mark;
        this.#wake();
      },
      onReset: () => {
        this.#isReset = true;
      },
    });
    let came: IteratorResult<ChangedActor> | undefined;
    let fault: { readonly error: unknown } | undefined;
    const pull = (): void => {
      came = undefined;
      changes.next().then(
        (result) => {
          came = result;
          this.#wake();
        },
        (error: unknown) => {
          fault = { error };
          this.#wake();
        },
      );
    };
    pull();
    while (!this.#out.signal.aborted) {
      if (fault !== undefined) throw fault.error;
      // A mark was given before whatever comes with it or behind it.
      if (this.#mark !== undefined && this.#markIn() <= 0) await this.#tellMark();
      if (came === undefined) {
        await this.#sleep();
        continue;
      }
      if (came.done === true) return;
      await this.#give(came.value);
      pull();
    }
  }

  async #give(changed: ChangedActor): Promise<void> {
    if (this.#isReset) {
      this.#isReset = false;
      await this.#out.send({ event: "reset", data: "{}" });
    }
    const [visible] = await visibleAmong([changed], this.#followed.among);
    if (visible !== undefined) await this.#tell(visible);
  }

  async #tell({ key, address, actor }: ChangedActor): Promise<void> {
    const data = JSON.stringify(actor === undefined ? { key, address } : foundJson(actor));
    await this.#out.send({ event: actor === undefined ? "gone" : "changed", data });
  }

  /** Until something comes, or a mark may be told. */
  #sleep(): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#mark === undefined ? undefined : setTimeout(resolve, this.#markIn());
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Milliseconds until the next id may be told: they are long, so not all of them are. */
  #markIn(): number {
    return this.#marked_ms + MARK_MS - performance.now();
  }

  async #tellMark(): Promise<void> {
    const id = this.#mark;
    this.#mark = undefined;
    this.#marked_ms = performance.now();
    await this.#out.send({ id });
  }
}

export function foundJson(actor: FoundActor): object {
  return toJson(actor) as object;
}

function timeIn(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const time = /^\d+$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(time)) throw wrong('"dueBefore" is a time: ISO 8601, or milliseconds since the epoch.');
  return time;
}
