/**
 * `keyturn provision`: makes what an app needs on a NATS server, and says what was there and what was made.
 *
 * Talks to the NATS store. Doing it again changes nothing, so it may stand before every start.
 */
import type { Command } from "commander";
import { FORMAT, SHARDS_DEFAULT } from "../../node.ts";
import {
  natsClient,
  type NatsOptions,
  provisionNats,
  type ProvisionReport,
} from "../../stores/nats/index.ts";
import { isKeyturnError } from "../../words/errors.ts";
import { Console } from "../console.ts";
import {
  addNatsOptions,
  addStreamOptions,
  jsonOption,
  type NatsFlags,
  natsOptionsOf,
  waitOption,
} from "../options.ts";
import { DONE, type Shell } from "../shell.ts";
import { withinWait } from "../wait.ts";

interface ProvisionFlags extends NatsFlags {
  readonly shards?: number;
  readonly wait: number;
  readonly json?: boolean;
}

export function addProvision(program: Command, shell: Shell): void {
  const command = program
    .command("provision")
    .summary("make what an app needs on a NATS server")
    .description("Makes the streams and buckets of an app. What is there already stays as it is.");
  addStreamOptions(addNatsOptions(command))
    .addOption(waitOption)
    .addOption(jsonOption)
    .addHelpText("after", "\nExample:\n  keyturn provision --nats 127.0.0.1:4222 --replicas 3")
    .action(async (flags: ProvisionFlags) => shell.exit(await provision(flags, shell)));
}

async function provision(flags: ProvisionFlags, shell: Shell): Promise<number> {
  const options = natsOptionsOf(flags, shell.env);
  const console = new Console({
    name: flags.app,
    json: flags.json ?? false,
    stdout: shell.stdout,
    stderr: shell.stderr,
  });
  const report = await withinWait(
    { wait_ms: flags.wait * 1_000, where: `NATS at ${flags.nats?.join(", ")}`, console },
    async () => {
      // Without a number it is what the app has, if there is one.
      const shards = flags.shards ?? (await shardsOf(options)) ?? SHARDS_DEFAULT;
      return await provisionNats(options, { shards, format: FORMAT });
    },
  );
  if (flags.json) shell.stdout.write(`${JSON.stringify({ event: "provisioned", ...report })}\n`);
  else shell.stdout.write(textOf(report));
  return DONE;
}

async function shardsOf(options: NatsOptions): Promise<number | undefined> {
  const store = await natsClient(options);
  try {
    return (await store.settings())?.shards;
  } catch (error) {
    if (isKeyturnError(error, "not_provisioned")) return undefined;
    throw error;
  } finally {
    await store.close();
  }
}

function textOf({ app, streams, settings, made }: ProvisionReport): string {
  const width = Math.max(...streams.map(({ stream }) => stream.length));
  const lines = streams.map(({ stream, replicas, made: isNew }) => {
    const copies = `${replicas} replica${replicas === 1 ? "" : "s"}`;
    return `  ${stream.padEnd(width)}  ${copies}, ${isNew ? "made" : "was there"}`;
  });
  const what = `The app "${app}" ${made ? "is made" : "was there"}: ${settings.shards} shards, format ${settings.format}.`;
  return `${[what, ...lines].join("\n")}\n`;
}
