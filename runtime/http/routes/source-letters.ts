/**
 * Dead letters of sources: what a source has read, or was sent, and could not use.
 *
 * `GET /sources` says of each source that nodes host how many there are, `GET /sources/{source}/dead-letters` lists them,
 * `GET …/{id}` shows one, `POST …/{id}/retry` reads its item again and drops it once that counts, `DELETE …/{id}` drops it
 * for good.
 *
 * There only where a node is served, as the dead letters of actors are. They lie in the source's own actors, so all but the
 * retry works at any node; to read an item again takes the source's definition, which the nodes have that host it. Who may
 * do it is asked as for other dead letters, with the type `source-<name>` and, for one letter, the partition as its key.
 * Talks to the node's store for which sources there are, and to the sources' actors.
 */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { type AnySource, sourcesAmong } from "../../streams/sources/define.ts";
import {
  dropSourceDeadLetters,
  retrySourceDeadLetter,
  type SourceDeadLetter,
  sourceDeadLetter,
  sourceDeadLettersPage,
} from "../../streams/sources/letters.ts";
import { isKeyturnError } from "../../words/errors.ts";
import { partitionType, sourcesOf } from "../../words/sources.ts";
import { type HttpContext, queryOf, wholeIn } from "../context.ts";
import { Refusal } from "../problem.ts";

interface Place {
  Params: { source: string };
}

interface LetterPlace {
  Params: { source: string; id: string };
}

const LETTERS = 100;
/** Letters of a source are counted so far. */
const COUNTED = 100;

export function sourceLetterRoutes(app: FastifyInstance, context: HttpContext): void {
  const { node, client } = context;
  if (node === undefined) return;
  const here: ReadonlyMap<string, AnySource> = new Map(
    sourcesAmong(context.actors).map((source) => [source.name, source]),
  );

  const hosted = async (): Promise<readonly string[]> =>
    sourcesOf((await node.store.directory.members()).flatMap(({ types }) => types));

  /** The sources whose letters somebody may see. @throws Refusal 403 if there are none of them */
  const visible = async (request: FastifyRequest): Promise<readonly string[]> => {
    const names = await hosted();
    const asked = names.map((name) => context.allow(request, "deadLetters", partitionType(name)));
    const may = await Promise.allSettled(asked);
    const shown = names.filter((_, at) => may[at]?.status === "fulfilled");
    if (shown.length === 0) await context.allow(request, "deadLetters");
    return shown;
  };

  app.get("/sources", async (request, reply) => {
    queryOf(request, []);
    const sources = await Promise.all(
      (await visible(request)).map(async (source) => {
        const retries = here.has(source);
        try {
          const { letters, next } = await sourceDeadLettersPage(client, source, COUNTED);
          return { source, deadLetters: letters.length, more: next !== undefined, retries };
        } catch (error) {
          // Where nobody answers now, there are still the others.
          if (!isKeyturnError(error)) throw error;
          return { source, more: false, retries };
        }
      }),
    );
    return context.json(reply, { sources });
  });

  /** @throws Refusal 403, 404 */
  const named = async (request: FastifyRequest<Place>): Promise<string> => {
    const { source } = request.params;
    await context.allow(request, "deadLetters", partitionType(source));
    if ((await hosted()).includes(source)) return source;
    const text = `No node hosts a source ${source.slice(0, 80)}. GET /sources says which there are.`;
    throw new Refusal(404, "invalid_options", text);
  };

  app.get<Place>("/sources/:source/dead-letters", async (request, reply) => {
    const query = queryOf(request, ["limit", "cursor"]);
    const source = await named(request);
    const limit = wholeIn(query, "limit", context.limits.page, LETTERS);
    const found = await sourceDeadLettersPage(client, source, limit, query.get("cursor"));
    const letters: string[] = [];
    let bytes = 0;
    for (const letter of found.letters) {
      const text = JSON.stringify(letterJson(source, letter));
      bytes += Buffer.byteLength(text);
      if (letters.length > 0 && bytes > context.limits.answerBytes) break;
      letters.push(text);
    }
    const isCut = letters.length < found.letters.length;
    const next = isCut ? found.letters[letters.length - 1]?.id : found.next;
    return context.text(
      reply,
      `{"letters":[${letters.join(",")}]${next === undefined ? "" : `,"next":"${next}"`}}`,
    );
  });

  /** The letter, where somebody may see it. @throws Refusal 403, 404; KeyturnError `invalid_options` */
  const letterIn = async (request: FastifyRequest<LetterPlace>): Promise<SourceDeadLetter> => {
    queryOf(request, []);
    const source = await named(request);
    const { id } = request.params;
    const letter = await sourceDeadLetter(client, source, id);
    if (letter === undefined) throw gone(source, id);
    return letter;
  };

  app.get<LetterPlace>("/sources/:source/dead-letters/:id", async (request, reply) => {
    const letter = await letterIn(request);
    return context.json(reply, letterJson(request.params.source, letter));
  });

  app.post<LetterPlace>("/sources/:source/dead-letters/:id/retry", async (request, reply) => {
    const { source: name } = request.params;
    const { timeout_ms } = context.callOptions(request, undefined);
    const { id, partition } = await letterIn(request);
    await context.allow(request, "retryDeadLetter", partitionType(name), partition);
    const source = here.get(name);
    if (source === undefined)
      throw new Refusal(
        409,
        "invalid_options",
        `This node does not host the source ${name}, so it cannot read its items. Ask a node that does (GET /cluster says which), or use keyturn dead retry --source ${name} --actors MODULE.`,
      );
    if (!(await retrySourceDeadLetter(client, source, id, { timeout_ms }))) throw gone(name, id);
    return reply.code(204).send();
  });

  app.delete<LetterPlace>("/sources/:source/dead-letters/:id", async (request, reply) => {
    const { source } = request.params;
    const { id, partition } = await letterIn(request);
    await context.allow(request, "dropDeadLetter", partitionType(source), partition);
    if ((await dropSourceDeadLetters(client, source, [id])) === 0) throw gone(source, id);
    return reply.code(204).send();
  });
}

function gone(source: string, id: string): Refusal {
  const text = `The source ${source} has no dead letter ${id}. Its item was taken, or it was dropped.`;
  return new Refusal(404, "invalid_options", text);
}

function letterJson(source: string, { time, ...letter }: SourceDeadLetter): object {
  return { source, ...letter, time: time.getTime() };
}
