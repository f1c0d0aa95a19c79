/**
 * `GET /actors/{type}/{key}/inspect`: an actor in the protocol of Stately's inspector (inspection.ts), beginning with some
 * of its past: as server-sent events, each the JSON of one of the protocol's, or as a WebSocket, which is what the
 * package's own `createWebSocketReceiver` connects to.
 *
 * Whatever can be refused is refused before the upgrade, as a problem document. Talks to the client.
 */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ActorRef } from "../../client/client.ts";
import type { ActorState } from "../../engine/definition.ts";
import { limits } from "../../words/limits.ts";
import { type HttpContext, queryOf, wholeIn } from "../context.ts";
import { Inspection, type InspectionOutput } from "../inspection.ts";

interface Place {
  Params: { type: string; key: string };
}

/** What is known of a request before it is answered. */
interface Admitted {
  readonly ref: ActorRef;
  readonly first: ActorState;
  readonly past: number;
  readonly giveBack: () => void;
}

const PAST = 20;

export function inspectRoutes(app: FastifyInstance, context: HttpContext): void {
  const admitted = new WeakMap<FastifyRequest, Admitted>();

  const admit = async (request: FastifyRequest<Place>): Promise<void> => {
    const query = queryOf(request, ["turns"]);
    const past = wholeIn(query, "turns", limits.historyPage, PAST);
    const { type, key } = request.params;
    // What it tells is what a watch and the history tell.
    await context.allow(request, "watch", type, key);
    await context.allow(request, "history", type, key);
    const ref = context.client.actor(`${type}/${key}`);
    const first = await ref.get({ timeout_ms: context.callOptions(request, undefined).timeout_ms });
    const giveBack = context.reserveStream(request);
    // Who goes before the upgrade, or asks for a wrong one, would keep the place.
    if (request.ws) request.raw.socket.once("close", giveBack);
    if (request.raw.socket.destroyed) giveBack();
    admitted.set(request as FastifyRequest, { ref, first, past, giveBack });
  };

  const inspect = (request: FastifyRequest, out: InspectionOutput): Promise<void> => {
    const { ref, first, past } = admitted.get(request) as Admitted;
    const definition = context.actors.find(({ type }) => type === ref.type);
    return new Inspection(ref, out, definition).run(first, past);
  };

  app.route<Place>({
    method: "GET",
    url: "/actors/:type/:key/inspect",
    exposeHeadRoute: false,
    config: { socket: true, stream: true },
    preHandler: admit,
    handler: async (request, reply) => {
      const { giveBack } = admitted.get(request as FastifyRequest) as Admitted;
      const stream = context.openStream(request as FastifyRequest, reply, giveBack);
      const tell = (data: string): Promise<void> => stream.send({ data });
      try {
        await inspect(request as FastifyRequest, { signal: stream.signal, tell });
      } catch (error) {
        await stream.send({ event: "problem", data: JSON.stringify(context.problem(error)) });
      } finally {
        stream.end();
      }
      return reply;
    },
    wsHandler: async (socket, request) => {
      const { giveBack } = admitted.get(request as FastifyRequest) as Admitted;
      const stream = context.openSocket(request as FastifyRequest, socket, giveBack);
      const tell = (data: string): Promise<void> => stream.send(data);
      try {
        await inspect(request as FastifyRequest, { signal: stream.signal, tell });
        stream.end();
      } catch (error) {
        const { code, detail } = context.problem(error);
        stream.fail(`${code}: ${detail}`);
      }
    },
  });
}
