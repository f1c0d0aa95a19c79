/**
 * Schemas of users as JSON Schema, where their library can say it.
 *
 * By the Standard JSON Schema specification (zod and arktype have it; valibot through its own package), or by the
 * method that a library had before. No library is imported. Talks to user code, which may throw: then nothing is known,
 * and everything is allowed.
 */
import type { StandardSchema } from "../../engine/schema.ts";

export type JsonSchema = Readonly<Record<string, unknown>>;

const TARGET = "draft-2020-12";
const BYTES_MAX = 256 * 1024;

interface Describing {
  readonly jsonSchema?: { input?(options: object): unknown };
}

/**
 * The JSON Schema of what a Standard Schema takes; undefined if it is not known.
 * @param at where it will stand in its document, for references within it: `#/components/schemas/order.event`
 */
export function jsonSchemaOf(schema: StandardSchema | undefined, at: string): JsonSchema | undefined {
  if (schema === undefined) return undefined;
  for (const describe of [byStandard, byMethod]) {
    try {
      const text = JSON.stringify(describe(schema));
      if (text === undefined || text.length > BYTES_MAX) continue;
      const { $schema: _, $id: __, ...found } = JSON.parse(text) as Record<string, unknown>;
      return moved(found, at) as JsonSchema;
    } catch {
      // It has no form in JSON Schema.
    }
  }
  return undefined;
}

function byStandard(schema: StandardSchema): unknown {
  const { jsonSchema } = schema["~standard"] as Describing;
  // zod and arktype refuse what JSON has no form for, unless told: such a part may then be anything.
  return jsonSchema?.input?.({ target: TARGET, libraryOptions: { unrepresentable: "any" } });
}

function byMethod(schema: StandardSchema): unknown {
  const own = schema as { toJSONSchema?(options: object): unknown; toJsonSchema?(): unknown };
  return own.toJSONSchema?.({ unrepresentable: "any", io: "input" }) ?? own.toJsonSchema?.();
}

/** References within a schema begin at its own root. */
function moved(part: unknown, at: string): unknown {
  if (Array.isArray(part)) return part.map((one) => moved(one, at));
  if (typeof part !== "object" || part === null) return part;
  return Object.fromEntries(
    Object.entries(part).map(([name, value]) => {
      const isReference = name === "$ref" && typeof value === "string" && value.startsWith("#");
      return [name, isReference ? at + (value as string).slice(1) : moved(value, at)];
    }),
  );
}
