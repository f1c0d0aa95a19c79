/**
 * What concerns the server and the app: health, the cluster, the types, the document that describes all.
 *
 * `/livez` and `/readyz` are for whoever runs the process and need no token; they say no more than yes or no. Talks to
 * the node, if there is one in this process.
 */
import type { FastifyInstance, FastifyReply } from "fastify";
import { eventTypesOf } from "../../engine/definition.ts";
import { type HttpContext, queryOf } from "../context.ts";

/** @param health how the process is */
export function systemRoutes(
  app: FastifyInstance,
  context: HttpContext,
  health: () => { readonly live: boolean; readonly ready: boolean },
  openapi: () => string,
): void {
  const tell = (reply: FastifyReply, isSo: boolean, body: object): FastifyReply =>
    context.json(reply, body, isSo ? 200 : 503);

  app.get("/livez", { config: { open: true } }, async (_, reply) => {
    const { live } = health();
    return tell(reply, live, { live });
  });
  app.get("/readyz", { config: { open: true } }, async (_, reply) => {
    const { ready } = health();
    return tell(reply, ready, { ready });
  });
  app.get("/health", async (request, reply) => {
    queryOf(request, []);
    await context.allow(request, "health");
    const found = health();
    return tell(reply, found.ready, found);
  });

  app.get("/openapi.json", async (request, reply) => {
    queryOf(request, []);
    await context.allow(request, "openapi");
    return reply.header("content-type", "application/json; charset=utf-8").send(openapi());
  });

  app.get("/cluster", async (request, reply) => {
    queryOf(request, []);
    await context.allow(request, "cluster");
    return context.json(reply, await context.client.cluster());
  });

  app.get("/types", async (request, reply) => {
    queryOf(request, []);
    await context.allow(request, "types");
    return context.json(reply, {
      types: context.actors.map((definition) => ({
        type: definition.type,
        version: definition.version,
        index: definition.index,
        events: eventTypesOf(definition),
      })),
    });
  });
}
