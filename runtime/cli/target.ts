/**
 * Where a command finds the actors: an app on NATS, or a folder of this machine.
 *
 * Owns the options that say so, and the store and client that follow from them. A folder belongs to one process; if that
 * is a node of `keyturn start` or `keyturn dev` it is asked over the socket in the folder. If nobody has the folder open,
 * this command opens it: to look, or with `--actors` to run a node of its own for as long as it takes.
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import type { Client } from "../client/client.ts";
import type { AppSettings, Store } from "../ports/index.ts";
import { ownActors } from "../own-actors.ts";
import type { NatsStore } from "../stores/nats/index.ts";
import { isKeyturnError, KeyturnError } from "../words/errors.ts";
import { FORMAT } from "../words/format.ts";
import { realWorld } from "../world.ts";
import { Console } from "./console.ts";
import { addNatsOptions, gather, jsonOption, type NatsFlags, natsOptionsOf, positive } from "./options.ts";
import { Failure, type Shell } from "./shell.ts";
import { withinWait } from "./wait.ts";

export interface TargetFlags extends NatsFlags {
  readonly data?: string;
  readonly session?: string;
  readonly actors?: readonly string[];
  readonly wait: number;
  readonly json?: boolean;
}

/** Where `keyturn dev` keeps everything, and where other commands look without being told where. */
export const DEV_FOLDER = ".keyturn";
const WAIT_S = 5;
/** Nodes that answer at all have answered by then. */
const TOLD_MS = 300;

export interface TargetNeeds {
  /** Whether actors are asked; false to look only. */
  readonly actors: boolean;
}

export interface Target {
  readonly store: Store;
  readonly settings: AppSettings;
  /** @throws Failure if nobody serves the actors */
  readonly client: Client;
  /** Whether a node serves the actors, as far as is known. */
  readonly isServed: boolean;
  close(): Promise<void>;
}

/** The options that say where, and `--json`. */
export function addTargetOptions(command: Command, needs: TargetNeeds = { actors: true }): Command {
  addNatsOptions(command)
    .addOption(
      new Option(
        "--session <name>",
        "first part of the names under which this client is answered, for users who may hear only those",
      ).env("KEYTURN_NATS_SESSION"),
    )
    .addOption(dataOption());
  if (needs.actors)
    command.addOption(
      new Option(
        "--actors <module>",
        "with --data, if no node runs: run one with these actors for as long as the command takes",
      ).argParser(gather),
    );
  command.addOption(
    new Option("--wait <seconds>", "how long to wait for the server or the folder")
      .argParser(positive(true))
      .default(WAIT_S),
  );
  for (const option of command.options) option.helpGroup("Where the actors live:");
  command.hook("preAction", (_, action) => preferSaid(action));
  return command.addOption(jsonOption);
}

export function dataOption(): Option {
  return new Option(
    "--data <folder>",
    `the folder of an embedded store; ./${DEV_FOLDER} by default, if it is there`,
  ).env("KEYTURN_DATA");
}

/** What the command line says counts more than what the environment says about the other kind of place. */
export function preferSaid(command: Command): void {
  const isSaid = (name: string): boolean => command.getOptionValueSource(name) === "cli";
  if (isSaid("data") && !isSaid("nats")) command.setOptionValue("nats", undefined);
  else if (isSaid("nats") && !isSaid("data")) command.setOptionValue("data", undefined);
}

/**
 * Opens the target, runs something on it, and closes it whatever happens.
 * @throws Failure, KeyturnError
 */
export async function withTarget<T>(
  flags: TargetFlags,
  shell: Shell,
  needs: TargetNeeds,
  run: (target: Target) => Promise<T>,
): Promise<T> {
  const target = await openTarget(flags, shell, needs);
  try {
    return await run(target);
  } catch (error) {
    throw isKeyturnError(error, "unknown_type") ? await withHosted(error, target) : error;
  } finally {
    await target.close();
  }
}

/** Who named a type that nobody hosts is told which there are. */
async function withHosted(error: KeyturnError, { store }: Target): Promise<KeyturnError> {
  const members = await store.directory.members().catch(() => []);
  const hosted = new Set(members.flatMap(({ types }) => types));
  const own = new Set(ownActors.map(({ type }) => type));
  const types = [...hosted].filter((type) => !own.has(type)).sort();
  const [, type] = /"([^"]*)"/.exec(error.message) ?? [];
  if (type === undefined || hosted.has(type) || types.length === 0) return error;
  const text = `No node here hosts actors of the type "${type}". There are: ${types.slice(0, 20).join(", ")}${types.length > 20 ? ", …" : ""}.`;
  return new KeyturnError("unknown_type", text, { cause: error });
}

export async function openTarget(flags: TargetFlags, shell: Shell, needs: TargetNeeds): Promise<Target> {
  const { nats, json = false, wait, app } = flags;
  const console = new Console({
    name: app,
    json: false,
    stdout: shell.stdout,
    stderr: json ? silence : shell.stderr,
  });
  const folder = await folderOf(flags);
  const timing = { wait_ms: wait * 1_000, console };
  if (folder !== undefined)
    return await withinWait({ ...timing, where: folder }, () => openFolder(folder, flags, needs));
  if (nats === undefined) throw nowhere();
  const options = { ...natsOptionsOf(flags, shell.env), session: flags.session, name: "keyturn command" };
  return await withinWait({ ...timing, where: `NATS at ${nats.join(", ")}` }, async () => {
    const { natsClient } = await import("../stores/nats/index.ts");
    const store = await natsClient(options);
    return await closingOnFault(store, async () => await targetOf(store, await settingsOn(store), true));
  });
}

