/**
 * The HTTP server: actors, and what people want to know of an app, for whoever speaks HTTP.
 *
 * Owns the listener, and what every request goes through before it meets a route: its place among those in flight, where
 * it comes from, who calls, how often. A client of the public interface; in a node's process or in one of its own.
 *
 * The framework is Fastify: its router takes percent-encoded keys for what they are, its bodies are bounded while they
 * come, it stands on Node's own requests and responses (so a stream knows what its reader has taken), and further routes
 * are plugins. It is loaded with this module only.
 *
 * Invariants:
 * 1. Every request is answered, refusals with a problem document; nothing that is sent here can end the process.
 * 2. Everything that grows with callers is bounded (options.ts): connections, requests, streams, bodies, time.
 * 3. No route is entered by who may not come in; a body is not read before that is known.
 */
import type { IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import websocket, { type WebsocketPluginOptions } from "@fastify/websocket";
import fastify, {
  type FastifyInstance,
  type FastifyPluginAsync,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import { Client } from "../client/client.ts";
import { KeyturnNode } from "../node.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { HttpContext, idempotencyKey } from "./context.ts";
import { compressAnswers } from "./compress.ts";
import { Gate } from "./gate.ts";
import { openapiOf } from "./openapi/index.ts";
import { type HttpOptions, limitsOf, listenAt, wrong } from "./options.ts";
import { type Refused, Refusal, refusedBy } from "./problem.ts";
import { Rate } from "./rate.ts";
import { actorRoutes } from "./routes/actor.ts";
import { actorsRoutes } from "./routes/actors.ts";
import { batchRoutes } from "./routes/batch.ts";
import { dashboardRoutes } from "./routes/dashboard.ts";
import { deadLetterRoutes } from "./routes/dead-letters.ts";
import { inspectRoutes } from "./routes/inspect.ts";
import { pastRoutes } from "./routes/past.ts";
import { sourceLetterRoutes } from "./routes/source-letters.ts";
import { systemRoutes } from "./routes/system.ts";
import { watchRoutes } from "./routes/watch.ts";
import { known, refuseExpectation, refuseRaw } from "./refusals.ts";
import { Streams } from "./streams.ts";
import { Incoming } from "./upgrade.ts";

/** Of a parameter in a path, percent-encoded. */
const PARAM_LENGTH = 2_048;
/** Version of what is served. */
const API_VERSION = "1.0.0";
const CHECK_MS = 1_000;
const IDLE_LOOK_MS = 20;
/** Of WebSockets, which only tell: bytes of a message that is not taken anyway. */
const SOCKETS: WebsocketPluginOptions = {
  options: { maxPayload: 1_024, perMessageDeflate: false },
  errorHandler: (_error, socket) => socket.terminate(),
  preClose: (done) => done(),
};

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** A server that listens. */
export interface HttpServer {
  /** `http://host:port` */
  readonly url: string;
  readonly port: number;
  /** Open streams of events. */
  readonly streams: number;
  /** Takes no more requests, ends the streams, and resolves when what is in flight is answered, or cut off. */
  close(): Promise<void>;
}

/**
 * Serves a node, or a client, over HTTP.
 * @throws KeyturnError `invalid_options`, `unreachable` if the address cannot be had
 */
export async function serveHttp(
  target: KeyturnNode | Client,
  options: HttpOptions = {},
): Promise<HttpServer> {
  const isNode = target instanceof KeyturnNode;
  if (!isNode && !(target instanceof Client))
    throw wrong('What is served is a node or a client: serveHttp(node, { listen: "127.0.0.1:8080" }).');
  const limits = limitsOf(options.limits);
  const at = listenAt(options.listen);
  const fault = (found: unknown): void => options.onFault?.(found);
  const streams = new Streams(limits);
  const context = new HttpContext({
    client: isNode ? target.client : target,
    node: isNode ? target : undefined,
    actors: isNode ? target.actors : (options.actors ?? []),
    limits,
    streams,
    options,
    fault,
  });
  const rate = limits.rate === undefined ? undefined : new Rate(limits.rate);
  const gate = new Gate(options, at.host, limits, rate);
  const app = await makeApp(options, context, gate);
  const paths = pathsOf(app);
  actorRoutes(app, context);
  pastRoutes(app, context);
  actorsRoutes(app, context);
  batchRoutes(app, context, rate);
  watchRoutes(app, context, rate);
  const health = isNode ? () => target.health() : (options.health ?? (() => ({ live: true, ready: true })));
  const { actors } = context;
  const secured = options.auth !== undefined;
  let document: string | undefined;
  systemRoutes(app, context, health, () => {
    document ??= JSON.stringify(openapiOf({ actors, limits, secured, node: isNode, version: API_VERSION }));
    return document;
  });
  deadLetterRoutes(app, context);
  sourceLetterRoutes(app, context);
  inspectRoutes(app, context);
  dashboardRoutes(app, context, options.dashboard !== false);
  refuseOthers(app, paths);
  const { routes } = options;
  if (routes !== undefined) {
    const plugin: FastifyPluginAsync = async (own) => routes(own, context);
    await app.register(plugin);
  }
  app.server.maxConnections = limits.connections;
  app.server.on("checkExpectation", refuseExpectation);
  try {
    const listening: Promise<string> = app.listen({ host: at.host === "" ? "::" : at.host, port: at.port });
    await listening;
  } catch (cause) {
    await app.close();
    throw new KeyturnError("unreachable", `HTTP cannot be served at ${options.listen}: ${textOf(cause)}`, {
      cause,
    });
  }
  return running(app, streams, limits.grace_ms, options.tls !== undefined);
}

function running(app: FastifyInstance, streams: Streams, grace_ms: number, isTls: boolean): HttpServer {
  const { address, family, port } = app.server.address() as AddressInfo;
  const host = family === "IPv6" ? `[${address}]` : address;
  /** Connections on which nothing was asked yet: Node takes them for busy. */
  const silent = new Set<Socket>();
  for (const event of ["connection", "secureConnection"])
    app.server.on(event, (socket: Socket) => {
      silent.add(socket);
      socket.once("close", () => silent.delete(socket));
    });
  for (const event of ["request", "upgrade"])
    app.server.on(event, ({ socket }: IncomingMessage) => silent.delete(socket));
  let closed: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    const cut = setTimeout(() => app.server.closeAllConnections(), grace_ms);
    const ended = app.close();
    streams.close();
    for (const socket of silent) socket.destroy();
    // A connection whose last answer was under way is idle a moment later, and would be kept for another request.
    const idle = setInterval(() => app.server.closeIdleConnections(), IDLE_LOOK_MS);
    await ended.finally(() => {
      clearTimeout(cut);
      clearInterval(idle);
    });
  };
  return {
    url: `${isTls ? "https" : "http"}://${host}:${port}`,
    port,
    get streams() {
      return streams.count;
    },
    close: () => (closed ??= close()),
  };
}

async function makeApp(options: HttpOptions, context: HttpContext, gate: Gate): Promise<FastifyInstance> {
  const { limits } = context;
  const { trustProxy = false, tls } = options;
  const refuse = (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply =>
    answer(request, reply, refusedBy(known(error), keyIn(request)), context);
  const http = {
    headersTimeout: limits.head_ms,
    connectionsCheckingInterval: CHECK_MS,
    // Two heads in one request are how requests are smuggled past a proxy.
    insecureHTTPParser: false,
    IncomingMessage: Incoming,
  };
  const app = fastify({
    ...(tls === undefined ? { http } : { https: { ...http, ...tls } }),
    logger: false,
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.request_ms,
    // A connection on which nothing moves, although something should: its answer is not taken.
    connectionTimeout: limits.timeoutMax_ms + limits.request_ms,
    keepAliveTimeout: limits.head_ms,
    forceCloseConnections: "idle",
    routerOptions: { maxParamLength: PARAM_LENGTH },
    trustProxy: typeof trustProxy === "boolean" ? trustProxy : [...trustProxy],
    frameworkErrors: (error, request, reply) => refuse(error, request, reply),
    clientErrorHandler: (error, socket) => refuseRaw(error, socket),
  }) as unknown as FastifyInstance;
  app.decorateRequest("release", undefined as never);
  app.decorateRequest("caller", undefined as never);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    [/^application\/json\s*(;|$)/i, /^application\/[a-z0-9.+-]+\+json\s*(;|$)/i] as unknown as RegExp,
    { parseAs: "buffer" },
    async (request: FastifyRequest, body: Buffer) => parse(request, body),
  );
  // Before the gate, which wants to know what is to become a WebSocket. Streams ends them.
  await app.register(websocket, SOCKETS);
  app.addHook("onRequest", (request, reply) => gate.enter(request, reply));
  compressAnswers(app);
  app.setErrorHandler((error, request, reply) => refuse(error, request, reply));
  app.setNotFoundHandler(() => {
    const text = "There is nothing here. GET /openapi.json says what there is.";
    throw new Refusal(404, "invalid_address", text);
  });
  return app;
}

/** @throws Refusal 415, KeyturnError `invalid_frame` */
function parse({ headers }: FastifyRequest, body: Buffer): unknown {
  const { "content-type": type = "", "content-encoding": encoding } = headers;
  const [, charset] = /;\s*charset\s*=\s*"?([^";\s]+)/i.exec(type) ?? [];
  if (encoding !== undefined && encoding !== "identity")
    throw new Refusal(415, "invalid_frame", "Bodies are taken as they are, not compressed.");
  if (charset !== undefined && !/^utf-?8$/i.test(charset))
    throw new Refusal(415, "invalid_frame", "JSON is in UTF-8.");
  if (body.length === 0) return undefined;
  try {
    return JSON.parse(utf8.decode(body));
  } catch (cause) {
    const text = `The body is not JSON in UTF-8: ${textOf(cause).slice(0, 200)}`;
    throw new KeyturnError("invalid_frame", text, { cause });
  }
}

