/**
 * `keyturn/http`: serves a node or a client over HTTP.
 *
 *     const server = await serveHttp(node, { listen: "127.0.0.1:8080" });
 *     // curl -d '{"type":"add","by":1}' -H 'content-type: application/json' http://127.0.0.1:8080/actors/counter/home
 *     await server.close();
 */
export { type HttpServer, serveHttp } from "./server.ts";
export {
  type Action,
  type AuthOptions,
  type CorsOptions,
  httpDefaults,
  type HttpLimits,
  type HttpOptions,
  type RateLimit,
  type Wish,
} from "./options.ts";
export type { Caller } from "./auth.ts";
export type { HttpContext } from "./context.ts";
export type { Problem } from "./problem.ts";
export { Refusal } from "./problem.ts";
export type { EventStream, ServerSentEvent } from "./streams.ts";
export { fromJson, type Json, toJson } from "./json.ts";
