/**
 * `keyturn dead --source`: the items that a source could not use, with the line, row or sequence of each.
 *
 * They lie in the source's own actors, so a node has to serve them. Listing and dropping go by the source's name; to read an
 * item again takes the source's definition, from an actors module, and what it reads from, unless its letter keeps the item.
 */
import type { SourceDeadLetter } from "../../streams/sources/letters.ts";
import type { AnySource } from "../../streams/sources/define.ts";
import { isKeyturnError, KeyturnError, textOf } from "../../words/errors.ts";
import { sourcesOf } from "../../words/sources.ts";
import { Output, timeText } from "../output.ts";
import { asReading } from "../reading.ts";
import { DONE, MISSING, NotFound, type Shell } from "../shell.ts";
import { type Target, withTarget } from "../target.ts";
import { codeOf, type DeadFlags, LIMIT } from "./dead-flags.ts";
import { confirm } from "./state.ts";

const ASKING = { actors: true };

// What is loaded only where it is needed: see commands/index.ts.
const letters = () => import("../../streams/sources/letters.ts");

/** Says of each source that a node hosts how many there are, if there are any. */
export async function countOfSources(target: Target, output: Output): Promise<void> {
  if (!target.isServed) return;
  const { countSourceDeadLetters } = await letters();
  for (const source of await hosted(target)) {
    try {
      const count = await countSourceDeadLetters(target.client, source);
      if (count === 0) continue;
      if (output.json) output.row({ source, deadLetters: count });
      else
        output.note(
          `The source ${source} could not use ${many(count)}: keyturn dead list --source ${source}.`,
        );
    } catch (error) {
      // What the store tells is there all the same.
      if (!isKeyturnError(error)) throw error;
      output.note(`How many items the source ${source} could not use is not known now: ${error.message}`);
    }
  }
}

export async function listOfSource(flags: DeadFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  const { limit = LIMIT } = flags;
  return await withTarget(flags, shell, ASKING, async (target) => {
    const source = await named(flags, target);
    const { sourceDeadLetters } = await letters();
    const found: SourceDeadLetter[] = [];
    for await (const letter of sourceDeadLetters(target.client, source))
      if (found.push(letter) > limit) break;
    const more = found.length > limit;
    if (more) found.pop();
    if (output.json) for (const letter of found) output.row(rowOf(source, letter));
    else if (found.length === 0) output.note(`The source ${source} has no dead letters.`);
    else {
      const columns = [
        { head: "id" },
        { head: "time" },
        { head: "of" },
        { head: "number", right: true },
        { head: "error" },
        { head: "begins" },
      ];
      output.table(
        columns,
        found.map(({ id, time, of, number, reason, text }) => [
          id,
          timeText(time.getTime()),
          output.cell(of),
          `${number}`,
          output.cell(reason),
          output.cell(text, 40),
        ]),
      );
    }
    if (more) output.note(`There are more: --limit ${limit * 10}.`);
    return DONE;
  });
}

export async function showOfSource(ids: readonly string[], flags: DeadFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, ASKING, async (target) => {
    const source = await named(flags, target);
    const { sourceDeadLetter } = await letters();
    let code = DONE;
    for (const id of ids) {
      const letter = await sourceDeadLetter(target.client, source, id);
      if (letter === undefined) {
        code = MISSING;
        output.note(missing(source, id));
      } else if (output.json) output.row(rowOf(source, letter));
      else {
        const { of, number, reason, text, time } = letter;
        const head = output.paint("bold", id);
        output.text(`${head}  ${output.cell(of, 500)}, ${number}  ${timeText(time.getTime())}`);
        output.text(output.paint("red", output.value(reason)));
        output.text(output.value(text));
      }
    }
    return code;
  });
}

