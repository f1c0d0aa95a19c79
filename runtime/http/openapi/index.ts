/**
 * The OpenAPI 3.1 document of a server, made from the definitions of its actors.
 *
 * Owns what the document says as a whole; the routes are in routes/. Each type has paths of its own, with its events;
 * without any known type there is one set of paths for all.
 */
import { TOKEN_PARAMETER } from "../auth.ts";
import type { JsonSchema } from "./json-schema.ts";
import { type Described, parameters, pathsOf } from "./paths.ts";
import { commonPaths } from "./server-paths.ts";
import { commonSchemas, schemasOf } from "./schemas.ts";
import { object, ref, text } from "./words.ts";

const DESCRIPTION = `Every key is a virtual actor: it need not exist to be asked.

Values are JSON. What JSON has no form for is an object with one property that says what it is: \`{"~date": "<ISO 8601>"}\`, \`{"~bytes": "<base64>"}\`, \`{"~bigint": "<digits>"}\`, \`{"~map": [[key, value]]}\`, \`{"~set": [member]}\`, \`{"~error": {"name", "message"}}\`, \`{"~number": "NaN"}\`, \`{"~undefined": true}\`. An object of your own with one such property has one more \`~\` before its name.

Keys and ids in paths are percent-encoded, a slash as %2F. (\`.\` and \`..\` are no parts of a path for any client: reach such keys through /batch.)

A refusal is a problem document (RFC 9457) with \`code\`, \`retryable\`, and \`outcome\`: rejected and notApplied mean that nothing was changed, applied that it was, unknown that it may be either. With an \`Idempotency-Key\` a request can be repeated until its outcome is known, and is applied once.`;

/** The document, as it is served. */
export function openapiOf(described: Described): object {
  const { actors, secured, version } = described;
  const schemas: Record<string, JsonSchema> = { ...commonSchemas() };
  const paths: Record<string, object> = {};
  for (const definition of actors) {
    Object.assign(schemas, schemasOf(definition));
    Object.assign(paths, pathsOf(definition.type, definition));
  }
  if (actors.length === 0) {
    schemas.Event = object({ type: text() });
    Object.assign(paths, pathsOf(undefined, undefined));
  }
  Object.assign(paths, commonPaths(described));
  if (secured) allowInAddress(paths);
  return {
    openapi: "3.1.1",
    info: {
      title: "Keyturn",
      version,
      description: DESCRIPTION,
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    paths,
    components: {
      schemas,
      parameters: parameters(described.limits),
      responses: {
        Problem: {
          description: "It was refused; the code says why, and the outcome what became of it.",
          content: { "application/problem+json": { schema: ref("Problem") } },
        },
      },
      ...(secured
        ? {
            securitySchemes: {
              token: { type: "http", scheme: "bearer", bearerFormat: "JWT" },
              address: {
                type: "apiKey",
                in: "query",
                name: TOKEN_PARAMETER,
                description: "The same token, for streams in browsers, whose EventSource sends no headers.",
              },
            },
          }
        : {}),
    },
    ...(secured ? { security: [{ token: [] }] } : {}),
  };
}

interface Responding {
  readonly get?: { security?: object[]; readonly responses?: Record<string, { content?: object }> };
}

/** Streams take their token in the address too. */
function allowInAddress(paths: Readonly<Record<string, object>>): void {
  for (const { get } of Object.values(paths) as Responding[])
    if (get?.responses?.["200"]?.content !== undefined && "text/event-stream" in get.responses["200"].content)
      get.security = [{ token: [] }, { address: [] }];
}