/**
 * Nodes tell what the app is, also those who may not read it from the server. They do not answer users who share the
 * nodes' inbox; but those may read it.
 */
async function settingsOn(store: NatsStore): Promise<AppSettings | undefined> {
  const told = store.settings();
  const answered = new AbortController();
  const read = sleep(TOLD_MS, undefined, { signal: answered.signal }).then(
    () => store.directory.settings().catch(() => told),
    () => told,
  );
  read.catch(() => undefined);
  told.catch(() => undefined);
  try {
    return await Promise.race([told, read]);
  } finally {
    answered.abort();
  }
}

/** Waiting for a folder is not worth a word: it is over in a moment, or the error says what there is to know. */
const silence = { write: () => true } as unknown as NodeJS.WritableStream;

async function openFolder(path: string, { actors }: TargetFlags, needs: TargetNeeds): Promise<Target> {
  if (!(await isStore(path))) {
    if (needs.actors && actors !== undefined) return await ownNode(path, await openStore(path), actors);
    throw new KeyturnError(
      "invalid_options",
      `There is no embedded store in ${path}. A node makes one: keyturn dev --data ${path} --actors MODULE.`,
    );
  }
  const { store, isServed } = await folderStore(path);
  if (isServed)
    return await closingOnFault(store, async () => targetOf(store, await store.directory.settings(), true));
  if (needs.actors && actors !== undefined) return await ownNode(path, store, actors);
  return await closingOnFault(
    store,
    async () => await targetOf(store, await store.directory.settings(), false),
  );
}

/**
 * The store in a folder: that of the process which has it open, through its socket, or else opened by this one.
 * @throws KeyturnError `store_locked` if another has it open that does not serve it
 */
export async function folderStore(path: string): Promise<{ store: Store; isServed: boolean }> {
  const { socketStore } = await import("../stores/socket/index.ts");
  const served = await socketStore(path).catch((error: unknown) => {
    if (isKeyturnError(error, "unreachable")) return undefined;
    throw error;
  });
  if (served !== undefined) return { store: served, isServed: true };
  try {
    return { store: await openStore(path), isServed: false };
  } catch (cause) {
    if (!isKeyturnError(cause, "store_locked")) throw cause;
    const text = `${cause.message} That process does not serve other commands: nodes of "keyturn start" and "keyturn dev" do, and programs that call serveStore(store, folder).`;
    throw new KeyturnError("store_locked", text, { cause });
  }
}

/** The folder that a command works on: the one that is said or, if no server is, that of `keyturn dev`. */
export async function folderOf({
  data,
  nats,
}: Pick<TargetFlags, "data" | "nats">): Promise<string | undefined> {
  if (data !== undefined && nats !== undefined)
    throw new KeyturnError("invalid_options", "Say --nats or --data, not both.");
  return data ?? (nats === undefined && (await isStore(DEV_FOLDER)) ? DEV_FOLDER : undefined);
}

/** Nothing says where the actors live. */
export function nowhere(): KeyturnError {
  return new KeyturnError(
    "invalid_options",
    "Say where the actors live: --nats HOST:PORT on a NATS server, or --data FOLDER on this machine; or begin here: keyturn dev --actors MODULE.",
  );
}

// What is loaded only where it is needed, here and below: see commands/index.ts.
async function openStore(path: string): Promise<Store> {
  const { embedded } = await import("../stores/embedded/index.ts");
  return await embedded({ path });
}

async function ownNode(path: string, store: Store, modules: readonly string[]): Promise<Target> {
  return await closingOnFault(store, async () => {
    const [{ startNode }, { loadActors }] = await Promise.all([import("../node.ts"), import("./actors.ts")]);
    const node = await startNode({ actors: await loadActors(modules), store });
    const settings = await store.directory.settings();
    if (settings === undefined) throw new Failure(`There is no app in ${path}.`);
    return { store, settings, client: node.client, isServed: true, close: () => node.stop() };
  });
}

async function targetOf(store: Store, settings: AppSettings | undefined, isServed: boolean): Promise<Target> {
  const { Client: TheClient } = await import("../client/client.ts");
  const { description } = store;
  if (settings === undefined) {
    throw new KeyturnError(
      "not_provisioned",
      `There is no app in ${description}: no node was ever started on it.`,
    );
  }
  if (settings.format !== FORMAT) {
    throw new KeyturnError(
      "app_mismatch",
      `The app is in format ${settings.format}, this runtime reads ${FORMAT}. Use the version of Keyturn that its nodes have.`,
    );
  }
  let client: Client | undefined;
  return {
    store,
    settings,
    isServed,
    get client() {
      if (!isServed) {
        throw new Failure(
          `No node runs on ${description}. Start one (keyturn start or keyturn dev, with --data and --actors), or add --actors MODULE to have this command run one for as long as it takes.`,
        );
      }
      client ??= new TheClient(store, realWorld, settings.shards);
      return client;
    },
    close: async () => {
      client?.close();
      await store.close();
    },
  };
}

async function closingOnFault<T>(store: Store, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    await store.close().catch(() => undefined);
    throw error;
  }
}

export async function isStore(path: string): Promise<boolean> {
  return await stat(join(path, "data", "data.mdb")).then(
    (file) => file.isFile(),
    () => false,
  );
}
