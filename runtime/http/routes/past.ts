/**
 * An actor's past put to use: `POST …/fork` begins a sandbox with the state after one of its turns, `POST …/what-if` puts
 * events to that state in memory and answers what each would do.
 *
 * Owns the bounds of a what-if: it runs the machine's own code in this process, so between two events others have their
 * turn, and it ends at so many steps (`whatIfSteps`) and bytes (`answerBytes`). Nothing of it is stored, told or run.
 * Talks to the client for the state and to rebuild/what-if.ts.
 */
import { setImmediate as others } from "node:timers/promises";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ActorRef } from "../../client/client.ts";
import type { ForkOptions } from "../../client/fork.ts";
import { type HostedType, registryOf } from "../../engine/definition.ts";
import type { PastState } from "../../engine/history.ts";
import { WhatIf, type WhatIfEvent } from "../../rebuild/what-if.ts";
import { parseAddress } from "../../words/address.ts";
import { type HttpContext, queryOf, valueIn } from "../context.ts";
import { type Json, toJson } from "../json.ts";
import { wrong } from "../options.ts";
import { Refusal } from "../problem.ts";
import { etagOf, pathOf, stateJson } from "./actor.ts";

interface Place {
  Params: { type: string; key: string };
}

export function pastRoutes(app: FastifyInstance, context: HttpContext): void {
  const hosted = new Map<string, HostedType>();
  const refOf = ({ params: { type, key } }: FastifyRequest<Place>): ActorRef =>
    context.client.actor(`${type}/${key}`);

  app.post<Place>("/actors/:type/:key/fork", async (request, reply) => {
    queryOf(request, []);
    const { type, key } = request.params;
    const ref = refOf(request);
    const given = partsOf(request.body, ["at", "to", "timers"]);
    const to = parseAddress(typeof given.to === "string" ? given.to : "");
    await context.allow(request, "fork", type, key, request.body);
    // Whoever forks begins another actor.
    await context.allow(request, "create", to.type, to.key);
    const { timeout_ms } = context.callOptions(request, undefined);
    const timers = given.timers as ForkOptions["timers"];
    const sandbox = await ref.fork({ at: placeIn(given.at), to, timers, timeout_ms });
    const state = await sandbox.get({ timeout_ms });
    reply.header("etag", etagOf(state)).header("location", pathOf(sandbox));
    return context.json(reply, stateJson(state), 201);
  });

  app.post<Place>("/actors/:type/:key/what-if", async (request, reply) => {
    queryOf(request, []);
    const { type, key } = request.params;
    const ref = refOf(request);
    const given = partsOf(request.body, ["at", "events"]);
    const at = placeIn(given.at);
    const events = eventsIn(given.events, context.limits.whatIfSteps);
    await context.allow(request, "whatIf", type, key, request.body);
    const definition = context.actors.find((one) => one.type === type);
    if (definition === undefined)
      throw new Refusal(404, "unknown_type", `No type "${type.slice(0, 80)}" is known here.`);
    const of = hosted.get(type) ?? (registryOf([definition]).get(type) as HostedType);
    hosted.set(type, of);
    const { timeout_ms } = context.callOptions(request, undefined);
    const from = await beginningOf(ref, at, timeout_ms);
    const run = new WhatIf(
      of,
      from === undefined ? { key, at: Date.now() } : { key, from },
      context.limits.whatIfSteps,
    );
    return context.text(reply, await told(run, events, from, context.limits.answerBytes));
  });
}

/** The state after a turn; undefined for an actor that no message has reached, if no turn is named. */
async function beginningOf(
  ref: ActorRef,
  at: ForkOptions["at"],
  timeout_ms: number | undefined,
): Promise<PastState | undefined> {
  if (at === undefined && (await ref.get({ timeout_ms })).turn === 0) return undefined;
  return ref.past(at, { timeout_ms });
}

async function told(
  run: WhatIf,
  events: readonly WhatIfEvent[],
  from: PastState | undefined,
  bytesMax: number,
): Promise<string> {
  const steps: string[] = [];
  let bytes = 0;
  for (const event of events) {
    run.take(event);
    for (const step of run.steps.slice(steps.length)) {
      const text = JSON.stringify(toJson(step));
      bytes += text.length;
      steps.push(text);
    }
    if (bytes > bytesMax) {
      const text = `What ${steps.length} steps would do takes over ${bytesMax} bytes. Ask with fewer events.`;
      throw new Refusal(413, "invalid_options", text);
    }
    await others();
  }
  const { state, changes, timers } = run.result();
  const begun = from === undefined ? null : { turn: from.turn, time: from.time, position: from.position };
  const rest = JSON.stringify({ from: begun, state: stateJson(state), changes: toJson(changes), timers });
  return `{"steps":[${steps.join(",")}],${rest.slice(1)}`;
}

/** @throws KeyturnError `invalid_options` */
function partsOf(body: unknown, names: readonly string[]): Readonly<Record<string, Json>> {
  const known = `It has ${names.map((name) => `"${name}"`).join(", ")}.`;
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw wrong(`The body is an object. ${known}`);
  for (const name of Object.keys(body))
    if (!names.includes(name)) throw wrong(`"${name.slice(0, 80)}" is no part of the body. ${known}`);
  return body as Record<string, Json>;
}

/** Where it begins; what it may be the client checks. @throws KeyturnError `invalid_options` */
function placeIn(at: Json | undefined): ForkOptions["at"] {
  if (at === undefined || at === null) return undefined;
  if (typeof at === "number") return at;
  const { position } = at as { readonly position?: unknown };
  if (typeof position === "number") return { position };
  throw wrong('"at" is a turn, a whole number from 1, or { "position": … }.');
}

/** @throws KeyturnError `invalid_options` */
function eventsIn(events: Json | undefined, most: number): WhatIfEvent[] {
  if (!Array.isArray(events) || events.length > most)
    throw wrong(
      `"events" is a list of at most ${most} events, each { "type": … } or { "after": …, "event"? }.`,
    );
  return events.map((one, n): WhatIfEvent => {
    const event = valueIn(one, `event ${n}`, "invalid_event") as WhatIfEvent;
    if (typeof event === "object" && event !== null && ("type" in event || "after" in event)) return event;
    throw wrong(`Event ${n} is neither { "type": … } nor { "after": …, "event"? }.`);
  });
}
