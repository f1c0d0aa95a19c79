/** The paths of the document that are not of one type: the server's, the cluster's, dead letters. */
import { afterTurn, type Described, events, FILTERS, param, PROBLEM, refusals } from "./paths.ts";
import { json, list, object, ref, text } from "./words.ts";

export function commonPaths({ limits: { batchRequests }, node, secured }: Described): Record<string, object> {
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
    "/cluster": get("cluster", "The nodes, and who serves which shard.", [], {
      description: "The cluster.",
      ...json(ref("Cluster")),
    }),
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
