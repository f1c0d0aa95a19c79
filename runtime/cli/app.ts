/**
 * The app that a command reads as a whole: on a NATS server, or in a folder of this machine.
 *
 * Owns the options of such commands, and the checks that there is an app. Nothing is made or claimed. A folder that a node
 * has open is read through the node (see target.ts).
 */
import { type Command, Option } from "commander";
import { Client } from "../client/client.ts";
import type { AnyActorDefinition } from "../engine/definition.ts";
import { FORMAT, startNode } from "../node.ts";
import type { Store } from "../ports/index.ts";
import { nats } from "../stores/nats/index.ts";
import { KeyturnError } from "../words/errors.ts";
import { realWorld } from "../world.ts";
import { Console } from "./console.ts";
import { addNatsOptions, gather, jsonOption, type NatsFlags, natsOptionsOf, waitOption } from "./options.ts";
import { Failure, type Shell } from "./shell.ts";
import { dataOption, folderOf, folderStore, isStore, nowhere, preferSaid } from "./target.ts";
import { withinWait } from "./wait.ts";

export interface AppFlags extends NatsFlags {
  readonly data?: string;
  readonly wait: number;
  readonly json?: boolean;
}

export interface App {
  readonly store: Store;
  readonly shards: number;
  /** Whether nodes may be running: then actors are asked, and this process is none. */
  readonly isServed: boolean;
}

/** The options that say where the app is, and `--json`. `actors` is what is to be said of modules, if they are taken. */
export function addAppOptions(
  command: Command,
  actors?: { readonly text: string; readonly mandatory: boolean },
): Command {
  addNatsOptions(command).addOption(dataOption());
  if (actors !== undefined)
    command.addOption(
      new Option("--actors <module>", `${actors.text}; repeat it for more`)
        .argParser(gather)
        .makeOptionMandatory(actors.mandatory),
    );
  command.hook("preAction", (_, action) => preferSaid(action));
  return command.addOption(waitOption).addOption(jsonOption);
}

/**
 * Opens an app, runs something on it, and closes it whatever happens.
 * @param name who asks, as the server shows it
 */
export async function withApp<T>(
  flags: AppFlags,
  shell: Shell,
  name: string,
  run: (app: App) => Promise<T>,
): Promise<T> {
  const { store, isServed } = await openStore(flags, shell, name);
  try {
    return await run({ store, isServed, shards: await shardsIn(store) });
  } finally {
    await store.close();
  }
}

/**
 * A client of the app for as long as something runs: of its nodes or, if nobody has the folder open, of a node that this
 * process is meanwhile.
 */
export async function withClient<T>(
  { store, shards, isServed }: App,
  name: string,
  actors: () => Promise<readonly AnyActorDefinition[]>,
  run: (client: Client) => Promise<T>,
): Promise<T> {
  if (isServed) {
    const client = new Client(store, realWorld, shards);
    try {
      return await run(client);
    } finally {
      client.close();
    }
  }
  const node = await startNode({ actors: await actors(), store, name });
  try {
    return await run(node.client);
  } finally {
    await node.stop({ closeStore: false });
  }
}

async function openStore(
  flags: AppFlags,
  shell: Shell,
  name: string,
): Promise<{ store: Store; isServed: boolean }> {
  const { json = false, wait } = flags;
  const folder = await folderOf(flags);
  if (folder !== undefined) {
    // To open one that is none would make one.
    if (!(await isStore(folder)))
      throw new KeyturnError("invalid_options", `There is no embedded store in ${folder}.`);
    return await folderStore(folder);
  }
  if (flags.nats === undefined) throw nowhere();
  const options = { ...natsOptionsOf(flags, shell.env), provision: false, name };
  const console = new Console({ name: flags.app, json, stdout: shell.stdout, stderr: shell.stderr });
  const where = `NATS at ${flags.nats.join(", ")}`;
  const store = await withinWait({ wait_ms: wait * 1_000, where, console }, () => nats(options));
  return { store, isServed: true };
}

/** Shards of the app in a store. */
async function shardsIn(store: Store): Promise<number> {
  const settings = await store.directory.settings();
  if (settings === undefined)
    throw new Failure(`There is no app in ${store.description}: no node has been started on it.`);
  if (settings.format !== FORMAT) {
    throw new KeyturnError(
      "app_mismatch",
      `The app was created in format ${settings.format}, this runtime reads ${FORMAT}. Use the version that fits.`,
    );
  }
  return settings.shards;
}