function answer(
  request: FastifyRequest,
  reply: FastifyReply,
  { problem, headers, fault }: Refused,
  context: HttpContext,
): FastifyReply {
  if (fault !== undefined) context.problem(fault);
  // What is left of the body is not worth reading.
  if (!request.raw.complete) reply.header("connection", "close");
  return reply
    .code(problem.status)
    .headers(headers)
    .removeHeader("etag")
    .header("content-type", "application/problem+json; charset=utf-8")
    .header("cache-control", "no-store")
    .send(JSON.stringify(problem));
}

function keyIn(request: FastifyRequest): string | undefined {
  try {
    return idempotencyKey(request);
  } catch {
    return undefined;
  }
}

/** Paths that there are, and what they can be asked with, as they are added. */
function pathsOf(app: FastifyInstance): ReadonlyMap<string, ReadonlySet<string>> {
  const paths = new Map<string, Set<string>>();
  app.addHook("onRoute", ({ url, method }) => {
    const methods = paths.get(url) ?? new Set();
    paths.set(url, methods);
    for (const one of [method].flat()) methods.add(one);
  });
  return paths;
}

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const;

/** Answers whatever a path cannot be asked with. */
function refuseOthers(app: FastifyInstance, paths: ReadonlyMap<string, ReadonlySet<string>>): void {
  for (const [url, there] of [...paths]) {
    if (url.includes("*")) continue;
    const method = METHODS.filter((one) => !there.has(one));
    const allow = METHODS.filter((one) => there.has(one)).join(", ");
    app.route({
      method,
      url,
      exposeHeadRoute: false,
      // A body of whatever kind is not looked at.
      onRequest: async () => {
        throw new Refusal(405, "invalid_options", `It can be asked with ${allow}.`, { allow });
      },
      handler: async () => undefined,
    });
  }
}
