/**
 * `keyturn send`, `ask` and `create`: one message to one actor.
 *
 * Every message carries a request id, drawn if none is given: so whoever does not learn what became of it can ask again,
 * from another process too.
 */
import { type Command, Option } from "commander";
import type { ActorRef, CallOptions } from "../../client/client.ts";
import type { ActorState } from "../../engine/definition.ts";
import type { Machine } from "../../engine/machine.ts";
import { isKeyturnError, KeyturnError } from "../../words/errors.ts";
import { realRandom } from "../../world.ts";
import { duration, EVENT_HELP, eventOf, inputOf } from "../input.ts";
import { Output } from "../output.ts";
import { DONE, type Shell } from "../shell.ts";
import { printState } from "../state-output.ts";
import { addTargetOptions, type TargetFlags, withTarget } from "../target.ts";

interface MessageFlags extends TargetFlags {
  readonly requestId?: string;
  readonly timeout?: number;
  readonly trace?: string;
}

export function addMessages(program: Command, shell: Shell): void {
  const send = program
    .command("send")
    .summary("send an actor an event")
    .description("Sends an event to an actor. Done when its turn is in the journal.")
    .argument("<address>", "type/key; the key may hold anything")
    .argument("<event...>", "the event");
  messageOptions(send, "keyturn send order/42 pay amount=10").action(
    async (address: string, words: readonly string[], flags: MessageFlags) =>
      shell.exit(
        await message(address, flags, shell, "sent", async (ref, options) => {
          await ref.send((await eventOf(words, shell)) as never, options);
          return undefined;
        }),
      ),
  );
  const ask = program
    .command("ask")
    .summary("send an actor an event, and print what it replies")
    .description(
      "Sends an event to an actor and prints the machine's reply, or else the new state, once its turn is in the journal.",
    )
    .argument("<address>", "type/key; the key may hold anything")
    .argument("<event...>", "the event");
  messageOptions(ask, "keyturn ask counter/home add by=1").action(
    async (address: string, words: readonly string[], flags: MessageFlags) =>
      shell.exit(
        await message(address, flags, shell, "answered", async (ref, options) => ({
          value: await ref.ask((await eventOf(words, shell)) as never, options),
        })),
      ),
  );
  const create = program
    .command("create")
    .summary("begin an actor with an input")
    .description("Begins an actor with an input for its machine; refused if it has begun already.")
    .argument("<address>", "type/key; the key may hold anything")
    .argument("[input...]", "JSON, @file, - for standard input, or fields name=value");
  messageOptions(create, "keyturn create order/42 customer=ada", false).action(
    async (address: string, words: readonly string[], flags: MessageFlags) =>
      shell.exit(
        await message(address, flags, shell, "created", async (ref, options) => ({
          value: await ref.create((await inputOf(words, shell)) as never, options),
        })),
      ),
  );
}

function messageOptions(command: Command, example: string, isEvent = true): Command {
  return addTargetOptions(command)
    .addOption(
      new Option(
        "--request-id <id>",
        "an id of your own: a repetition with it is applied once, from wherever it comes",
      ),
    )
    .addOption(
      new Option(
        "--timeout <duration>",
        'how long to wait for the outcome, "30s"; 10 s by default',
      ).argParser(duration),
    )
    .option("--trace <traceparent>", "W3C trace context")
    .addHelpText("after", `${isEvent ? EVENT_HELP : ""}\n\nExample:\n  ${example}`);
}

async function message(
  address: string,
  flags: MessageFlags,
  shell: Shell,
  event: string,
  run: (ref: ActorRef<Machine>, options: CallOptions) => Promise<{ value: unknown } | undefined>,
): Promise<number> {
  const { requestId = realRandom.id(), timeout, trace } = flags;
  const output = new Output(shell, flags);
  return await withTarget(flags, shell, { actors: true }, async ({ client }) => {
    const ref = client.actor(address);
    let answer: { value: unknown } | undefined;
    try {
      answer = await run(ref, { requestId, timeout_ms: timeout, trace });
    } catch (error) {
      throw named(error, requestId);
    }
    const told = { event, address: ref.address, requestId };
    if (output.json) output.row(answer === undefined ? told : { ...told, value: answer.value ?? null });
    else if (event === "created") printState(output, ref.address, answer?.value as ActorState);
    else if (answer !== undefined) output.text(output.value(answer.value));
    return DONE;
  });
}

/** An unknown outcome is told with the id by which it can be learned. */
function named(error: unknown, requestId: string): unknown {
  if (!isKeyturnError(error) || error.outcome !== "unknown" || error.requestId !== undefined) return error;
  return new KeyturnError(error.code, error.message, { cause: error.cause, requestId });
}
