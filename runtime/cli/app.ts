/**
 * Opening the app that a command reads: on a NATS server, or in a folder that no node has open.
 *
 * Owns the checks that there is one. Nothing is made or claimed.
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { FORMAT } from "../node.ts";
import type { Store } from "../ports/index.ts";
import { embedded } from "../stores/embedded/index.ts";
import { nats } from "../stores/nats/index.ts";
import { isKeyturnError, KeyturnError } from "../words/errors.ts";
import { Console } from "./console.ts";
import { type NatsFlags, natsOptionsOf } from "./options.ts";
import { Failure, type Shell } from "./shell.ts";
import { withinWait } from "./wait.ts";

export interface AppFlags extends NatsFlags {
  readonly data?: string;
  readonly wait: number;
  readonly json?: boolean;
}

/**
 * Opens the store of an app.
 * @param name who asks, as the server shows it
 */
export async function openApp(flags: AppFlags, shell: Shell, name: string): Promise<Store> {
  const { data, json = false, wait } = flags;
  if (data !== undefined) return await openFolder(data);
  if (flags.nats === undefined) {
    throw new KeyturnError(
      "invalid_options",
      "Say where the actors live: --nats HOST:PORT on a NATS server, or --data FOLDER on this machine. It is .keyturn for those of keyturn dev, once it has ended.",
    );
  }
  const options = { ...natsOptionsOf(flags, shell.env), provision: false, name };
  const console = new Console({ name: flags.app, json, stdout: shell.stdout, stderr: shell.stderr });
  const where = `NATS at ${flags.nats.join(", ")}`;
  return await withinWait({ wait_ms: wait * 1_000, where, console }, () => nats(options));
}

async function openFolder(path: string): Promise<Store> {
  // To open one that is none would make one.
  const isStore = await stat(join(path, "data", "data.mdb")).then(
    (file) => file.isFile(),
    () => false,
  );
  if (!isStore) throw new KeyturnError("invalid_options", `There is no embedded store in ${path}.`);
  try {
    return await embedded({ path });
  } catch (cause) {
    if (!isKeyturnError(cause, "store_locked")) throw cause;
    throw new Failure(`${cause.message} A folder can be checked while no node has it open.`, { cause });
  }
}

/** Shards of the app in a store. */
export async function shardsIn(store: Store): Promise<number> {
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