export async function retryOfSource(ids: readonly string[], flags: DeadFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  const definition = await definitionOf(flags);
  return await withTarget(flags, shell, ASKING, async (target) => {
    const source = await named(flags, target);
    const { retrySourceDeadLetter } = await letters();
    let code = DONE;
    // One after the other, oldest first: items for one actor come in their order.
    for (const id of await chosen(ids, flags, target, source)) {
      try {
        if (await retrySourceDeadLetter(target.client, definition, id, { timeout_ms: flags.timeout }))
          output.say({ event: "retried", source, id }, `${id}: taken.`);
        else {
          code = Math.max(code, MISSING);
          output.note(missing(source, id));
        }
      } catch (error) {
        code = Math.max(code, codeOf(error));
        const told = isKeyturnError(error) ? error.toJSON() : { message: textOf(error) };
        output.say({ event: "refused", source, id, error: told }, `${id}: ${textOf(error)}`);
      }
    }
    return code;
  });
}

export async function dropOfSource(ids: readonly string[], flags: DeadFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, ASKING, async (target) => {
    const source = await named(flags, target);
    const { dropSourceDeadLetters } = await letters();
    const dropped = await chosen(ids, flags, target, source);
    if (flags.all)
      await confirm(
        `Drop ${dropped.length} dead letter${dropped.length === 1 ? "" : "s"} of the source ${source} for good?`,
        flags.yes === true,
        shell,
      );
    const count = await dropSourceDeadLetters(target.client, source, dropped);
    output.say(
      { event: "dropped", source, deadLetters: count },
      `Dropped ${count} dead letter${count === 1 ? "" : "s"}.`,
    );
    if (count === dropped.length) return DONE;
    output.note(`${dropped.length - count} of them are not there.`);
    return MISSING;
  });
}

function rowOf(source: string, { id, partition, of, number, reason, text, time }: SourceDeadLetter): object {
  return { source, id, time: time.getTime(), partition, of, number, reason, text };
}

/** Those that are named, or all, oldest first in each part. */
async function chosen(
  ids: readonly string[],
  { all }: DeadFlags,
  { client }: Target,
  source: string,
): Promise<readonly string[]> {
  if (ids.length > 0 && all) throw new KeyturnError("invalid_options", "Name ids, or say --all, not both.");
  if (ids.length > 0) return ids;
  if (!all)
    throw new KeyturnError(
      "invalid_options",
      `Name ids, as keyturn dead list --source ${source} shows them, or say --all.`,
    );
  const { sourceDeadLetters } = await letters();
  const found: string[] = [];
  for await (const { id } of sourceDeadLetters(client, source)) found.push(id);
  if (found.length === 0) throw new NotFound(`The source ${source} has no dead letters.`);
  return found.reverse();
}

/** Sources that nodes host. */
async function hosted({ store }: Target): Promise<readonly string[]> {
  const members = await asReading(store.directory.members());
  return sourcesOf(members.flatMap(({ types }) => types));
}

/** @throws NotFound if no node hosts it */
async function named({ source = "" }: DeadFlags, target: Target): Promise<string> {
  // Says what to do where no node runs.
  void target.client;
  const known = await hosted(target);
  if (known.includes(source)) return source;
  const text = known.length === 0 ? "Nodes host none." : `There are ${known.join(", ")}.`;
  throw new NotFound(`No node hosts a source ${source}. ${text}`);
}

/** @throws KeyturnError `invalid_options` */
async function definitionOf({ source, actors: modules }: DeadFlags): Promise<AnySource> {
  if (modules === undefined)
    throw new KeyturnError(
      "invalid_options",
      "To read an item again takes the source itself: --actors MODULE, which exports it.",
    );
  const [{ loadActors }, { sourcesAmong }] = await Promise.all([
    import("../actors.ts"),
    import("../../streams/sources/define.ts"),
  ]);
  const sources = sourcesAmong(await loadActors(modules));
  const found = sources.find(({ name }) => name === source);
  if (found !== undefined) return found;
  const text = sources.length === 0 ? "none" : sources.map(({ name }) => name).join(", ");
  throw new KeyturnError(
    "invalid_options",
    `${modules.join(", ")} exports no source ${source}; of sources, ${text}.`,
  );
}

function missing(source: string, id: string): string {
  return `The source ${source} has no dead letter ${id}.`;
}

function many(count: number): string {
  return count === 1 ? "1 item" : `${count} items`;
}
