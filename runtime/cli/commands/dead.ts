/**
 * `keyturn dead`: messages that were refused for good and had nobody waiting for the error. What sources could not use is in
 * dead-sources.ts.
 */
import { type Command, Option } from "commander";
import { letterId, letterOf, parseLetterId, retryLetter } from "../../client/dead-letters.ts";
import type { DeadLetter } from "../../ports/index.ts";
import { isKeyturnError, KeyturnError, textOf } from "../../words/errors.ts";
import { duration } from "../input.ts";
import { whole } from "../options.ts";
import { Output, timeText } from "../output.ts";
import { asReading } from "../reading.ts";
import { DONE, MISSING, NotFound, type Shell } from "../shell.ts";
import { addTargetOptions, type Target, withTarget } from "../target.ts";
import { codeOf, type DeadFlags, LIMIT } from "./dead-flags.ts";
import { countOfSources, dropOfSource, listOfSource, retryOfSource, showOfSource } from "./dead-sources.ts";
import { confirm } from "./state.ts";

const PAGE = 256;

export function addDead(program: Command, shell: Shell): void {
  const dead = program
    .command("dead")
    .summary("dead letters: list, show, retry, drop")
    .description(
      "Messages that were refused for good and had nobody waiting for the error: told by actors, or due timers. With --source, what a source has read and could not use.",
    );
  const list = dead
    .command("list", { isDefault: true })
    .summary("list them, oldest first")
    .description(
      "Lists dead letters, oldest first; and says of each source that a node hosts how many items it could not use. With --source, lists those: newest first of each part, with the line (or row, or sequence).",
    );
  letterOptions(addTargetOptions(list))
    .addOption(
      new Option("--limit <number>", `so many; ${LIMIT} by default`).argParser(
        whole(1, Number.MAX_SAFE_INTEGER),
      ),
    )
    .action(async (flags: DeadFlags) =>
      shell.exit(await (isOfSource(flags) ? listOfSource(flags, shell) : listLetters(flags, shell))),
    );

  const show = dead
    .command("show")
    .summary("print some of them whole")
    .description("Prints dead letters whole: event, error, time.")
    .argument("<id...>", "as the list shows them");
  sourceOption(addTargetOptions(show)).action(async (ids: string[], flags: DeadFlags) =>
    shell.exit(await (isOfSource(flags) ? showOfSource(ids, flags, shell) : showLetters(ids, flags, shell))),
  );

  const retry = dead
    .command("retry")
    .summary("send them again to their actors, and drop those that are taken")
    .description(
      "Sends the events of dead letters again to their actors, with request ids made of the letters' own: however often it is repeated, each is applied once. A letter whose event is taken is dropped; one that is refused again stays. With --source, reads the items again, by the source as --actors defines it, where what it reads from is in reach of this command (items that were posted lie in their letters); those that it can use now count once.",
    )
    .argument("[id...]", "as the list shows them");
  letterOptions(addTargetOptions(retry))
    .option("--all", "all of them, or all that fit --type and --code")
    .addOption(
      new Option("--timeout <duration>", "for each; 10 s by default, 30 s for an item of a source").argParser(
        duration,
      ),
    )
    .action(async (ids: string[], flags: DeadFlags) =>
      shell.exit(
        await (isOfSource(flags) ? retryOfSource(ids, flags, shell) : retryLetters(ids, flags, shell)),
      ),
    );

  const drop = dead
    .command("drop")
    .summary("drop them for good")
    .description("Drops dead letters for good.")
    .argument("[id...]", "as the list shows them");
  letterOptions(addTargetOptions(drop))
    .option("--all", "all of them, or all that fit --type and --code")
    .option("-y, --yes", "do not ask")
    .action(async (ids: string[], flags: DeadFlags) =>
      shell.exit(
        await (isOfSource(flags) ? dropOfSource(ids, flags, shell) : dropLetters(ids, flags, shell)),
      ),
    );
}

function letterOptions(command: Command): Command {
  return sourceOption(command)
    .option("--type <type>", "only those for actors of this type")
    .option("--code <code>", "only those with this error code");
}

function sourceOption(command: Command): Command {
  return command.option("--source <name>", "those of a source: items that it could not use");
}

/** @throws KeyturnError `invalid_options` */
function isOfSource({ source, type, code }: DeadFlags): boolean {
  if (source !== undefined && (type !== undefined || code !== undefined))
    throw new KeyturnError(
      "invalid_options",
      "--type and --code are for actors' letters, not for a source's.",
    );
  return source !== undefined;
}

/** Letters in their order, a page at a time. */
async function* lettersOf({ store }: Target, { type, code }: DeadFlags): AsyncGenerator<DeadLetter> {
  let after: DeadLetter | undefined;
  do {
    const page = await asReading(store.deadLetters.list(PAGE, after));
    for (const letter of page)
      if ((type === undefined || letter.type === type) && (code === undefined || letter.code === code))
        yield letter;
    after = page.length < PAGE ? undefined : page.at(-1);
  } while (after !== undefined);
}

