/** The paths of the document that are not of one type: the server's, the cluster's, dead letters. */
import { afterTurn, type Described, events, FILTERS, param, PROBLEM, refusals } from "./paths.ts";
import { json, list, object, ref, text } from "./words.ts";

export function commonPaths({
  limits: { batchRequests, watchedPerStream },
  node,
  secured,
}: Described): Record<string, object> {
  const get = (
    operationId: string,
    summary: string,
    parameters: readonly object[],
    ok: object,
    more: object = {},
  ): object => ({
    get: {
      operationId,
      tags: ["server"],
      summary,
      parameters,
      responses: { "200": ok, ...more, ...refusals },
    },
  });
  const doing = (
    operationId: string,
    summary: string,
    parameters: readonly object[],
    answers: object,
  ): object => ({
    operationId,
    tags: ["server"],
    summary,
    parameters,
    responses: { ...answers, ...refusals },
  });
  const open = (path: object): object =>
    secured ? { get: { ...(path as { get: object }).get, security: [] } } : path;
  const health = { description: "As it is now.", ...json(ref("Health")) };
  const red = {
    "503": {
      description: "It is not so.",
      content: {
        "application/json": { schema: ref("Health") },
        "application/problem+json": { schema: ref("Problem") },
      },
    },
  };
  const probe = (id: string, summary: string): object => {
    const { get: operation } = get(id, summary, [], health) as { get: { responses: object } };
    return { get: { ...operation, responses: { ...operation.responses, ...red } } };
  };
  return {
    "/events": get(
      "events",
      "Actors of a type as they change, as server-sent events.",
      [
        param("eventsOf"),
        ...FILTERS.filter((one) => one.$ref !== param("olderThan").$ref),
        param("initial"),
        param("lastEventId"),
        param("timeout"),
      ],
      events(
        "`changed` with what the actor is now; `gone`; `reset` if what came since Last-Event-ID is not known any more. Ids come by themselves, between the events.",
      ),
    ),
    "/batch": {
      post: {
        operationId: "batch",
        tags: ["server"],
        summary:
          "Many requests at once, each with its own outcome. Those for one actor are applied in their order.",
        parameters: [param("timeout")],
        requestBody: {
          required: true,
          ...json(
            object({
              requests: { type: "array", minItems: 1, maxItems: batchRequests, items: ref("Requested") },
            }),
          ),
        },
        responses: {
          "200": {
            description: "What became of each, in their order.",
            ...json(object({ results: list(ref("Outcome")) })),
          },
          "413": PROBLEM,
          "415": PROBLEM,
          ...refusals,
        },
      },
    },
    "/watch": {
      post: {
        operationId: "watchMany",
        tags: ["server"],
        summary: "The states of many actors now and after every commit, in one stream of server-sent events.",
        parameters: [],
        requestBody: {
          required: true,
          ...json(
            object({
              actors: { type: "array", minItems: 1, items: ref("Watched") },
            }),
          ),
        },
        responses: {
          "200": events(
            `"open" first, with { heartbeat_ms }: a stream that is silent for longer is broken. Then "state" with { address, state }; "unchanged" with { address } instead of a first state that is known; "problem" with { address, problem } for an actor of which nothing will come any more, such as each beyond ${watchedPerStream}. A slow reader misses some states in between, never the last. After a break, ask again with the versions that are known.`,
          ),
          "413": PROBLEM,
          "415": PROBLEM,
          ...refusals,
        },
      },
    },
    "/types": get("types", "The types that are known here.", [], {
      description: "Types.",
      ...json(object({ types: list(ref("Type")) })),
    }),
    "/types/{type}": get(
      "describeType",
      "A type: its statechart, its events, their schemas.",
      [param("type")],
      { description: "The type.", ...json(ref("TypeDescription")) },
    ),
    "/cluster": get(
      "cluster",
      "The nodes, who serves which shard, and who reads which source, how far behind.",
      [],
      {
        description: "The cluster.",
        ...json(ref("Cluster")),
      },
    ),
    ...(node
      ? {
          "/dead-letters": get(
            "deadLetters",
            "Messages that were refused for good and had nobody waiting.",
            [param("limit"), param("cursor")],
            {
              description: "Oldest first; `next` is missing at the end.",
              ...json(object({ letters: list(ref("DeadLetter")), next: text() }, ["letters"])),
            },
          ),
          "/dead-letters/{id}": {
            delete: doing("dropDeadLetter", "Drops a dead letter for good.", [param("letter")], {
              "204": { description: "It is gone." },
            }),
          },
          "/dead-letters/{id}/retry": {
            post: doing(
              "retryDeadLetter",
              "Sends a dead letter's event to its actor again, and drops the letter once that is taken. However often it is repeated, the event counts once.",
              [param("letter"), param("timeout")],
              { "204": { description: "It was taken, and the letter is gone." }, ...afterTurn },
            ),
          },
          "/sources": get("sources", "The sources that nodes host, and how many dead letters each has.", [], {
            description: "By name.",
            ...json(object({ sources: list(ref("Source")) })),
          }),
          "/sources/{source}/dead-letters": get(
            "sourceDeadLetters",
            "Items that a source has read, or was sent, and could not use.",
            [param("source"), param("limit"), param("cursor")],
            {
              description:
                "Newest first in each partition. `next` is missing at the end; a page may be short, or empty, and not the last.",
              ...json(object({ letters: list(ref("SourceDeadLetter")), next: text() }, ["letters"])),
            },
          ),
          "/sources/{source}/dead-letters/{id}": {
            ...get("sourceDeadLetter", "One of them.", [param("source"), param("sourceLetter")], {
              description: "The letter.",
              ...json(ref("SourceDeadLetter")),
            }),
            delete: doing(
              "dropSourceDeadLetter",
              "Drops a source's dead letter for good.",
              [param("source"), param("sourceLetter")],
              { "204": { description: "It is gone." } },
            ),
          },
          "/sources/{source}/dead-letters/{id}/retry": {
            post: doing(
              "retrySourceDeadLetter",
              "Reads the item of a dead letter again, sends what comes of it, and drops the letter, in one turn: however often it is repeated, the item counts once. By the source as the node that answers knows it: it has to host it, and to reach what it reads from.",
              [param("source"), param("sourceLetter"), param("timeout")],
              { "204": { description: "The item counts, and the letter is gone." }, ...afterTurn },
            ),
          },
        }
      : {}),
    "/health": probe("health", "How this node is."),
    "/livez": open(probe("livez", "Whether the process should be left running.")),
    "/readyz": open(probe("readyz", "Whether it does its work.")),
    "/openapi.json": get("openapi", "This document.", [], {
      description: "OpenAPI 3.1.",
      ...json({ type: "object" }),
    }),
  };
}
