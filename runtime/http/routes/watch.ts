/**
 * `POST /watch`: many actors in one stream of server-sent events.
 *
 * A browser has six connections to a server for all its windows, and a stream takes one for good; so a page asks for
 * everything that it shows at once, and again when that changes. What it knows already it names (`since`), so that
 * nothing is told twice. Talks to the client.
 *
 * Invariants:
 * 1. Of each actor at most one state waits for the reader, and a newer one is read only when that was taken: who reads
 *    slowly misses some in between, never the last, and actors take turns.
 * 2. What is wrong with one actor ends the watching of that one; the stream ends when nothing is left.
 * 3. Who may not watch an actor is told nothing of it. How many are watched is bounded, in each stream and in all.
 */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ActorRef } from "../../client/client.ts";
import type { ActorState } from "../../engine/definition.ts";
import { KeyturnError } from "../../words/errors.ts";
import { type HttpContext, queryOf } from "../context.ts";
import { wrong } from "../options.ts";
import { Refusal } from "../problem.ts";
import type { Rate } from "../rate.ts";
import type { EventStream } from "../streams.ts";
import { stateJson, versionOf } from "./actor.ts";

/** One actor of a stream, as it was asked for. */
interface Wanted {
  readonly address: string;
  /** The version that the reader knows. */
  readonly since: string | undefined;
}

/** An actor that may be watched, or why not. */
type Allowed = Wanted & ({ readonly ref: ActorRef } | { readonly thrown: unknown });

const EXAMPLE = '{ "actors": [ { "address": "counter/home", "since": "12-0" }, … ] }';

export function watchRoutes(app: FastifyInstance, context: HttpContext, rate: Rate | undefined): void {
  const { watched: most, watchedPerStream, heartbeat_ms } = context.limits;
  let watched = 0;

  app.post("/watch", async (request, reply) => {
    queryOf(request, []);
    const asked = wantedIn(request.body);
    const wanted = asked.slice(0, watchedPerStream);
    rate?.take(request.caller.name, wanted.length - 1, performance.now());
    if (watched + wanted.length > most)
      throw new Refusal(
        503,
        "overloaded",
        `This server has ${watched} actors watched; its limit is ${most}.`,
        {
          "retry-after": "5",
        },
      );
    const giveBack = context.reserveStream(request);
    watched += wanted.length;
    let isMine = true;
    const leave = (): void => {
      giveBack();
      if (!isMine) return;
      isMine = false;
      watched -= wanted.length;
    };
    try {
      const allowed = await Promise.all(wanted.map((one) => allow(context, request, one)));
      const text = `One stream tells of at most ${watchedPerStream} actors. Watch fewer, or in several.`;
      const thrown = new KeyturnError("overloaded", text);
      for (const one of asked.slice(watchedPerStream)) allowed.push({ ...one, thrown });
      const out = context.openStream(request, reply, leave);
      await out.send({ event: "open", data: JSON.stringify({ heartbeat_ms }) });
      await new Watching(context, out).run(allowed);
    } catch (error) {
      leave();
      throw error;
    }
    return reply;
  });
}

/** @throws KeyturnError `invalid_options` */
function wantedIn(body: unknown): readonly Wanted[] {
  const { actors, ...others } = (body ?? {}) as { actors?: unknown };
  if (!Array.isArray(actors) || actors.length === 0 || Object.keys(others).length > 0)
    throw wrong(`What is watched is ${EXAMPLE}, one at least.`);
  const wanted = actors.map(oneIn);
  if (new Set(wanted.map(({ address }) => address)).size < wanted.length)
    throw wrong("An actor is named twice in what is watched.");
  return wanted;
}

function oneIn(one: unknown): Wanted {
  if (typeof one !== "object" || one === null || Array.isArray(one))
    throw wrong(`What is watched is ${EXAMPLE}.`);
  const { address, since, ...others } = one as Readonly<Record<string, unknown>>;
  const isKnown = since === undefined || typeof since === "string";
  if (typeof address !== "string" || !isKnown || Object.keys(others).length > 0)
    throw wrong(`What is watched is ${EXAMPLE}; "since" may be left out.`);
  return { address, since };
}

/** What is wrong stays with this one actor. */
async function allow(context: HttpContext, request: FastifyRequest, one: Wanted): Promise<Allowed> {
  try {
    const ref = context.client.actor(one.address);
    await context.allow(request, "watch", ref.type, ref.key);
    return { ...one, ref };
  } catch (thrown) {
    return { ...one, thrown };
  }
}

/** What came of one actor and was not told yet: a state, or why it is not watched any more. */
type Came =
  | { readonly of: Watched; readonly state: ActorState }
  | { readonly of: Watched; readonly thrown: unknown };

interface Watched {
  readonly address: string;
  /** Of the first state: what the reader knows. */
  since: string | undefined;
  readonly states: AsyncGenerator<ActorState> | undefined;
}

/** Tells what comes of many actors, one at a time, in the order in which it came. */
class Watching {
  readonly #context: HttpContext;
  readonly #out: EventStream;
  readonly #came: Came[] = [];
  #watched = 0;
  #wake: () => void = () => undefined;

  constructor(context: HttpContext, out: EventStream) {
    this.#context = context;
    this.#out = out;
  }

  async run(allowed: readonly Allowed[]): Promise<void> {
    // A signal each: one that thousands listen to is slow, and Node warns of it.
    const stops: AbortController[] = [];
    this.#out.signal.addEventListener("abort", () => {
      for (const stop of stops) stop.abort();
      this.#wake();
    });
    for (const one of allowed) {
      const { address, since } = one;
      this.#watched++;
      if ("thrown" in one) {
        this.#came.push({ of: { address, since, states: undefined }, thrown: one.thrown });
        continue;
      }
      const stop = new AbortController();
      stops.push(stop);
      if (this.#out.signal.aborted) stop.abort();
      this.#pull({ address, since, states: one.ref.watch({ signal: stop.signal }) });
    }
    while (this.#watched > 0 && !this.#out.signal.aborted) {
      const came = this.#came.shift();
      if (came === undefined) await this.#sleep();
      else await this.#tell(came);
    }
    this.#out.end();
  }

  #pull(of: Watched): void {
    of.states?.next().then(
      ({ value, done }) => {
        if (done !== true) this.#add({ of, state: value });
      },
      (thrown: unknown) => this.#add({ of, thrown }),
    );
  }

  #add(came: Came): void {
    this.#came.push(came);
    this.#wake();
  }

  async #tell(came: Came): Promise<void> {
    const { of } = came;
    const { address } = of;
    if ("thrown" in came) {
      this.#watched--;
      const problem = this.#context.problem(came.thrown);
      await this.#out.send({ event: "problem", data: JSON.stringify({ address, problem }) });
      return;
    }
    const { state } = came;
    const isSame = of.since === versionOf(state);
    of.since = undefined;
    if (isSame) await this.#out.send({ event: "unchanged", data: JSON.stringify({ address }) });
    else await this.#out.send({ event: "state", data: JSON.stringify({ address, state: stateJson(state) }) });
    this.#pull(of);
  }

  #sleep(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
