/** The paths of the document that are of one type, and the parameters of all (the others are in server-paths.ts). */
import type { AnyActorDefinition } from "../../engine/definition.ts";
import { limits } from "../../words/limits.ts";
import type { HttpLimits } from "../options.ts";
import { anything, json, list, object, ref, type Schema, text, whole } from "./words.ts";

export interface Described {
  readonly actors: readonly AnyActorDefinition[];
  readonly limits: HttpLimits;
  /** Tokens are needed. */
  readonly secured: boolean;
  /** A node is served, which has dead letters. */
  readonly node: boolean;
  readonly version: string;
}

export const PROBLEM = { $ref: "#/components/responses/Problem" };
export const refusals = {
  "400": PROBLEM,
  "401": PROBLEM,
  "403": PROBLEM,
  "404": PROBLEM,
  "429": PROBLEM,
  "503": PROBLEM,
  default: PROBLEM,
};
/** Refusals of what becomes a turn. */
export const afterTurn = { "409": PROBLEM, "413": PROBLEM, "415": PROBLEM, "422": PROBLEM, "504": PROBLEM };
export const param = (name: string): Schema => ({ $ref: `#/components/parameters/${name}` });
const etag = { etag: { description: "The actor's version.", schema: text() } };
export const events = (description: string): object => ({
  description,
  content: { "text/event-stream": { schema: text() } },
});

export function parameters({ page, timeoutMax_ms }: HttpLimits): Record<string, object> {
  const query = (name: string, schema: Schema, description: string): object => ({
    name,
    in: "query",
    description,
    schema,
  });
  const header = (name: string, schema: Schema, description: string): object => ({
    name,
    in: "header",
    description,
    schema,
  });
  const path = (name: string, schema: Schema, description: string): object => ({
    name,
    in: "path",
    required: true,
    description,
    schema,
  });
  return {
    type: path("type", text({ pattern: "^[A-Za-z][A-Za-z0-9_-]{0,63}$" }), "The actors' type."),
    key: path("key", text({ minLength: 1 }), `Which actor; any text, at most ${limits.keyBytes} bytes.`),
    mode: query(
      "mode",
      text({ enum: ["ask", "send", "create"], default: "ask" }),
      "Whether an answer is wanted; or the body is the input that the actor begins with.",
    ),
    idempotencyKey: header(
      "Idempotency-Key",
      text({ minLength: 1, maxLength: limits.requestIdBytes - 17, pattern: "^[!-~]+$" }),
      "An id of your own: repeated with it, the request is applied once and answered the same.",
    ),
    timeout: header(
      "Keyturn-Timeout",
      { type: "integer", minimum: 1, maximum: timeoutMax_ms },
      "How long to wait, milliseconds.",
    ),
    stale: query(
      "stale",
      text({ enum: ["true", "false"] }),
      "Reads what was last written out, past the actor: behind by what it did since. 204 if nothing is.",
    ),
    ifNoneMatch: header("If-None-Match", text(), "A version that is known: 304 if it is still so."),
    lastEventId: header("Last-Event-ID", text(), "The last id that was received."),
    limit: query("limit", { type: "integer", minimum: 1, maximum: page }, "How many at most."),
    turns: query("limit", { type: "integer", minimum: 1, maximum: limits.historyPage }, "How many at most."),
    past: query(
      "turns",
      { type: "integer", minimum: 1, maximum: limits.historyPage },
      "How many turns of the past at most; 20 by default.",
    ),
    cursor: query("cursor", text(), "`next` of the page before."),
    order: query("order", text({ enum: ["newest", "oldest"] }), "Which turns come first."),
    pause: query(
      "pause",
      { type: "integer", minimum: 1, maximum: 60_000 },
      "Milliseconds between two states at the least; the newest is told then.",
    ),
    upTo: query("upTo", { type: "integer", minimum: 1 }, "Turns up to this one, newest first."),
    id: path("id", text({ minLength: 1 }), "The timer's id."),
    child: query("child", text(), "Path of the child whose timer it is."),
    state: query("state", text(), "In this state or below it: waiting.payment."),
    status: query("status", text({ enum: ["active", "done", "error", "stopped"] }), "With this status."),
    where: query(
      "where",
      text(),
      'Conditions on the type\'s index: total>=10, customer.id=ada; = != < <= > >= ^= (begins with), and a list is one of. Or as JSON: {"total": {"gte": 10}}.',
    ),
    olderThan: query(
      "olderThan",
      text(),
      'Whose last turn is so long ago at least: milliseconds, or a text such as "1 hour".',
    ),
    prefix: query("prefix", text(), "Whose key begins so."),
    from: query("from", text(), "Whose key is not before this one."),
    to: query("to", text(), "Whose key is before this one."),
    letter: path("id", text({ pattern: "^[0-9.]{3,44}$" }), "The dead letter's id."),
    source: path("source", text({ pattern: "^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$" }), "The source's name."),
    sourceLetter: path(
      "id",
      text({ pattern: "^[0-9]{1,4}[.][0-9]{1,15}$" }),
      "The dead letter's id within its source: <partition>.<letter>.",
    ),
    timerId: query("id", text(), "Only timers of that id."),
    dueBefore: query(
      "dueBefore",
      text(),
      "Only what is due before: ISO 8601, or milliseconds since the epoch.",
    ),
    eventsOf: { name: "type", in: "query", required: true, description: "The actors' type.", schema: text() },
    initial: query("initial", text({ enum: ["true", "false"] }), "Whether to begin with what is there."),
  };
}

