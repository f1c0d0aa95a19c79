/** `keyturn get`, `watch`, `history` and `delete`: one actor, as it is, was, and will be. */
import { createInterface } from "node:readline/promises";
import { type Command, Option } from "commander";
import type { ActorRef } from "../../client/client.ts";
import type { HistoryTurn } from "../../engine/history.ts";
import { isKeyturnError } from "../../words/errors.ts";
import { condition, duration } from "../input.ts";
import { whole } from "../options.ts";
import { Output, stateText, timeText } from "../output.ts";
import { asReading } from "../reading.ts";
import { DONE, Failure, MISSING, NotFound, type Shell, stopSignal } from "../shell.ts";
import { printState } from "../state-output.ts";
import { addTargetOptions, type TargetFlags, withTarget } from "../target.ts";

interface StateFlags extends TargetFlags {
  readonly stale?: boolean;
  readonly timeout?: number;
  readonly limit?: number;
  readonly oldest?: boolean;
  readonly full?: boolean;
  readonly yes?: boolean;
  readonly state?: string;
  readonly where?: Parameters<typeof condition>[1];
  readonly initial?: boolean;
}

const TURNS = 20;
const ADDRESS = "type/key; the key may hold anything";

const timeoutOption = (): Option =>
  new Option("--timeout <duration>", 'how long to wait, "30s"; 10 s by default').argParser(duration);
const limitOption = (text: string): Option =>
  new Option("--limit <number>", text).argParser(whole(1, Number.MAX_SAFE_INTEGER));

export function addState(program: Command, shell: Shell): void {
  const get = program
    .command("get")
    .summary("print an actor's state")
    .description("Prints an actor's state. Exit code 5 if no message has ever reached it.")
    .argument("<address>", ADDRESS);
  addTargetOptions(get)
    .option("--stale", "read the last snapshot past the actor: it may be behind, and no node is needed")
    .addOption(timeoutOption())
    .addHelpText("after", "\nExample:\n  keyturn get order/42 --json | jq .context.total")
    .action(async (address: string, flags: StateFlags) => shell.exit(await getState(address, flags, shell)));

  const watch = program
    .command("watch")
    .summary("print an actor's state whenever it changes, or all actors of a type")
    .description(
      "Prints the state now and after every change, one line each, until Ctrl-C. With a type, every actor of it that changes.",
    )
    .argument("<address|type>", "type/key, or a type");
  addTargetOptions(watch)
    .addOption(limitOption("end after so many"))
    .addOption(new Option("--state <path>", "of a type: only actors in this state"))
    .addOption(new Option("--where <condition>", "of a type: see keyturn find").argParser(condition))
    .option("--no-initial", "of a type: leave out what is there when it begins")
    .addHelpText(
      "after",
      "\nExamples:\n  keyturn watch order/42\n  keyturn watch order --state waiting --json",
    )
    .action(async (target: string, flags: StateFlags) => shell.exit(await watchStates(target, flags, shell)));

  const history = program
    .command("history")
    .summary("print an actor's turns")
    .description(`Prints an actor's turns, newest first, ${TURNS} unless told otherwise.`)
    .argument("<address>", ADDRESS);
  addTargetOptions(history)
    .addOption(limitOption(`so many turns; ${TURNS} by default`))
    .option("--oldest", "oldest first")
    .option("--full", "print each turn's context, reply and messages too")
    .addOption(timeoutOption())
    .action(async (address: string, flags: StateFlags) =>
      shell.exit(await printHistory(address, flags, shell)),
    );

  const remove = program
    .command("delete")
    .summary("delete actors, with their history")
    .description("Deletes actors: state, timers, history. A later message begins anew.")
    .argument("<address...>", ADDRESS);
  addTargetOptions(remove)
    .option("-y, --yes", "do not ask")
    .addOption(timeoutOption())
    .action(async (addresses: string[], flags: StateFlags) =>
      shell.exit(await deleteAll(addresses, flags, shell)),
    );
}

async function getState(address: string, flags: StateFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  const needs = { actors: flags.stale !== true };
  return await withTarget(flags, shell, needs, async (target) => {
    const ref = await refOf(target, address, flags.stale === true);
    const state = await asReading(
      flags.stale === true
        ? ref.get({ stale: true })
        : ref.get({ timeout_ms: flags.timeout }).catch((error: unknown) => {
            // It cannot even say how it would begin.
            if (isKeyturnError(error, "invalid_input")) return undefined;
            throw error;
          }),
    );
    if (state === undefined) throw notThere(address);
    if (output.json) output.row({ address, ...state });
    else printState(output, address, state);
    if (state.turn > 0) return DONE;
    output.note(`No message has reached ${address}: that is how it would begin.`);
    return MISSING;
  });
}

/** A stale read goes past the nodes; so nobody needs to serve. */
async function refOf(
  target: Parameters<Parameters<typeof withTarget>[3]>[0],
  address: string,
  stale: boolean,
): Promise<ActorRef> {
  if (!stale || target.isServed) return target.client.actor(address);
  const { createClient } = await import("../../client/client.ts");
  const { realWorld } = await import("../../world.ts");
  return (await createClient(target.store, realWorld, target.settings.shards)).actor(address);
}

