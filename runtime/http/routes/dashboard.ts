/**
 * The dashboard, and what it is drawn from: `GET /types/{type}` describes a type with its statechart and the schemas of
 * its events; `/` and `/dashboard/` are the page, which is a client of this server like any other.
 *
 * The page's own files need no token: they say nothing of the app. What it shows it asks for with the token that its
 * user gives it. Talks to dashboard/files.ts for the files and to the engine for charts.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { pageFiles } from "../../dashboard/files.ts";
import { type AnyActorDefinition, eventTypesOf } from "../../engine/definition.ts";
import { chartOf } from "../../engine/machine/chart.ts";
import { InnerMachines } from "../../engine/machine/machines.ts";
import type { ChartState } from "../../words/chart.ts";
import { type HttpContext, queryOf } from "../context.ts";
import { Refusal } from "../problem.ts";
import { type JsonSchema, jsonSchemaOf } from "../openapi/json-schema.ts";

/** A machine of a type: its own is the first. */
export interface MachineDescription {
  readonly chart: ChartState;
  /** Which of the machines its actors are, by the name of their logic (`src`). */
  readonly actors: Readonly<Record<string, number>>;
}

/** What there is to know of a type. */
export interface TypeDescription {
  readonly type: string;
  readonly version: number;
  readonly index: readonly string[] | undefined;
  /** Event types that its machine names, families as `name.*`; undefined if it takes any. */
  readonly events: readonly string[] | undefined;
  readonly chart: ChartState;
  /** The machines that it may invoke and spawn, and those that these may; undefined if there are none. */
  readonly machines: readonly MachineDescription[] | undefined;
  /** JSON Schemas of its events and input, where they are known. */
  readonly eventSchema: JsonSchema | undefined;
  readonly inputSchema: JsonSchema | undefined;
}

/** Nothing from elsewhere, no frames, no inline scripts: what an actor's state holds stays text. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export function describeType(definition: AnyActorDefinition): TypeDescription {
  const { type, version, index, events, inputSchema, machine } = definition;
  return {
    type,
    version,
    index,
    events: eventTypesOf(definition),
    chart: chartOf(machine),
    machines: machinesOf(definition),
    eventSchema: jsonSchemaOf(events, "#"),
    inputSchema: jsonSchemaOf(inputSchema, "#"),
  };
}

function machinesOf(definition: AnyActorDefinition): TypeDescription["machines"] {
  const all = new InnerMachines(definition).all();
  return all.length < 2 ? undefined : all.map(({ machine, actors }) => ({ chart: chartOf(machine), actors }));
}

/** @param page whether the page is served too */
export function dashboardRoutes(app: FastifyInstance, context: HttpContext, page: boolean): void {
  const described = new Map<string, string>();
  app.get<{ Params: { type: string } }>("/types/:type", async (request, reply) => {
    queryOf(request, []);
    const { type } = request.params;
    await context.allow(request, "types", type);
    const definition = context.actors.find((one) => one.type === type);
    if (definition === undefined)
      throw new Refusal(404, "unknown_type", `No type "${type.slice(0, 80)}" is known here.`);
    const text = described.get(type) ?? JSON.stringify(describeType(definition));
    described.set(type, text);
    return reply
      .header("content-type", "application/json; charset=utf-8")
      .header("cache-control", "no-store")
      .send(text);
  });
  if (page) pageRoutes(app);
}

function pageRoutes(app: FastifyInstance): void {
  const open = { config: { open: true } };
  app.get("/", open, async (request, reply) => {
    // The router takes the target "*" for this one.
    if (request.raw.url?.startsWith("/") !== true) {
      reply.callNotFound();
      return reply;
    }
    return reply.redirect("/dashboard/", 307);
  });
  app.get("/dashboard", open, async (_, reply) => reply.redirect("/dashboard/", 307));
  app.get("/dashboard/", open, (request, reply) => file("index.html", request, reply));
  app.get<{ Params: { file: string } }>("/dashboard/:file", open, (request, reply) =>
    file(request.params.file, request, reply),
  );
}

async function file(name: string, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const files = await pageFiles();
  if (files === undefined)
    throw new Refusal(404, "invalid_address", "The dashboard's page is not built: npm run build.");
  const found = files.get(name);
  if (found === undefined) throw new Refusal(404, "invalid_address", "The dashboard has no such file.");
  reply
    .header("content-security-policy", POLICY)
    .header("x-content-type-options", "nosniff")
    .header("referrer-policy", "no-referrer")
    .header("cache-control", "no-cache")
    .header("vary", "accept-encoding")
    .header("etag", found.etag);
  if (request.headers["if-none-match"] === found.etag) return reply.code(304).send();
  reply.header("content-type", found.type);
  if (/\bgzip\b/.test(request.headers["accept-encoding"] ?? ""))
    return reply.header("content-encoding", "gzip").send(found.gzipped);
  return reply.send(found.body);
}
