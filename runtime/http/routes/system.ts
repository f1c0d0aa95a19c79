/**
 * What concerns the server and the app: health, dead letters, the cluster, the types, the document that describes all.
 *
 * `/livez` and `/readyz` are for whoever runs the process and need no token; they say no more than yes or no. Talks to
 * the node, if there is one in this process.
 */
import type { FastifyInstance, FastifyReply } from "fastify";
import { eventTypesOf } from "../../engine/definition.ts";
import type { DeadLetter } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { type HttpContext, queryOf, wholeIn } from "../context.ts";
import { toJson } from "../json.ts";

const LETTERS = 100;

/** @param health how the process is */
export function systemRoutes(
  app: FastifyInstance,
  context: HttpContext,
  health: () => { readonly live: boolean; readonly ready: boolean },
  openapi: () => string,
): void {
  const tell = (reply: FastifyReply, isSo: boolean, body: object): FastifyReply =>
    context.json(reply, body, isSo ? 200 : 503);

  app.get("/livez", { config: { open: true } }, async (_, reply) => {
    const { live } = health();
    return tell(reply, live, { live });
  });
  app.get("/readyz", { config: { open: true } }, async (_, reply) => {
    const { ready } = health();
    return tell(reply, ready, { ready });
  });
  app.get("/health", async (request, reply) => {
    queryOf(request, []);
    await context.allow(request, "health");
    const found = health();
    return tell(reply, found.ready, found);
  });

  app.get("/openapi.json", async (request, reply) => {
    queryOf(request, []);
    await context.allow(request, "openapi");
    return reply.header("content-type", "application/json; charset=utf-8").send(openapi());
  });

  app.get("/cluster", async (request, reply) => {
    queryOf(request, []);
    await context.allow(request, "cluster");
    return context.json(reply, await context.client.cluster());
  });

  app.get("/types", async (request, reply) => {
    queryOf(request, []);
    await context.allow(request, "types");
    return context.json(reply, {
      types: context.actors.map((definition) => ({
        type: definition.type,
        version: definition.version,
        index: definition.index,
        events: eventTypesOf(definition),
      })),
    });
  });

  const { node } = context;
  if (node === undefined) return;
  app.get("/dead-letters", async (request, reply) => {
    const query = queryOf(request, ["limit", "cursor"]);
    await context.allow(request, "deadLetters");
    const limit = wholeIn(query, "limit", context.limits.page, LETTERS);
    const found = await node.deadLetters(limit + 1, letterAt(query.get("cursor")));
    const letters: string[] = [];
    let bytes = 0;
    for (const letter of found.slice(0, limit)) {
      const text = JSON.stringify(letterJson(letter));
      bytes += text.length;
      if (letters.length > 0 && bytes > context.limits.answerBytes) break;
      letters.push(text);
    }
    const last = letters.length < found.length ? found[letters.length - 1] : undefined;
    const next = last === undefined ? "" : `,"next":"${idOf(last)}"`;
    return context.text(reply, `{"letters":[${letters.join(",")}]${next}}`);
  });
}

function idOf({ position, index }: DeadLetter): string {
  return `${position}-${index}`;
}

function letterJson(letter: DeadLetter): object {
  const { position: _, index: __, ...shown } = letter;
  return { id: idOf(letter), ...(toJson(shown) as object) };
}

/** As much of a letter as says where it stands. */
function letterAt(cursor: string | undefined): DeadLetter | undefined {
  if (cursor === undefined) return undefined;
  const [, seq, index] = /^(\d{1,16})-(\d{1,9})$/.exec(cursor) ?? [];
  if (seq === undefined || !Number.isSafeInteger(Number(seq)))
    throw new KeyturnError("invalid_options", "The cursor is none that a page of dead letters has given.");
  return {
    position: Number(seq),
    index: Number(index),
    type: "",
    key: "",
    event: null,
    time: 0,
    code: "",
    reason: "",
  };
}
