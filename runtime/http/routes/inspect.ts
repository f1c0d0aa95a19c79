/**
 * `GET /actors/{type}/{key}/inspect`: an actor in the protocol of Stately's inspector (`@statelyai/inspect`), as
 * server-sent events, each the JSON of one of the protocol's: `@xstate.actor` first, with the machine's definition, and
 * for every turn an `@xstate.event` and an `@xstate.snapshot`, beginning with some of the past.
 *
 * The turns are read from the history as the actor's state changes, so none is missed and what is seen is committed.
 * Whoever is too slow, or away, for more turns than a page of history has is told the newest. Talks to the client.
 */
import type { FastifyInstance } from "fastify";
import type { ActorRef } from "../../client/client.ts";
import type { ActorState, AnyActorDefinition } from "../../engine/definition.ts";
import type { HistoryTurn } from "../../engine/history.ts";
import { configText } from "../../engine/machine/chart.ts";
import { limits } from "../../words/limits.ts";
import { type HttpContext, queryOf, wholeIn } from "../context.ts";
import { toJson } from "../json.ts";
import type { EventStream } from "../streams.ts";

/** Of the protocol, as its receivers know it. */
const PROTOCOL = "0.4.0";
const PAST = 20;

/** What all of the protocol's events have. */
interface Told {
  readonly type: "@xstate.actor" | "@xstate.event" | "@xstate.snapshot";
  readonly sessionId: string;
  readonly rootId: string;
  /** Milliseconds since the epoch, as a text. */
  readonly createdAt: string;
  readonly id: string;
  readonly _version: string;
}

export function inspectRoutes(app: FastifyInstance, context: HttpContext): void {
  app.get<{ Params: { type: string; key: string } }>(
    "/actors/:type/:key/inspect",
    { exposeHeadRoute: false, config: { stream: true } },
    async (request, reply) => {
      const past = wholeIn(queryOf(request, ["turns"]), "turns", limits.historyPage, PAST);
      const { type, key } = request.params;
      // What it tells is what a watch and the history tell.
      await context.allow(request, "watch", type, key);
      await context.allow(request, "history", type, key);
      const ref = context.client.actor(`${type}/${key}`);
      const { timeout_ms } = context.callOptions(request, undefined);
      const first = await ref.get({ timeout_ms });
      const giveBack = context.reserveStream(request);
      const out = context.openStream(request, reply, giveBack);
      const definition = context.actors.find((one) => one.type === type);
      try {
        await new Inspection(ref, out, definition).run(first, past);
      } catch (error) {
        await out.send({ event: "problem", data: JSON.stringify(context.problem(error)) });
      } finally {
        out.end();
      }
      return reply;
    },
  );
}

class Inspection {
  readonly #ref: ActorRef;
  readonly #out: EventStream;
  readonly #definition: AnyActorDefinition | undefined;
  /** The last turn that was told. */
  #turn = 0;

  constructor(ref: ActorRef, out: EventStream, definition: AnyActorDefinition | undefined) {
    this.#ref = ref;
    this.#out = out;
    this.#definition = definition;
  }

  async run(first: ActorState, past: number): Promise<void> {
    this.#turn = Math.max(0, first.turn - past);
    await this.#tellActor(first);
    for await (const state of this.#ref.watch({ signal: this.#out.signal })) await this.#tellUpTo(state);
  }

  async #tellActor(state: ActorState): Promise<void> {
    const address = `${this.#ref.type}/${this.#ref.key}`;
    const definition =
      this.#definition === undefined
        ? JSON.stringify({ id: this.#ref.type })
        : configText(this.#definition.machine);
    await this.#tell("@xstate.actor", Date.now(), { name: address, definition, snapshot: snapshotOf(state) });
  }

  async #tellUpTo(state: ActorState): Promise<void> {
    // A later life counts from 1 again.
    if (state.turn < this.#turn) {
      this.#turn = 0;
      await this.#tellActor(state);
    }
    const missing = Math.min(state.turn - this.#turn, limits.historyPage);
    if (missing <= 0) return;
    const { turns } = await this.#ref.historyPage({ order: "newest", limit: missing });
    for (const turn of [...turns].reverse()) if (turn.turn > this.#turn) await this.#tellTurn(turn);
  }

  async #tellTurn(turn: HistoryTurn): Promise<void> {
    const event = toJson(turn.event);
    await this.#tell("@xstate.event", turn.time, { event });
    await this.#tell("@xstate.snapshot", turn.time, { event, snapshot: snapshotOf(turn) });
    this.#turn = turn.turn;
  }

  async #tell(type: Told["type"], time: number, parts: object): Promise<void> {
    const address = `${this.#ref.type}/${this.#ref.key}`;
    const told: Told = {
      type,
      sessionId: address,
      rootId: address,
      createdAt: String(Math.round(time)),
      id: `${address} ${this.#turn} ${type}`,
      _version: PROTOCOL,
    };
    await this.#out.send({ data: JSON.stringify({ ...told, ...parts }) });
  }
}

function snapshotOf({ value, context, status, error }: ActorState | HistoryTurn): object {
  return {
    status,
    value,
    context: toJson(context),
    children: {},
    ...(error === undefined ? {} : { error: toJson(error) }),
  };
}
