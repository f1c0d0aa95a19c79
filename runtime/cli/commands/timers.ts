/** `keyturn timers`: what actors wait for, and cancelling it. */
import { type Command, Option } from "commander";
import type { TimersQuery } from "../../client/find.ts";
import type { PendingTimer } from "../../engine/pending.ts";
import { KeyturnError } from "../../words/errors.ts";
import { moment } from "../input.ts";
import { whole } from "../options.ts";
import { fromNow, Output, timeText } from "../output.ts";
import { asReading } from "../reading.ts";
import { DONE, NotFound, type Shell } from "../shell.ts";
import { addTargetOptions, type Target, withTarget } from "../target.ts";
import { addFilterOptions, type FilterFlags, queryOf } from "./find.ts";
import { confirm } from "./state.ts";

interface TimerFlags extends FilterFlags {
  readonly id?: string;
  readonly child?: string;
  readonly dueBefore?: number;
  readonly yes?: boolean;
}

const LIMIT = 100;
const TARGET = "type/key, or a type";

export function addTimers(program: Command, shell: Shell): void {
  const timers = program
    .command("timers")
    .summary("list the timers that actors wait for, or cancel them")
    .description("What actors wait for: their machines' delays and delayed events.");
  const list = timers
    .command("list", { isDefault: true })
    .summary("list timers of an actor, or of all actors of a type")
    .description("Lists timers of an actor, or of all actors of a type.")
    .argument("<address|type>", TARGET);
  timerOptions(list)
    .addOption(
      new Option("--limit <number>", `so many; ${LIMIT} by default`).argParser(
        whole(1, Number.MAX_SAFE_INTEGER),
      ),
    )
    .action(async (target: string, flags: TimerFlags) => shell.exit(await listTimers(target, flags, shell)));
  const cancel = timers
    .command("cancel")
    .summary("cancel timers")
    .description(
      "Cancels a timer of an actor, or those of a type that fit. The machine is not told: their events do not come.",
    )
    .argument("<address|type>", TARGET)
    .argument("[id]", "of the timer, as the list shows it");
  timerOptions(cancel)
    .option("--all", "every timer that fits, of an actor or a type")
    .option("-y, --yes", "do not ask")
    .action(async (target: string, id: string | undefined, flags: TimerFlags) =>
      shell.exit(await cancelTimers(target, { ...flags, ...(id === undefined ? {} : { id }) }, shell)),
    );
}

function timerOptions(command: Command): Command {
  return addFilterOptions(addTargetOptions(command))
    .option("--id <id>", "only timers with this id")
    .option("--child <path>", "only timers of this child of their actor")
    .addOption(
      new Option("--due-before <time>", 'only what is due before: a date, or "1h" from now').argParser(
        moment,
      ),
    );
}

async function listTimers(target: string, flags: TimerFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  const { limit = LIMIT } = flags;
  return await withTarget(flags, shell, { actors: true }, async ({ client }) => {
    const found: (PendingTimer & { address: string })[] = [];
    const query = { ...timersQueryOf(flags), limit: limit + 1 };
    await asReading(
      (async () => {
        for await (const timer of timersOf(client, target, query)) found.push(timer);
      })(),
    );
    const more = found.length > limit;
    if (more) found.pop();
    if (output.json) for (const timer of found) output.row(timer);
    else if (found.length === 0) output.note("Nothing is waited for.");
    else {
      const now = Date.now();
      const columns = [
        { head: "address" },
        { head: "id" },
        { head: "child" },
        { head: "due" },
        { head: "" },
        { head: "event" },
      ];
      output.table(
        columns,
        found.map(({ address, id, child = "", due, event }) => [
          output.cell(address, 200),
          output.cell(id, 100),
          child,
          timeText(due),
          fromNow(due, now),
          event.type,
        ]),
      );
    }
    if (more) output.note(`There are more: --limit ${limit * 10}.`);
    return DONE;
  });
}

async function* timersOf(
  client: Target["client"],
  target: string,
  query: TimersQuery,
): AsyncGenerator<PendingTimer & { address: string }> {
  if (!target.includes("/")) {
    yield* client.timers(target, query);
    return;
  }
  const { id, child, dueBefore = Number.POSITIVE_INFINITY, limit = Number.POSITIVE_INFINITY } = query;
  let left = limit;
  for (const timer of await client.actor(target).timers()) {
    const fits =
      (id === undefined || timer.id === id) &&
      (child === undefined || timer.child === child) &&
      timer.due < dueBefore;
    if (!fits) continue;
    if (left-- <= 0) return;
    yield { ...timer, address: target };
  }
}

function timersQueryOf(flags: TimerFlags): TimersQuery {
  const { id, child, dueBefore } = flags;
  return { ...queryOf(flags), id, child, dueBefore };
}

async function cancelTimers(target: string, flags: TimerFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  const { id, child, dueBefore, all } = flags;
  if (id === undefined && child === undefined && dueBefore === undefined && !all) {
    const text = "Say which: an id, --child, --due-before, or --all.";
    throw new KeyturnError("invalid_options", text);
  }
  return await withTarget(flags, shell, { actors: true }, async ({ client }) => {
    let count = 0;
    if (!target.includes("/")) {
      await confirm(`Cancel timers of all actors of the type ${target}?`, flags.yes === true, shell);
      count = await client.cancelTimers(target, timersQueryOf(flags));
    } else {
      const ref = client.actor(target);
      const found: PendingTimer[] = [];
      for await (const timer of timersOf(client, target, timersQueryOf(flags))) found.push(timer);
      for (const timer of found)
        if (
          await ref.cancelTimer(
            timer.child === undefined ? { id: timer.id } : { id: timer.id, child: timer.child },
          )
        )
          count++;
    }
    if (count === 0) throw new NotFound(`No such timer is waited for by ${target}.`);
    output.say(
      { event: "cancelled", target, timers: count },
      `Cancelled ${count} timer${count === 1 ? "" : "s"}.`,
    );
    return DONE;
  });
}
