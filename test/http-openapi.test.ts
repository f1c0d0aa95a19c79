/** The OpenAPI document: well formed, made from the actors' schemas, and true: the server is fuzzed with it. */
import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020 } from "ajv/dist/2020.js";
import { type } from "arktype";
import fc from "fast-check";
import { defineActor } from "keyturn";
import { httpDefaults, serveHttp } from "keyturn/http";
import * as v from "valibot";
import { expect, it } from "vitest";
import { assign, setup } from "xstate";
import { z } from "zod";
import { counter } from "../actors/index.ts";
import { openapiOf } from "../runtime/http/openapi/index.ts";
import { afterwards, ask, served } from "./support/http.ts";
import { parcel } from "./support/parcels.ts";

const machine = setup({
  types: {
    context: {} as { note: unknown },
    events: {} as { type: "note"; note?: unknown } | { type: "fail" },
  },
}).createMachine({
  context: { note: null },
  on: {
    note: { actions: assign({ note: ({ event }) => event.note ?? null }) },
    fail: {
      actions: assign(() => {
        throw new Error("It was asked to.");
      }),
    },
  },
});

interface Tree {
  readonly name: string;
  readonly below?: readonly Tree[] | undefined;
}
const tree: z.ZodType<Tree> = z.object({
  name: z.string(),
  get below() {
    return z.array(tree).optional();
  },
});

const byZod = defineActor({
  type: "zod",
  machine,
  events: z.union([
    z.object({ type: z.literal("note"), note: tree, at: z.date().optional() }),
    z.object({ type: z.literal("fail") }),
  ]),
  inputSchema: z.object({ type: z.string(), key: z.string().max(20) }),
});
const byArk = defineActor({ type: "ark", machine, events: type({ type: "'note'", note: "number >= 1" }) });
const byValibot = defineActor({
  type: "valibot",
  machine,
  events: v.object({ type: v.literal("note"), note: v.string() }),
});
const wild = defineActor({
  type: "wild",
  machine: setup({}).createMachine({
    on: { "mouse.*": { actions: () => undefined }, stop: { actions: () => undefined } },
  }),
});
const actors = [counter, parcel, byZod, byArk, byValibot, wild];

interface Operation {
  readonly operationId: string;
  readonly parameters: readonly Schema[];
  readonly requestBody?: { readonly content: Record<string, { readonly schema: Schema }> };
  readonly responses: Record<
    string,
    { readonly content?: Record<string, { readonly schema: Schema }>; readonly $ref?: string }
  >;
}
// biome-ignore lint/suspicious/noExplicitAny: a document of any form
type Schema = any;

async function documentOf(url: string): Promise<Schema> {
  const { status, body } = await ask(url, "GET", "/openapi.json");
  expect(status).toBe(200);
  return body;
}

it("is valid, with the types known, with none, and with tokens", async () => {
  const { server, node } = await served(actors);
  const bare = await serveHttp(node.client, { listen: "127.0.0.1:0" });
  afterwards(() => bare.close());
  const secured = openapiOf({ actors, limits: httpDefaults, secured: true, node: false, version: "1" });
  for (const document of [await documentOf(server.url), await documentOf(bare.url), secured as Schema]) {
    const result = await new Validator().validate(document);
    expect(result.errors ?? []).toEqual([]);
    expect(result.valid).toBe(true);
  }
  const { paths } = await documentOf(bare.url);
  expect(Object.keys(paths)).toContain("/actors/{type}/{key}");
  expect(Object.keys(paths)).not.toContain("/dead-letters");
});

it("has the schemas of the events, or at least their names", async () => {
  const { schemas } = (await documentOf((await served(actors)).server.url)).components;
  expect(schemas["counter.event"]).toMatchObject({
    properties: { type: { enum: ["add", "off", "on"] } },
    required: ["type"],
  });
  expect(schemas["zod.event"].anyOf[0].properties.type).toMatchObject({ const: "note" });
  // References within it lead to where it stands now.
  expect(JSON.stringify(schemas["zod.event"])).toContain("#/components/schemas/zod.event/");
  expect(schemas["zod.input"].properties.key).toMatchObject({ maxLength: 20 });
  expect(schemas["ark.event"]).toMatchObject({
    properties: { type: { const: "note" }, note: { minimum: 1 } },
  });
  // Its library says it only through a package of its own.
  expect(schemas["valibot.event"]).toMatchObject({ properties: { type: { enum: ["note", "fail"] } } });
  expect(schemas["wild.event"].properties.type.anyOf).toHaveLength(2);
});

// ---- Fuzzing --------------------------------------------------------------------------------------------------------