async function listLetters(flags: DeadFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  const { limit = LIMIT } = flags;
  return await withTarget(flags, shell, { actors: flags.actors !== undefined }, async (target) => {
    const letters: DeadLetter[] = [];
    for await (const letter of lettersOf(target, flags)) if (letters.push(letter) > limit) break;
    const more = letters.length > limit;
    if (more) letters.pop();
    if (output.json) for (const letter of letters) output.row(rowOf(letter));
    else if (letters.length === 0) output.note("There are no dead letters.");
    else {
      const columns = [
        { head: "id" },
        { head: "time" },
        { head: "for" },
        { head: "event" },
        { head: "error" },
        { head: "" },
      ];
      output.table(
        columns,
        letters.map((letter) => [
          letterId(letter),
          timeText(letter.time),
          output.cell(`${letter.type}/${letter.key}`),
          output.cell(letter.event, 40),
          letter.code,
          output.cell(letter.reason),
        ]),
      );
    }
    if (more) output.note(`There are more: --limit ${limit * 10}.`);
    if (flags.type === undefined && flags.code === undefined) await countOfSources(target, output);
    return DONE;
  });
}

function rowOf(letter: DeadLetter): object {
  const { type, key, event, time, code, reason } = letter;
  return { id: letterId(letter), time, type, key, address: `${type}/${key}`, event, code, reason };
}

async function showLetters(ids: readonly string[], flags: DeadFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, { actors: false }, async (target) => {
    const { letters, code } = await named(ids, target, output);
    for (const letter of letters) {
      if (output.json) {
        output.row(rowOf(letter));
        continue;
      }
      const head = output.paint("bold", letterId(letter));
      output.text(`${head}  ${output.cell(`${letter.type}/${letter.key}`, 500)}  ${timeText(letter.time)}`);
      output.text(`${output.paint("red", letter.code)}: ${output.value(letter.reason)}`);
      output.text(output.value(letter.event));
    }
    return code;
  });
}

async function named(
  ids: readonly string[],
  target: Target,
  output: Output,
): Promise<{ letters: DeadLetter[]; code: number }> {
  const letters: DeadLetter[] = [];
  let code = DONE;
  for (const id of ids.map(parseLetterId)) {
    const letter = await asReading(letterOf(target.store.deadLetters, id));
    if (letter !== undefined) letters.push(letter);
    else {
      code = MISSING;
      output.note(`There is no dead letter ${letterId(id)}.`);
    }
  }
  return { letters, code };
}

/** Those that are named, or all that fit. */
async function chosen(
  ids: readonly string[],
  flags: DeadFlags,
  target: Target,
  output: Output,
): Promise<{ letters: DeadLetter[]; code: number }> {
  if (ids.length > 0 && flags.all)
    throw new KeyturnError("invalid_options", "Name ids, or say --all, not both.");
  if (ids.length > 0) return await named(ids, target, output);
  if (!flags.all)
    throw new KeyturnError("invalid_options", "Name ids, as keyturn dead list shows them, or say --all.");
  const letters: DeadLetter[] = [];
  for await (const letter of lettersOf(target, flags)) letters.push(letter);
  if (letters.length === 0) throw new NotFound("There are no such dead letters.");
  return { letters, code: DONE };
}

async function retryLetters(ids: readonly string[], flags: DeadFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, { actors: true }, async (target) => {
    const { client, store } = target;
    const found = await chosen(ids, flags, target, output);
    let { code } = found;
    // One after the other: letters for one actor come in their order.
    for (const letter of found.letters) {
      const id = letterId(letter);
      const address = `${letter.type}/${letter.key}`;
      try {
        await retryLetter(client, store.deadLetters, letter, flags.timeout);
      } catch (error) {
        code = Math.max(code, codeOf(error));
        const told = isKeyturnError(error) ? error.toJSON() : { message: textOf(error) };
        output.say(
          { event: "refused", id, address, error: told },
          `${id}  ${address}: ${textOf(error)} It stays.`,
        );
        continue;
      }
      output.say({ event: "retried", id, address }, `${id}  ${address}: taken.`);
    }
    return code;
  });
}

async function dropLetters(ids: readonly string[], flags: DeadFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, { actors: false }, async (target) => {
    const { letters, code } = await chosen(ids, flags, target, output);
    const count = letters.length;
    const many = `${count} dead letter${count === 1 ? "" : "s"}`;
    if (flags.all) await confirm(`Drop ${many} for good?`, flags.yes === true, shell);
    for (let at = 0; at < count; at += PAGE) await store(target).remove(letters.slice(at, at + PAGE));
    if (count > 0) output.say({ event: "dropped", ids: letters.map(letterId) }, `Dropped ${many}.`);
    return code;
  });
}

function store({ store: { deadLetters } }: Target): Target["store"]["deadLetters"] {
  return deadLetters;
}
