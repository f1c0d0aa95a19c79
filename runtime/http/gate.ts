/**
 * The gate: what every request goes through before its route.
 *
 * Owns how many requests are in flight, and the bytes of their bodies. Talks to the guard (where a request comes from), the
 * tokens (who calls) and the rate (how often).
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import type {} from "@fastify/websocket";
import { type Caller, tokenInAddress, Tokens } from "./auth.ts";
import { Guard } from "./guard.ts";
import type { HttpLimits, HttpOptions } from "./options.ts";
import { Refusal } from "./problem.ts";
import type { Rate } from "./rate.ts";

/** What every request goes through first. */
export class Gate {
  readonly #guard: Guard;
  readonly #tokens: Tokens | undefined;
  readonly #rate: Rate | undefined;
  readonly #limits: HttpLimits;
  #inFlight = 0;
  #bytes = 0;

  constructor({ auth, hosts, cors }: HttpOptions, host: string, limits: HttpLimits, rate: Rate | undefined) {
    this.#guard = new Guard(host, auth === undefined, hosts, cors);
    this.#tokens = auth === undefined ? undefined : new Tokens(auth);
    this.#rate = rate;
    this.#limits = limits;
  }

  /** Lets a request in, or answers it. @throws Refusal */
  async enter(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
    this.#takePlace(request, reply);
    if (this.#guard.check(request, reply)) return reply.send();
    const config = request.routeOptions.config ?? {};
    const { open: isOpen = false, socket: canUpgrade = false, stream: isStream = false } = config;
    if (request.ws && !request.is404 && !canUpgrade)
      throw new Refusal(400, "invalid_options", "There is no WebSocket here. Ask without an upgrade.");
    const anybody: Caller = {
      subject: undefined,
      claims: {},
      until_ms: Number.POSITIVE_INFINITY,
      name: addressName(request.ip),
    };
    if (this.#tokens === undefined || isOpen) {
      request.caller = anybody;
      if (!isOpen) this.#rate?.take(anybody.name, 1, performance.now());
      return undefined;
    }
    const { authorization } = request.headers;
    const token = isStream ? tokenInAddress(request.raw.url, authorization) : authorization;
    request.caller = await this.#tokens.callerOf(token).catch((error: unknown) => {
      // Who guesses is slowed down by his address.
      this.#rate?.take(anybody.name, 1, performance.now());
      throw error;
    });
    this.#rate?.take(request.caller.name, 1, performance.now());
    return undefined;
  }

  #takePlace(request: FastifyRequest, reply: FastifyReply): void {
    const { inFlight, inFlightBytes } = this.#limits;
    const later = { "retry-after": "1" };
    if (this.#inFlight >= inFlight)
      throw new Refusal(
        503,
        "overloaded",
        `This server has ${inFlight} requests in flight, its limit.`,
        later,
      );
    const bytes = bytesOf(request);
    if (this.#bytes + bytes > inFlightBytes && this.#bytes > 0)
      throw new Refusal(
        503,
        "overloaded",
        `Requests of ${inFlightBytes} bytes are in flight, the limit.`,
        later,
      );
    this.#inFlight++;
    this.#bytes += bytes;
    let isMine = true;
    request.release = () => {
      if (!isMine) return;
      isMine = false;
      this.#inFlight--;
      this.#bytes -= bytes;
    };
    reply.raw.once("close", request.release);
  }
}

/** What its body may take, as far as it will be read. */
function bytesOf({ headers, routeOptions }: FastifyRequest): number {
  const most = routeOptions.bodyLimit ?? 0;
  if (headers["transfer-encoding"] !== undefined) return most;
  const said = Number(headers["content-length"] ?? 0);
  return said <= most ? said : 0;
}

/** Who calls, by his address. Of IPv6 everybody has a whole /64. */
function addressName(ip: string): string {
  const v4 = /^(?:::ffff:)?(\d+\.\d+\.\d+\.\d+)$/i.exec(ip)?.[1];
  if (v4 !== undefined) return `address ${v4}`;
  const [head = "", tail] = ip.split("::", 2);
  const groups = head.split(":").filter((group) => group !== "");
  const behind = tail?.split(":").length ?? 0;
  while (tail !== undefined && groups.length + behind < 8) groups.push("0");
  return `address ${groups.slice(0, 4).join(":")}`;
}