/** Values that a schema allows, mostly. */
function valuesFor(schema: Schema, root: Schema, depth = 0): fc.Arbitrary<unknown> {
  if (depth > 4) return fc.constant(null);
  const inner = (part: Schema): fc.Arbitrary<unknown> => valuesFor(part, root, depth + 1);
  if (schema.$ref !== undefined) return inner(at(root, schema.$ref));
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return fc.oneof(...choices.map(inner));
  switch (schema.type) {
    case "string":
      return fc.string({ minLength: schema.minLength ?? 0, maxLength: 20 });
    case "integer":
    case "number":
      return fc.integer({ min: schema.minimum ?? -5, max: schema.maximum ?? 1_000 });
    case "boolean":
      return fc.boolean();
    case "array":
      return fc.array(inner(schema.items ?? {}), { minLength: schema.minItems ?? 0, maxLength: 3 });
    case "object": {
      const parts = Object.entries(schema.properties ?? {}).map(([name, part]) => [name, inner(part)]);
      return fc.record(Object.fromEntries(parts), { requiredKeys: schema.required ?? [] });
    }
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

function at(root: Schema, pointer: string): Schema {
  const parts = pointer.slice(2).split("/");
  return parts.reduce((part, name) => part[name.replaceAll("~1", "/").replaceAll("~0", "~")], root);
}

const tags = ["~date", "~bytes", "~bigint", "~map", "~set", "~error", "~number", "~undefined", "~~date"];
const strange = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom<unknown>(
    JSON.parse('{"__proto__":{"type":"note"}}'),
    JSON.parse('{"type":"note","note":{"__proto__":{"x":1}}}'),
    { type: "note", note: { constructor: { prototype: {} } } },
    { type: "xstate.init" },
    { type: 5 },
    { type: "note", note: "\ud800" },
    {},
  ),
  fc.record({
    type: fc.constant("note"),
    note: fc.dictionary(fc.constantFrom(...tags), fc.jsonValue(), { maxKeys: 1 }),
  }),
);
const texts = fc.oneof(
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.constantFrom("a", "b", "1", "../..", "%00", "\0", '{"x":1}'),
);

interface Try {
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
  readonly template: string;
  readonly headers: Record<string, string>;
  readonly body: string | undefined;
}

/** Requests of an operation, right and wrong. */
function triesFor(template: string, method: string, operation: Operation, root: Schema): fc.Arbitrary<Try> {
  const parameters = operation.parameters.map((one) => (one.$ref === undefined ? one : at(root, one.$ref)));
  const given = parameters.map((one) =>
    fc.tuple(
      fc.constant(one),
      fc.option(fc.oneof({ arbitrary: valuesFor(one.schema, root), weight: 3 }, texts), {
        freq: one.in === "path" ? 1_000 : 1,
      }),
    ),
  );
  const schema = operation.requestBody?.content["application/json"]?.schema;
  const body =
    schema === undefined
      ? fc.constant(undefined)
      : fc.oneof(valuesFor(schema, root), valuesFor(schema, root), strange);
  const extra = fc.option(fc.tuple(texts, texts), { freq: 10 });
  return fc.tuple(fc.tuple(...given), body, extra).map(([values, content, more]) => {
    let path = template;
    const query = new URLSearchParams();
    const headers: Record<string, string> = {};
    for (const [one, value] of values) {
      if (one.in === "path")
        path = path.replace(`{${one.name}}`, percent(value === null || value === "" ? "a" : String(value)));
      else if (value !== null && one.in === "query") query.set(one.name, String(value));
      else if (value !== null) headers[one.name] = String(value).replace(/[^\x21-\x7e]/g, "") || "x";
    }
    if (more !== null && more[0] !== "") query.set(more[0], more[1]);
    const text = query.size === 0 ? path : `${path}?${query}`;
    return {
      method,
      path: text,
      operation,
      template,
      headers,
      body: content === undefined ? undefined : JSON.stringify(content),
    };
  });
}

/** What no client changes in a path: dots are left out, halves of pairs have no form. */
function percent(text: string): string {
  const escaped = encodeURIComponent(text.replace(/\p{Surrogate}/gu, ""));
  return /^\.{0,2}$/.test(escaped) ? "dots" : escaped;
}

it("is true: whatever is asked, nothing breaks, and every answer is one that it describes", async () => {
  const { server, node, faults } = await served(actors, { limits: { heartbeat_ms: 1_000 } });
  const root = await documentOf(server.url);
  const ajv = new Ajv2020({ strict: false, validateSchema: false, validateFormats: false, allErrors: false });
  ajv.addSchema(root, "root");
  const tries: fc.Arbitrary<Try>[] = [];
  for (const [template, methods] of Object.entries<Record<string, Operation>>(root.paths))
    for (const [method, operation] of Object.entries(methods))
      tries.push(triesFor(template, method.toUpperCase(), operation, root));
  const seen = new Map<string, number>();

  const check = async ({ method, path, operation, template, headers, body }: Try): Promise<void> => {
    const stop = new AbortController();
    const response = await fetch(server.url + path, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      signal: stop.signal,
      ...(body === undefined ? {} : { body }),
    });
    const { status } = response;
    seen.set(`${operation.operationId} ${status}`, (seen.get(`${operation.operationId} ${status}`) ?? 0) + 1);
    expect(status).not.toBe(500);
    const key = operation.responses[status] === undefined ? "default" : String(status);
    let place = ["paths", template, method.toLowerCase(), "responses", key];
    let described = operation.responses[key] as Operation["responses"][string];
    if (described.$ref !== undefined) {
      place = described.$ref.slice(2).split("/");
      described = at(root, described.$ref);
    }
    const kind = response.headers.get("content-type")?.split(";")[0];
    if (kind === "text/event-stream") {
      expect(described.content).toHaveProperty([kind]);
      stop.abort();
      return;
    }
    const text = await response.text();
    if (described.content === undefined || text === "") {
      expect([status, text]).toEqual([status, ""]);
      return;
    }
    expect(Object.keys(described.content)).toContain(kind);
    const pointer = [...place, "content", kind as string, "schema"].map(escaped).join("/");
    const validate = ajv.getSchema(`root#/${pointer}`) ?? ajv.compile({ $ref: `root#/${pointer}` });
    validate(JSON.parse(text));
    expect(validate.errors ?? [], text.slice(0, 500)).toEqual([]);
  };
  const asProperty = fc.asyncProperty(fc.oneof(...tries), check);
  await fc.assert(asProperty, { numRuns: 300 });
  expect(faults).toEqual([]);
  expect(node.health().ready).toBe(true);
  // It did not only bounce off.
  const answered = [...seen].filter(([name]) => / 20[014]$/.test(name)).length;
  expect(answered).toBeGreaterThan(8);
});

function escaped(name: string): string {
  return encodeURIComponent(name.replaceAll("~", "~0").replaceAll("/", "~1"));
}
