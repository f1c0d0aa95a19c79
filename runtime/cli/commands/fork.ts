/**
 * `keyturn fork`: an actor's past state, as a sandbox of its own or for a what-if in memory.
 *
 * Owns the options and the reading of events. Talks to the client's fork and to `whatIf`. With `--what-if` nothing is
 * written, and no node is needed.
 */
import { readFile } from "node:fs/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import { Client } from "../../client/client.ts";
import { startNode } from "../../node.ts";
import type { Store } from "../../ports/index.ts";
import { pastInStore } from "../../rebuild/past.ts";
import { whatIf, type WhatIfEvent, type WhatIfResult } from "../../rebuild/what-if.ts";
import { type Address, parseAddress } from "../../words/address.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { realWorld } from "../../world.ts";
import { loadActors } from "../actors.ts";
import { type AppFlags, openApp, shardsIn } from "../app.ts";
import { addStoreOptions, gather, jsonOption, waitOption, whole } from "../options.ts";
import { valueText } from "../rebuild-report.ts";
import { DONE, type Shell } from "../shell.ts";

interface ForkFlags extends AppFlags {
  readonly at?: number;
  readonly atPosition?: number;
  readonly to?: string;
  readonly timers: "drop" | "keep";
  readonly whatIf?: string;
  readonly actors?: readonly string[];
}

const HELP = `
With --to the state after that turn begins another actor of the type, which must not exist. It is an actor like any
other: what it is sent from then on has all its effects. Its delays are dropped, unless --timers keep.

With --what-if the events of a file are put to that state in memory, and what they would do is printed. Nothing is
written, told or run. The file has one JSON object a line: an event, or { "after": "3 days", "event": { ... } } for one
that comes so long after what was before; without an event only time passes. "-" is standard input.

Examples:
  keyturn fork order/42 --at 17 --to order/sandbox-42 --nats 127.0.0.1:4222
  keyturn fork order/42 --at 17 --what-if events.ndjson --actors ./actors.ts --data ./data`;

export function addFork(program: Command, shell: Shell): void {
  const command = program
    .command("fork")
    .argument("<address>", "the actor, type/key", (text: string) => {
      try {
        return parseAddress(text);
      } catch (error) {
        throw new InvalidArgumentError(textOf(error));
      }
    })
    .summary("begin a sandbox with an actor's past state, or ask what if")
    .description(
      "Takes an actor's state after one of its turns: as a sandbox, or for events that ask what if.",
    );
  addStoreOptions(command)
    .addOption(
      new Option("--at <turn>", "after this turn; the present without it").argParser(
        whole(1, Number.MAX_SAFE_INTEGER),
      ),
    )
    .addOption(
      new Option("--at-position <position>", "after the last turn up to this journal position")
        .argParser(whole(1, Number.MAX_SAFE_INTEGER))
        .conflicts("at"),
    )
    .option("--to <address>", "the sandbox, type/key")
    .addOption(
      new Option("--timers <drop|keep>", "what becomes of the sandbox's delays")
        .choices(["drop", "keep"])
        .default("drop"),
    )
    .addOption(new Option("--what-if <file>", "events to be put to it in memory").conflicts("to"))
    .addOption(
      new Option("--actors <module>", "a module that exports the actors; repeat it for more").argParser(
        gather,
      ),
    )
    .addOption(waitOption)
    .addOption(jsonOption)
    .addHelpText("after", HELP)
    .action(async (address: unknown, flags: ForkFlags) =>
      shell.exit(await fork(address as Address, flags, shell)),
    );
}

async function fork(address: Address, flags: ForkFlags, shell: Shell): Promise<number> {
  if (flags.to === undefined && flags.whatIf === undefined)
    throw new KeyturnError("invalid_options", "Say where to: --to TYPE/KEY; or what if: --what-if FILE.");
  if (flags.actors === undefined && (flags.whatIf !== undefined || flags.data !== undefined))
    throw new KeyturnError("invalid_options", "Say which definitions: --actors MODULE.");
  const events = flags.whatIf === undefined ? undefined : await readEvents(flags.whatIf);
  const store = await openApp(flags, shell, "keyturn fork");
  try {
    if (events !== undefined) return await ask(address, events, store, flags, shell);
    return await sandbox(address, store, flags, shell);
  } finally {
    await store.close();
  }
}

function atOf({ at, atPosition }: ForkFlags): number | { readonly position: number } | undefined {
  return atPosition === undefined ? at : { position: atPosition };
}