export const FILTERS = ["state", "status", "where", "olderThan", "prefix", "from", "to"].map(param);

/** Paths of a type; or of all, if none is known. */
export function pathsOf(
  type: string | undefined,
  definition: AnyActorDefinition | undefined,
): Record<string, object> {
  const tags = [type ?? "actors"];
  const id = (name: string): string => (type === undefined ? name : `${type}.${name}`);
  const key = type === undefined ? [param("type"), param("key")] : [param("key")];
  const ofType = type === undefined ? [param("type")] : [];
  const root = `/actors/${type ?? "{type}"}`;
  const one = `${root}/{key}`;
  const eventSchema = ref(type === undefined ? "Event" : `${type}.event`);
  const body =
    type === undefined ? { anyOf: [eventSchema, anything] } : { anyOf: [eventSchema, ref(`${type}.input`)] };
  const output = definition?.outputSchema === undefined ? "" : ` Its output is ${type}.output.`;
  const get = (name: string, summary: string, parameters: readonly object[], ok: object): object => ({
    operationId: id(name),
    tags,
    summary,
    parameters,
    responses: { "200": ok, ...refusals },
  });
  return {
    [one]: {
      post: {
        operationId: id("ask"),
        tags,
        summary: "Asks the actor, sends it an event, or begins it; answers once the turn is committed.",
        parameters: [...key, param("mode"), param("idempotencyKey"), param("timeout")],
        requestBody: {
          description:
            "The event; with mode=create the input, or nothing (or {}, where no schema takes it): then it begins as its address says.",
          ...json(body),
        },
        responses: {
          "200": {
            description: `The reply and the new state.${output}`,
            headers: etag,
            ...json(ref("Answer")),
          },
          "201": {
            description: "It has begun.",
            headers: { ...etag, location: { schema: text() } },
            ...json(ref("State")),
          },
          "204": { description: "It was sent, and its turn is committed." },
          ...afterTurn,
          ...refusals,
        },
      },
      get: {
        operationId: id("get"),
        tags,
        summary: "The actor's state, linearizable unless a stale one is asked for.",
        parameters: [...key, param("stale"), param("ifNoneMatch"), param("timeout")],
        responses: {
          "200": { description: "The state.", headers: etag, ...json(ref("State")) },
          "204": { description: "With stale: nothing of it is written out yet." },
          "304": { description: "It is as it was.", headers: etag },
          ...refusals,
        },
      },
      delete: {
        operationId: id("delete"),
        tags,
        summary: "Removes the actor: state, timers, history. A later message begins anew.",
        parameters: [...key, param("timeout")],
        responses: { "204": { description: "It is gone." }, ...refusals },
      },
    },
    [`${one}/history`]: {
      get: get(
        "history",
        "The actor's turns, a page at a time.",
        [...key, param("order"), param("turns"), param("upTo"), param("cursor"), param("timeout")],
        {
          description: "Turns; `next` is missing at the end.",
          ...json(object({ turns: list(ref("Turn")), next: text() }, ["turns"])),
        },
      ),
    },
    [`${one}/timers`]: {
      get: get("timers", "What the actor waits for.", [...key, param("timeout")], {
        description: "Its delays, earliest first.",
        ...json(object({ timers: list(ref("Timer")) })),
      }),
    },
    [`${one}/mailbox`]: {
      get: get(
        "mailbox",
        "What waits for the actor just now, and what it has invoked.",
        [...key, param("timeout")],
        {
          description: "Messages that have no turn yet, the first first, and invocations that are not done.",
          ...json(ref("Mailbox")),
        },
      ),
    },
    [`${one}/timers/{id}`]: {
      delete: get(
        "cancelTimer",
        "Takes a delay away; its event will not come.",
        [...key, param("id"), param("child"), param("timeout")],
        {
          description: "Whether it was still waited for.",
          ...json(object({ cancelled: { type: "boolean" } })),
        },
      ),
    },
    [`${one}/fork`]: {
      post: {
        operationId: id("fork"),
        tags,
        summary: "Begins a sandbox, another actor of the type, with the state after one of this one's turns.",
        parameters: [...key, param("timeout")],
        requestBody: { required: true, ...json(ref("Fork")) },
        responses: {
          "201": {
            description: "The sandbox has begun.",
            headers: { ...etag, location: { schema: text() } },
            ...json(ref("State")),
          },
          "410": PROBLEM,
          ...afterTurn,
          ...refusals,
        },
      },
    },
    [`${one}/what-if`]: {
      post: {
        operationId: id("whatIf"),
        tags,
        summary:
          "Puts events to the state after a turn, in memory, and tells what each would do. Nothing is stored, told or run.",
        parameters: [...key, param("timeout")],
        requestBody: {
          required: true,
          ...json(
            object({ at: ref("PastPlace"), events: list({ anyOf: [eventSchema, ref("TimedEvent")] }) }, [
              "events",
            ]),
          ),
        },
        responses: {
          "200": { description: "What would happen.", ...json(ref("WhatIf")) },
          "410": PROBLEM,
          ...afterTurn,
          ...refusals,
        },
      },
    },
    [`${one}/watch`]: {
      get: get(
        "watch",
        "The state now and after every commit, as server-sent events.",
        [...key, param("pause"), param("lastEventId"), param("timeout")],
        events(
          "`state` events, with the version as id. A slow reader misses some in between, never the last.",
        ),
      ),
    },
    [`${one}/inspect`]: {
      get: get(
        "inspect",
        "The actor in the protocol of Stately's inspector, as server-sent events.",
        [...key, param("past"), param("timeout")],
        events("The machine's definition first, then an event and a snapshot for each turn."),
      ),
    },
    [root]: {
      get: get(
        "find",
        "Finds actors, in the order of their keys. Those that the caller may not see are left out of their page.",
        [...ofType, ...FILTERS, param("limit"), param("cursor"), param("timeout")],
        {
          description: "Actors; `next` is missing at the end.",
          ...json(object({ actors: list(ref("FoundActor")), next: text() }, ["actors"])),
        },
      ),
    },
    [`/types/${type ?? "{type}"}/count`]: {
      get: get(
        "count",
        "How many actors, in all and in each state.",
        [...ofType, ...FILTERS, param("timeout")],
        {
          description: "The counts.",
          ...json(object({ total: whole(), states: { type: "object", additionalProperties: whole() } })),
        },
      ),
    },
    [`/types/${type ?? "{type}"}/timers`]: {
      get: get(
        "waiting",
        "What actors wait for, by key.",
        [
          ...ofType,
          ...FILTERS,
          param("timerId"),
          param("child"),
          param("dueBefore"),
          param("limit"),
          param("timeout"),
        ],
        {
          description: "Their delays.",
          ...json(object({ timers: list(ref("FoundTimer")) })),
        },
      ),
    },
  };
}
