/**
 * Dead letters: `GET /dead-letters` lists them, `POST /dead-letters/{id}/retry` sends one again to its actor and drops it
 * once that is taken, `DELETE /dead-letters/{id}` drops it for good.
 *
 * There only where a node is served, which has the store. Who may retry or drop a letter is asked with its actor's
 * address and, for a retry, with its event. Talks to the node's store and to the client.
 */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { letterId, letterOf, parseLetterId, retryLetter } from "../../client/dead-letters.ts";
import type { DeadLetter } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { type HttpContext, queryOf, wholeIn } from "../context.ts";
import { toJson } from "../json.ts";
import { Refusal } from "../problem.ts";

interface Place {
  Params: { id: string };
}

const LETTERS = 100;

export function deadLetterRoutes(app: FastifyInstance, context: HttpContext): void {
  const { node } = context;
  if (node === undefined) return;
  const { deadLetters } = node.store;

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
    const next = last === undefined ? "" : `,"next":"${letterId(last)}"`;
    return context.text(reply, `{"letters":[${letters.join(",")}]${next}}`);
  });

  /** @throws Refusal 403, 404 */
  const named = async (request: FastifyRequest<Place>): Promise<DeadLetter> => {
    queryOf(request, []);
    await context.allow(request, "deadLetters");
    const { id } = request.params;
    const letter = await letterOf(deadLetters, parseLetterId(id));
    if (letter !== undefined) return letter;
    throw new Refusal(404, "invalid_options", `There is no dead letter ${id}. It was taken, or dropped.`);
  };

  app.post<Place>("/dead-letters/:id/retry", async (request, reply) => {
    const letter = await named(request);
    await context.allow(request, "retryDeadLetter", letter.type, letter.key, letter.event);
    const { timeout_ms } = context.callOptions(request, undefined);
    await retryLetter(context.client, deadLetters, letter, timeout_ms);
    return reply.code(204).send();
  });

  app.delete<Place>("/dead-letters/:id", async (request, reply) => {
    const letter = await named(request);
    await context.allow(request, "dropDeadLetter", letter.type, letter.key);
    await deadLetters.remove([letter]);
    return reply.code(204).send();
  });
}

function letterJson(letter: DeadLetter): object {
  const { position: _, index: __, ...shown } = letter;
  return { id: letterId(letter), ...(toJson(shown) as object) };
}

/** As much of a letter as says where it stands. */
function letterAt(cursor: string | undefined): DeadLetter | undefined {
  if (cursor === undefined) return undefined;
  try {
    return { ...parseLetterId(cursor), type: "", key: "", event: null, time: 0, code: "", reason: "" };
  } catch (cause) {
    const text = "The cursor is none that a page of dead letters has given.";
    throw new KeyturnError("invalid_options", text, { cause });
  }
}
