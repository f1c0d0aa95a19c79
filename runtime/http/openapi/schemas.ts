/**
 * The schemas of the document: what is answered, and what is known of each type's events, input and output.
 *
 * Talks to the definitions' own schemas through json-schema.ts.
 */
import { type AnyActorDefinition, eventTypesOf } from "../../engine/definition.ts";
import { meanings } from "../../words/errors.ts";
import { limits } from "../../words/limits.ts";
import { problemStatuses } from "../problem.ts";
import { chartSchemas } from "./charts.ts";
import { type JsonSchema, jsonSchemaOf } from "./json-schema.ts";
import { anything, list, object, ref, type Schema, text, whole } from "./words.ts";

export function commonSchemas(): Record<string, Schema> {
  const status = { enum: ["active", "done", "error", "stopped"] };
  const state = {
    value: { description: "The machine's state: a name, or an object of names by region." },
    context: anything,
    status,
    output: { description: "What the machine ended with." },
    tags: list(text()),
    error: anything,
    children: { type: "object", additionalProperties: object({ src: text(), status }) },
    turn: { ...whole(), description: "Turns since it began; 0 for an actor that no message has reached." },
  };
  const position = { ...whole(), description: "Where its last turn stands in the journal." };
  const found = {
    type: text(),
    key: text(),
    address: text(),
    value: anything,
    status,
    turn: whole(),
    position: whole(),
    time: { type: "number", description: "Of its last turn, milliseconds since the epoch." },
    fields: { type: "object", description: "Values of the type's index." },
  };
  const timer = { id: text(), child: text(), due: { type: "number" }, event: object({ type: text() }) };
  const kind = object({
    value: { description: "The machine's reply; null if it gave none." },
    replied: { type: "boolean", description: "Whether it gave one, which may be null." },
    state: object(state, ["value", "status", "turn"]),
    position,
  });
  return {
    Problem: object(
      {
        type: text({ format: "uri" }),
        title: text(),
        status: {
          type: "integer",
          enum: [...problemStatuses, 500].filter((one, at, all) => all.indexOf(one) === at),
        },
        detail: text(),
        code: text({ enum: Object.keys(meanings) }),
        retryable: { type: "boolean" },
        outcome: text({ enum: ["applied", "rejected", "notApplied", "unknown"] }),
        requestId: text(),
      },
      ["type", "title", "status", "detail", "code", "retryable", "outcome"],
    ),
    State: object({ ...state, position }, ["value", "status", "turn", "position"]),
    Answer: kind,
    Turn: object(
      {
        turn: whole(1),
        time: { type: "number" },
        event: anything,
        value: anything,
        context: anything,
        status,
        replied: { type: "boolean" },
        reply: anything,
        told: list(object({ to: text(), event: anything })),
        emitted: list(anything),
        refusal: { type: "array", items: text() },
        position: whole(),
        omitted: list(text({ enum: ["event", "reply", "told", "emitted"] })),
      },
      ["turn", "time", "status", "position"],
    ),
    Mailbox: object(
      {
        depth: { ...whole(), description: "Messages that wait." },
        oldest: { type: "number", description: "Since when the first does, milliseconds since the epoch." },
        waiting: list(
          object({
            event: text(),
            from: text({ enum: ["client", "actor", "timer", "work"] }),
            phase: text({ enum: ["committing", "deferred", "loading", "queued"] }),
            since: { type: "number" },
          }),
        ),
        memory: text({ enum: ["absent", "loading", "loaded", "failed"] }),
        failure: object({ code: text(), reason: text() }),
        invocations: list(
          object(
            {
              path: text(),
              src: text(),
              kind: text(),
              phase: text({ enum: ["running", "queued", "retrying", "asked"] }),
              since: { type: "number" },
              attempt: whole(1),
              due: { type: "number" },
              to: text(),
            },
            ["path", "src", "kind", "phase"],
          ),
        ),
      },
      ["depth", "waiting", "memory", "invocations"],
    ),
    PastPlace: {
      description: "A turn, or the last one up to a position; the present without it.",
      anyOf: [whole(1), object({ position: whole(1) })],
    },
    Fork: object(
      {
        at: ref("PastPlace"),
        to: text({ description: "The sandbox, type/key. It must not exist." }),
        timers: text({ enum: ["drop", "keep"], default: "drop" }),
      },
      ["to"],
    ),
    TimedEvent: object(
      {
        after: {
          description: 'How long after what was before: milliseconds, or a text such as "3 days".',
          anyOf: [{ type: "number", minimum: 0 }, text()],
        },
        event: object({ type: text() }),
      },
      ["after"],
    ),
    WhatIfStep: object(
      {
        event: anything,
        time: { type: "number", description: "Imagined." },
        fired: { type: "boolean", description: "A delay that fell due." },
        refused: object({ code: text(), reason: text() }),
        state: object(state, ["value", "status", "turn"]),
        changes: list(ref("Difference")),
        told: list(object({ to: anything, event: anything, asked: { type: "boolean" } })),
        emitted: list(anything),
        replied: { type: "boolean" },
        reply: anything,
        actions: list(text()),
        begun: list(text()),
      },
      ["event", "time", "fired", "state", "changes", "told", "emitted", "replied", "actions", "begun"],
    ),
    Difference: object({ path: text(), before: anything, after: anything }, ["path"]),
    WhatIf: object({
      from: {
        anyOf: [object({ turn: whole(1), time: { type: "number" }, position: whole() }), { type: "null" }],
      },
      steps: list(ref("WhatIfStep")),
      state: object(state, ["value", "status", "turn"]),
      changes: list(ref("Difference")),
      timers: list(object({ id: text(), due: { type: "number" } })),
    }),
    Timer: object(timer, ["id", "due", "event"]),
    FoundTimer: object({ ...timer, type: text(), key: text(), address: text() }, [
      "id",
      "due",
      "event",
      "type",
      "key",
      "address",
    ]),
    FoundActor: object(found, ["type", "key", "address", "status", "turn", "position", "fields"]),
    Requested: {
      ...object(
        {
          mode: text({ enum: ["ask", "send", "create", "get", "delete"], default: "ask" }),
          address: text({ description: "type/key, the key as it is." }),
          type: text(),
          key: text(),
          event: { description: "Of an ask or send." },
          input: { description: "Of a create." },
          requestId: text({ maxLength: limits.requestIdBytes - 17 }),
        },
        [],
      ),
      additionalProperties: false,
    },
    Watched: {
      ...object(
        {
          address: text({ description: "type/key, the key as it is." }),
          since: text({
            description: "The version of its state that is known, `<position>-<turn>`, as in an ETag.",
          }),
        },
        ["address"],
      ),
      additionalProperties: false,
    },
    Outcome: object(
      {
        status: whole(100),
        problem: ref("Problem"),
        value: anything,
        replied: { type: "boolean" },
        state: { type: "object" },
        position: whole(),
      },
      ["status"],
    ),
    Health: object({ live: { type: "boolean" }, ready: { type: "boolean" }, checks: { type: "object" } }, []),
    Cluster: object({
      nodes: list(
        object({
          name: text(),
          incarnation: text(),
          weight: { type: "number" },
          leaving: { type: "boolean" },
          types: list(text()),
          versions: { type: "object" },
          shards: whole(),
        }),
      ),
      shards: list(object({ shard: whole(), owner: text(), epoch: whole() }, ["shard", "epoch"])),
      sources: list(
        object(
          { source: text(), runner: text(), node: text(), partitions: whole(), lag: whole(), unit: text() },
          ["source", "runner", "partitions", "unit"],
        ),
      ),
    }),
    DeadLetter: object(
      {
        id: text(),
        type: text(),
        key: text(),
        event: anything,
        time: { type: "number" },
        code: text(),
        reason: text(),
      },
      ["id", "type", "key", "time", "code", "reason"],
    ),
    Source: object(
      {
        source: text(),
        deadLetters: { ...whole(), description: "Counted up to 100. Missing while they cannot be read." },
        more: { type: "boolean", description: "There may be more than that." },
        retries: {
          type: "boolean",
          description: "The node that answers hosts it too, so it can read its items again.",
        },
      },
      ["source", "more", "retries"],
    ),
    SourceDeadLetter: object(
      {
        source: text(),
        id: text(),
        partition: text(),
        of: text({ description: "What the item is of: a file's path, a stream, a producer." }),
        number: { ...whole(1), description: "Line, row or sequence." },
        reason: text(),
        text: text({
          description: "How the item begins; of one that came by a request all of it, up to 4 KiB.",
        }),
        time: { type: "number" },
      },
      ["source", "id", "partition", "of", "number", "reason", "text", "time"],
    ),
    ...chartSchemas(),
    Type: object({ type: text(), version: whole(1), index: list(text()), events: list(text()) }, [
      "type",
      "version",
    ]),
  };
}

