/**
 * `--http`: the HTTP server of a node that the command line runs.
 *
 * Owns its options. Talks to runtime/http, which is loaded only if it is asked for.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { HttpLimits, HttpServer } from "../http/index.ts";
import type { KeyturnNode } from "../node.ts";
import { KeyturnError } from "../words/errors.ts";
import type { Console } from "./console.ts";
import { gather, type HostPort, hostPort, positive } from "./options.ts";

export interface HttpFlags {
  readonly http?: HostPort;
  readonly httpJwks?: string;
  readonly httpIssuer?: string;
  readonly httpAudience?: string;
  readonly httpCors?: readonly string[];
  readonly httpProxy?: readonly string[];
  readonly httpSet?: Partial<HttpLimits>;
}

/** Serves a node over HTTP. */
export type ServeHttp = (node: KeyturnNode, console: Console) => Promise<HttpServer>;

const LOOPBACK = /^(127\.|localhost$|::1$)/;
/** Limits that are told by name; the rate is made of two. */
const LIMITS = [
  "bodyBytes",
  "batchBytes",
  "batchRequests",
  "answerBytes",
  "inFlight",
  "inFlightBytes",
  "connections",
  "streams",
  "streamsPerCaller",
  "typeStreams",
  "slowReader_ms",
  "heartbeat_ms",
  "head_ms",
  "request_ms",
  "timeout_ms",
  "timeoutMax_ms",
  "grace_ms",
  "page",
] as const;

export function addHttpOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--http <host:port>",
        "serve the actors over HTTP there; with --processes, each on the next port",
      )
        .argParser(hostPort)
        .env("KEYTURN_HTTP"),
    )
    .addOption(
      new Option(
        "--http-jwks <url>",
        "only who has a token by the keys that are published there; or by a secret in KEYTURN_HTTP_SECRET",
      ).env("KEYTURN_HTTP_JWKS"),
    )
    .addOption(new Option("--http-issuer <name>", "who must have issued tokens").env("KEYTURN_HTTP_ISSUER"))
    .addOption(new Option("--http-audience <name>", "whom tokens must be for").env("KEYTURN_HTTP_AUDIENCE"))
    .addOption(
      new Option(
        "--http-cors <origin>",
        "an origin whose pages may use it, or *; repeat it for more",
      ).argParser(gather),
    )
    .addOption(
      new Option(
        "--http-proxy <address>",
        "a proxy that is believed about who calls; repeat it for more",
      ).argParser(gather),
    )
    .addOption(
      new Option("--http-set <name=value>", `change a bound: rate, ${LIMITS.join(", ")}`).argParser(limit),
    );
}

/**
 * What the flags ask for; undefined without `--http`.
 * @param place which of several processes it is, from 0
 * @throws KeyturnError `invalid_options`
 */
export function httpOf(flags: HttpFlags, env: NodeJS.ProcessEnv, place = 0): ServeHttp | undefined {
  const { http, httpJwks: jwks, httpIssuer: issuer, httpAudience: audience } = flags;
  const secret = jwks === undefined ? env.KEYTURN_HTTP_SECRET : undefined;
  const secured = jwks !== undefined || secret !== undefined;
  if (http === undefined) {
    if (Object.keys(flags).some((name) => name.startsWith("http")))
      throw new KeyturnError("invalid_options", "Say where HTTP is served: --http HOST:PORT.");
    return undefined;
  }
  if (!secured && (issuer !== undefined || audience !== undefined))
    throw new KeyturnError(
      "invalid_options",
      "Tokens are checked with --http-jwks URL, or with a secret in KEYTURN_HTTP_SECRET.",
    );
  const port = http.port === 0 ? 0 : http.port + place;
  const host = http.host.includes(":") ? `[${http.host}]` : http.host;
  return async (node, console) => {
    const { serveHttp } = await import("../http/index.ts");
    const server = await serveHttp(node, {
      listen: `${host}:${port}`,
      ...(secured ? { auth: { jwks, secret, issuer, audience } } : {}),
      ...(flags.httpCors === undefined
        ? {}
        : { cors: { origins: flags.httpCors.includes("*") ? "*" : flags.httpCors } }),
      trustProxy: flags.httpProxy,
      limits: flags.httpSet,
      onFault: (fault) =>
        console.note(
          `HTTP: ${fault instanceof Error ? (fault.stack ?? fault.message) : String(fault)}`,
          "error",
        ),
    });
    if (!secured && !LOOPBACK.test(http.host))
      console.note(
        "HTTP is open to everybody who reaches this address: say --http-jwks URL, or put a secret into KEYTURN_HTTP_SECRET.",
        "warn",
      );
    return server;
  };
}

function limit(text: string, before: Partial<HttpLimits> | undefined): Partial<HttpLimits> {
  const [, name, value] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError("It is NAME=VALUE.");
  if (name === "rate") return { ...before, rate: { perSecond: positive()(value) } };
  if (!(LIMITS as readonly string[]).includes(name))
    throw new InvalidArgumentError(`The bounds are rate, ${LIMITS.join(", ")}.`);
  return { ...before, [name]: positive()(value) };
}