async function sandbox(
  { type, key }: Address,
  store: Store,
  flags: ForkFlags,
  shell: Shell,
): Promise<number> {
  const to = flags.to as string;
  const make = async (client: Client): Promise<void> => {
    const made = await client.actor(`${type}/${key}`).fork({ at: atOf(flags), to, timers: flags.timers });
    const state = await made.get();
    if (flags.json)
      shell.stdout.write(`${JSON.stringify({ event: "forked", of: `${type}/${key}`, to, state })}\n`);
    else shell.stdout.write(`${to} begins with the state of ${type}/${key}: ${valueText(state.value)}.\n`);
  };
  if (flags.data === undefined) {
    const client = new Client(store, realWorld, await shardsIn(store));
    try {
      await make(client);
    } finally {
      client.close();
    }
    return DONE;
  }
  await shardsIn(store);
  const node = await startNode({
    actors: await loadActors(flags.actors as readonly string[]),
    store,
    name: "keyturn-fork",
  });
  try {
    await make(node.client);
  } finally {
    await node.stop({ closeStore: false });
  }
  return DONE;
}

async function ask(
  address: Address,
  events: readonly WhatIfEvent[],
  store: Store,
  flags: ForkFlags,
  shell: Shell,
): Promise<number> {
  const actors = await loadActors(flags.actors as readonly string[]);
  const definition = actors.find(({ type }) => type === address.type);
  if (definition === undefined) {
    throw new KeyturnError(
      "invalid_options",
      `There is no actor type "${address.type}" among the modules: ${actors.map(({ type }) => type).join(", ")}.`,
    );
  }
  await shardsIn(store);
  const { at, atPosition } = flags;
  const query = at === undefined ? { position: atPosition ?? Number.MAX_SAFE_INTEGER } : { turn: at };
  const from = await pastInStore(store, realWorld, address, query);
  const result = whatIf(definition, { from, events, key: address.key });
  if (flags.json) shell.stdout.write(`${JSON.stringify({ event: "what-if", from: from.turn, ...result })}\n`);
  else shell.stdout.write(textFor(`${address.type}/${address.key}`, from.turn, result));
  return DONE;
}

async function readEvents(file: string): Promise<WhatIfEvent[]> {
  let text: string;
  try {
    text = await (file === "-" ? streamText(process.stdin) : readFile(file, "utf8"));
  } catch (cause) {
    throw new KeyturnError("invalid_options", `The events cannot be read: ${textOf(cause)}`);
  }
  const events: WhatIfEvent[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    let event: unknown;
    try {
      event = JSON.parse(line);
    } catch (cause) {
      throw new KeyturnError("invalid_options", `${file}, line ${index + 1} is not JSON: ${textOf(cause)}`);
    }
    if (typeof event !== "object" || event === null || !("type" in event || "after" in event)) {
      throw new KeyturnError(
        "invalid_options",
        `${file}, line ${index + 1} is neither an event nor { "after": …, "event": … }.`,
      );
    }
    events.push(event as WhatIfEvent);
  }
  return events;
}

async function streamText(stream: AsyncIterable<unknown>): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  return text;
}

function textFor(name: string, turn: number, { steps, state, changes, timers }: WhatIfResult): string {
  const lines = [`${name}, after turn ${turn}:`];
  for (const step of steps) {
    lines.push(
      "",
      `${new Date(step.time).toISOString()}  ${step.fired ? "due: " : ""}${valueText(step.event)}`,
    );
    if (step.refused !== undefined) lines.push(`  refused, ${step.refused.code}: ${step.refused.reason}`);
    for (const { path, before, after } of step.changes)
      lines.push(`  ${path}: ${valueText(before)} -> ${valueText(after)}`);
    if (step.replied) lines.push(`  replies ${valueText(step.reply)}`);
    for (const { to, event, asked } of step.told)
      lines.push(`  would ${asked ? "ask" : "tell"} ${String(to)} ${valueText(event)}`);
    for (const event of step.emitted) lines.push(`  would emit ${valueText(event)}`);
    for (const action of step.actions) lines.push(`  would run ${action}`);
    for (const path of step.begun) lines.push(`  would begin ${path}`);
  }
  lines.push("", `In the end: ${valueText(state.value)}, ${state.status}; ${changes.length} differences:`);
  for (const { path, before, after } of changes)
    lines.push(`  ${path}: ${valueText(before)} -> ${valueText(after)}`);
  for (const { id, due } of timers) lines.push(`  waits for ${id} until ${new Date(due).toISOString()}`);
  return `${lines.join("\n")}\n`;
}
