/** `keyturn mailbox`: what waits for an actor, and what it waits for outside. */
import { type Command, Option } from "commander";
import type { Invocation, MailboxState } from "../../words/mailbox.ts";
import { duration } from "../input.ts";
import { fromNow, Output } from "../output.ts";
import { asReading } from "../reading.ts";
import { DONE, type Shell } from "../shell.ts";
import { addTargetOptions, type TargetFlags, withTarget } from "../target.ts";

interface MailboxFlags extends TargetFlags {
  readonly timeout?: number;
}

const HELP = `
It is answered at once, past whatever waits, by the node that has the actor; nothing is loaded for it.

Example:
  keyturn mailbox order/42 --json | jq .depth`;

export function addMailbox(program: Command, shell: Shell): void {
  const command = program
    .command("mailbox")
    .summary("show what waits for an actor just now")
    .description(
      "Shows the messages that an actor has not taken yet, since when they wait and why, and what it has invoked and is not answered.",
    )
    .argument("<address>", "type/key; the key may hold anything");
  addTargetOptions(command)
    .addOption(
      new Option("--timeout <duration>", 'how long to wait, "30s"; 10 s by default').argParser(duration),
    )
    .addHelpText("after", HELP)
    .action(async (address: string, flags: MailboxFlags) =>
      shell.exit(await printMailbox(address, flags, shell)),
    );
}

async function printMailbox(address: string, flags: MailboxFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, { actors: true }, async ({ client }) => {
    const found = await asReading(client.actor(address).mailbox({ timeout_ms: flags.timeout }));
    if (output.json) output.row({ address, ...found });
    else print(output, address, found);
    return DONE;
  });
}

function print(output: Output, address: string, found: MailboxState): void {
  const { depth, waiting, memory, failure, invocations } = found;
  const now = Date.now();
  const many = depth === 0 ? "nothing waits" : `${depth} ${depth === 1 ? "message waits" : "messages wait"}`;
  output.text(`${output.paint("bold", address)}  ${many}  ${output.paint("dim", `in memory: ${memory}`)}`);
  if (failure !== undefined)
    output.text(`${output.paint("red", failure.code)}: ${output.value(failure.reason)}`);
  if (waiting.length > 0) {
    const columns = [{ head: "event" }, { head: "from" }, { head: "" }, { head: "since" }];
    output.table(
      columns,
      waiting.map(({ event, from, phase, since }) => [
        output.cell(event, 60),
        from,
        phase,
        fromNow(since, now),
      ]),
    );
    if (waiting.length < depth) output.note(`And ${depth - waiting.length} more.`);
  }
  if (invocations.length === 0) return;
  const columns = [{ head: "invoked" }, { head: "kind" }, { head: "logic" }, { head: "" }, { head: "" }];
  output.table(
    columns,
    invocations.map((one) => [
      output.cell(one.path, 60),
      one.kind,
      output.cell(one.src, 40),
      one.phase,
      aboutOf(one, now),
    ]),
  );
}

function aboutOf({ since, attempt = 1, due, to }: Invocation, now: number): string {
  const parts: string[] = [];
  if (to !== undefined) parts.push(to);
  if (since !== undefined) parts.push(`begun ${fromNow(since, now)}`);
  if (attempt > 1) parts.push(`attempt ${attempt}`);
  if (due !== undefined) parts.push(`${to === undefined ? "again" : "until"} ${fromNow(due, now)}`);
  return parts.join(", ");
}