async function watchStates(target: string, flags: StateFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  const stop = stopSignal(shell);
  const { limit = Number.POSITIVE_INFINITY, state, where, initial } = flags;
  const say = (
    address: string,
    found: { value: unknown; turn: number; context?: unknown; fields?: unknown },
  ): void => {
    const time = output.paint("dim", new Date().toTimeString().slice(0, 8));
    const more = output.cell(found.context ?? found.fields ?? {}, 200);
    const shown = output.paint("cyan", stateText(found.value) || "(no states)");
    output.text(`${time}  ${output.cell(address, 200)}  #${found.turn}  ${shown}  ${more}`);
  };
  return await withTarget(flags, shell, { actors: true }, async ({ client }) => {
    let left = limit;
    if (!target.includes("/")) {
      for await (const { address, actor } of client.changes(target, {
        state,
        where,
        initial,
        signal: stop,
      })) {
        if (output.json) output.row({ address, actor: actor ?? null });
        else if (actor !== undefined) say(address, actor);
        else output.text(`${output.paint("dim", new Date().toTimeString().slice(0, 8))}  ${address}  gone`);
        if (--left <= 0) break;
      }
      return DONE;
    }
    for await (const found of client.actor(target).watch({ signal: stop })) {
      if (output.json) output.row({ address: target, ...found });
      else say(target, found);
      if (--left <= 0) break;
    }
    return DONE;
  });
}

async function printHistory(address: string, flags: StateFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, { actors: true }, async ({ client }) => {
    const { limit = TURNS, oldest, full, timeout } = flags;
    const turns: HistoryTurn[] = [];
    let count = 0;
    let trimmed = false;
    const order = oldest ? "oldest" : "newest";
    const found = client.actor(address).history({ limit: limit + 1, order, timeout_ms: timeout });
    await asReading(
      (async () => {
        for await (const turn of found) {
          if (++count > limit) break;
          trimmed ||= turn.trimmed === true;
          if (output.json) output.row(turn);
          else turns.push(turn);
        }
      })(),
    );
    if (count === 0) throw notThere(address);
    if (trimmed) output.note("Older turns have been trimmed from the journal.");
    if (output.json) return DONE;
    if (full) for (const turn of turns) printTurn(output, turn);
    else {
      const columns = [
        { head: "turn", right: true },
        { head: "time" },
        { head: "event" },
        { head: "state" },
        { head: "" },
      ];
      output.table(
        columns,
        turns.map((turn) => [
          String(turn.turn),
          timeText(turn.time),
          output.cell(turn.event),
          stateText(turn.value),
          output.cell(resultOf(turn)),
        ]),
      );
    }
    if (count > limit) output.note(`There are more turns: --limit ${limit * 10}.`);
    return DONE;
  });
}

function resultOf({ refusal, replied, reply, told, emitted, status }: HistoryTurn): string {
  const parts: string[] = [];
  if (refusal !== undefined) parts.push(`refused: ${refusal[0]}`);
  if (replied) parts.push(`replied ${JSON.stringify(reply) ?? "nothing"}`);
  if (told.length > 0) parts.push(`told ${told.map(({ to }) => to).join(", ")}`);
  if (emitted.length > 0) parts.push(`emitted ${emitted.length}`);
  if (status !== "active") parts.push(status);
  return parts.join("; ");
}

function printTurn(output: Output, turn: HistoryTurn): void {
  const state = output.paint("cyan", stateText(turn.value) || "(no states)");
  const head = output.paint("bold", `turn ${turn.turn}`);
  output.text(
    `${head}  ${timeText(turn.time)}  ${state}  ${output.paint("dim", `position ${turn.position}`)}`,
  );
  output.text(`  event:   ${output.value(turn.event)}`);
  output.text(`  context: ${output.value(turn.context)}`);
  const result = resultOf(turn);
  if (result !== "") output.text(`  ${result}`);
}

async function deleteAll(addresses: readonly string[], flags: StateFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, { actors: true }, async ({ client }) => {
    const refs = addresses.map((address) => client.actor(address));
    await confirm(`Delete ${addresses.join(", ")}, with all history?`, flags.yes === true, shell);
    let missing = 0;
    for (const ref of refs) {
      if (!(await exists(ref))) {
        missing++;
        output.note(`${ref.address} does not exist: no message has reached it.`);
        continue;
      }
      await ref.delete({ timeout_ms: flags.timeout });
      output.say({ event: "deleted", address: ref.address }, `Deleted ${ref.address}.`);
    }
    return missing > 0 ? MISSING : DONE;
  });
}

async function exists(ref: ActorRef): Promise<boolean> {
  try {
    return (await asReading(ref.get())).turn > 0;
  } catch (error) {
    if (isKeyturnError(error, "invalid_input")) return false;
    // One that cannot be read can be deleted all the same.
    if (isKeyturnError(error) && /snapshot|migration|corrupt/.test(error.code)) return true;
    throw error;
  }
}

/** Asks a person; a script is taken at its word. */
export async function confirm(question: string, sure: boolean, { stdin, stderr }: Shell): Promise<void> {
  if (sure || (stdin as NodeJS.ReadStream).isTTY !== true) return;
  const reading = createInterface({ input: stdin, output: stderr });
  try {
    const answer = await reading.question(`${question} [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim())) throw new Failure("Nothing was done.");
  } finally {
    reading.close();
  }
}

function notThere(address: string): NotFound {
  return new NotFound(
    `${address} does not exist: no message has reached it, or nothing of it is stored yet.`,
  );
}