/** What is known of a type's events, input and output. */
export function schemasOf(definition: AnyActorDefinition): Record<string, JsonSchema> {
  const { type, events, inputSchema, outputSchema } = definition;
  const named = (part: string): string => `#/components/schemas/${type}.${part}`;
  const made: Record<string, JsonSchema> = {
    [`${type}.event`]: jsonSchemaOf(events, named("event")) ?? eventByName(eventTypesOf(definition)),
    [`${type}.input`]: jsonSchemaOf(inputSchema, named("input")) ?? {
      description: "What the machine begins with. Without one it begins with what its address gives it.",
    },
  };
  const output = jsonSchemaOf(outputSchema, named("output"));
  if (output !== undefined) made[`${type}.output`] = output;
  return made;
}

/** Of events only the types are known. */
function eventByName(names: readonly string[] | undefined): Schema {
  const plain = names?.filter((name) => !name.endsWith(".*"));
  const families = names?.filter((name) => name.endsWith(".*")).map((name) => name.slice(0, -2)) ?? [];
  const patterns = families.map((family) =>
    text({ pattern: `^${family.replace(/[^A-Za-z0-9_]/g, "\\$&")}(\\.|$)` }),
  );
  const byName =
    plain === undefined || (plain.length === 0 && families.length === 0) ? text() : text({ enum: plain });
  if (patterns.length === 0) return object({ type: byName });
  return object({ type: { anyOf: plain?.length === 0 ? patterns : [byName, ...patterns] } });
}
