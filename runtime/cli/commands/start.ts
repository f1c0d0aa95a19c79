/**
 * `keyturn start`: runs one node in this process, or several in processes of their own.
 *
 * Owns the command's options and what signals mean. Talks to serve.ts and supervisor.ts.
 */
import { fork } from "node:child_process";
import { constants } from "node:os";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { NodeMetrics } from "../../engine/metrics.ts";
import type { Keep } from "../../engine/keep.ts";
import type { Telemetry } from "../../engine/telemetry.ts";
import { embedded } from "../../stores/embedded/index.ts";
import { nats } from "../../stores/nats/index.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { nodeDefaults, type NodeSettings } from "../../words/limits.ts";
import { realRandom } from "../../world.ts";
import { loadApp, readyMadeActors } from "../actors.ts";
import type { Console } from "../console.ts";
import { addLogOptions, consoleOf, type LogFlags } from "../logs.ts";
import { type HealthReport, serveHealth } from "../health-server.ts";
import { addHttpOptions, type HttpFlags, httpOf } from "../http.ts";
import {
  addNatsOptions,
  addStreamOptions,
  gather,
  type HostPort,
  hostPort,
  jsonOption,
  keepOf,
  type NatsFlags,
  natsOptionsOf,
  positive,
  whole,
} from "../options.ts";
import { serve, type ServeOptions } from "../serve.ts";
import type { Shell } from "../shell.ts";
import { type ChildMessage, type ParentMessage, Supervisor } from "../supervisor.ts";

interface StartFlags extends NatsFlags, HttpFlags, LogFlags {
  readonly data?: string;
  readonly actors?: readonly string[];
  readonly name?: string;
  readonly weight: number;
  readonly shards?: number;
  readonly processes?: number;
  readonly supervised?: string;
  readonly health?: HostPort;
  readonly telemetry?: number;
  readonly tracesPerSecond?: number;
  readonly set?: Partial<NodeSettings>;
  readonly keep?: Keep;
  readonly wait: number;
  readonly grace: number;
  readonly provision: boolean;
}

const PROCESSES_MAX = 256;
const WAIT_S = 30;
const GRACE_S = 25;
/** Megabytes of young generation; the default costs a quarter of the throughput at high load. */
const SEMI_SPACE = "--max-semi-space-size";
const SEMI_SPACE_MB = 64;
/** Of a name; its number is put behind it when there are several processes. */
const NAME = /^[A-Za-z0-9_-]{1,60}$/;

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

const HELP = `
Nodes of one app find each other on the server and share the actors out. SIGTERM and Ctrl-C hand them over and end
the process; a second signal ends it at once.

Examples:
  keyturn start --nats 127.0.0.1:4222 --actors ./my-actors.ts
  keyturn start --nats 127.0.0.1:4222 --processes 4 --health :8080
  keyturn start --data ./data --actors ./my-actors.ts --http 127.0.0.1:8080 --json`;

export function addStart(program: Command, shell: Shell): void {
  const command = program
    .command("start")
    .summary("run a node")
    .description(
      "Runs a node, or several, that host actors: on a NATS server, or in a folder of this machine.",
    );
  addNatsOptions(command);
  command
    .addOption(
      new Option("--data <folder>", "keep everything in this folder, without a server")
        .env("KEYTURN_DATA")
        .conflicts(["nats", "creds", "user", "monitor", "replicas", "processes"]),
    )
    .addOption(
      new Option(
        "--actors <module>",
        "a module that exports actors, TypeScript too; repeat it for more; the ready-made ones by default",
      ).argParser(gather),
    )
    .addOption(
      new Option("--name <name>", "name of the node, to be kept over restarts; drawn by default")
        .argParser(nodeName)
        .env("KEYTURN_NAME"),
    )
    .addOption(
      new Option("--weight <number>", "share of the shards beside the other nodes")
        .argParser(positive())
        .default(1),
    )
    .addOption(
      new Option("--processes <number>", "so many processes, each a node, restarted if they die").argParser(
        whole(1, PROCESSES_MAX),
      ),
    );
  addHttpOptions(command);
  addStreamOptions(command)
    .option("--no-provision", "make nothing on the server; wait until it is made")
    .addOption(
      new Option("--durability <word>", "what commits survive, if the server cannot be asked").choices([
        "fsync",
        "process",
      ]),
    )
    .option("--monitor <url>", "the server's monitoring address, to be asked what commits survive")
    .addOption(
      new Option(
        "--health <host:port>",
        "serve /livez, /readyz, /healthz and /metrics (for Prometheus) there",
      )
        .argParser(hostPort)
        .env("KEYTURN_HEALTH"),
    )
    .addOption(
      new Option(
        "--telemetry <share>",
        "give traces and metrics to the OpenTelemetry that NODE_OPTIONS=--import=FILE sets up; begin this share of the traces, 0 to 1",
      )
        .argParser(share)
        .env("KEYTURN_TELEMETRY"),
    )
    .addOption(
      new Option(
        "--traces-per-second <number>",
        "begin so many traces a second at most; 100 by default",
      ).argParser(positive()),
    )
    .addOption(
      new Option("--set <name=value>", `change a bound: ${Object.keys(nodeDefaults).join(", ")}`).argParser(
        setting,
      ),
    )
    .addOption(
      new Option(
        "--keep <age|bytes|forever>",
        'how much of the journal is kept: "30 days", 10GB, "30 days,10GB" or forever; what the module exports as keep by default',
      )
        .argParser(keepOf)
        .env("KEYTURN_KEEP"),
    )
    .addOption(
      new Option("--wait <seconds>", "how long to wait for the store")
        .argParser(positive(true))
        .default(WAIT_S),
    )
    .addOption(
      new Option("--grace <seconds>", "how long stopping may take").argParser(positive()).default(GRACE_S),
    )
    .addOption(jsonOption);
  addLogOptions(command)
    .addOption(new Option("--supervised <name>").hideHelp())
    .addHelpText("after", HELP)
    .action(async (flags: StartFlags) => shell.exit(await start(flags, shell)));
}

async function start(flags: StartFlags, shell: Shell): Promise<number> {
  const name = flags.supervised ?? flags.name ?? realRandom.id();
  const { env } = shell;
  const console = consoleOf(name, flags, shell);
  const store = storeOf(name, flags, env);
  const http = httpOf(flags, env, placeOf(flags.supervised));
  const stop = new AbortController();
  if (flags.supervised === undefined && flags.processes !== undefined)
    return await superviseAll(name, flags.processes, flags, shell, console, stop);

  const node = await nodeOf(name, flags);
  const timing = { wait_ms: flags.wait * 1_000, grace_ms: flags.grace * 1_000 };
  const options = { ...store, ...timing, node, http };
  if (flags.supervised !== undefined)
    return await serveSupervised(options, flags.health !== undefined, console, stop);

  let health: HealthReport = { live: true, ready: false };
  onSignals(stop, console, () => undefined);
  let metrics: () => readonly NodeMetrics[] = () => [];
  const server =
    flags.health === undefined
      ? undefined
      : await serveHealth(
          flags.health,
          () => health,
          () => metrics(),
        );
  try {
    return await serve({ ...options, health: server?.url }, console, stop.signal, {
      onHealth: (found) => (health = found),
      onMetrics: (read) => (metrics = () => [read()]),
      onReady: () => undefined,
    });
  } finally {
    await server?.close();
  }
}

// ---- Several processes ----------------------------------------------------------------------------------------------

async function superviseAll(
  name: string,
  count: number,
  flags: StartFlags,
  shell: Shell,
  console: Console,
  stop: AbortController,
): Promise<number> {
  const rest = shell.args.slice(shell.args.indexOf("start") + 1);
  const program = process.argv[1] as string;
  const supervisor = new Supervisor(
    {
      names: Array.from({ length: count }, (_, n) => `${name}-${n + 1}`),
      grace_ms: flags.grace * 1_000,
      start: (child) =>
        fork(program, ["start", "--supervised", child, ...rest], {
          // What the operator says comes later, and so counts.
          execArgv: [
            ...(shell.env.NODE_OPTIONS?.includes(SEMI_SPACE) ? [] : [`${SEMI_SPACE}=${SEMI_SPACE_MB}`]),
            ...process.execArgv,
          ],
        }),
    },
    console,
  );
  onSignals(stop, console, () => supervisor.kill());
  const server =
    flags.health === undefined
      ? undefined
      : await serveHealth(
          flags.health,
          () => supervisor.health,
          () => supervisor.metrics,
        );
  if (server !== undefined) console.note(`Health of all processes: ${server.url}/healthz`);
  try {
    return await supervisor.run(stop.signal);
  } finally {
    await server?.close();
  }
}

/** A child of a supervisor: the same node; it is told to stop over the channel, and says there how it is. */
async function serveSupervised(
  options: ServeOptions,
  metered: boolean,
  console: Console,
  stop: AbortController,
): Promise<number> {
  const tell = (message: ChildMessage): void => {
    if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
  };
  process.on("message", (message: ParentMessage) => {
    if (message.kind === "stop") stop.abort();
  });
  let read: (() => NodeMetrics) | undefined;
  // Without its supervisor nobody would end it.
  process.once("disconnect", () => stop.abort());
  if (!process.connected) stop.abort();
  // A terminal sends it to everybody; the supervisor passes it on.
  process.on("SIGINT", () => undefined);
  process.on("SIGTERM", () => stop.abort());
  try {
    const code = await serve(options, console, stop.signal, {
      onHealth: (health) => tell({ kind: "health", health, metrics: read?.() }),
      onMetrics: (reader) => {
        if (metered) read = reader;
      },
      onReady: () => tell({ kind: "ready" }),
    });
    if (!stop.signal.aborted) tell({ kind: "left" });
    return code;
  } finally {
    // An open channel keeps a process alive.
    if (process.connected) process.disconnect();
  }
}

// ---- From options ---------------------------------------------------------------------------------------------------

function storeOf(
  name: string,
  flags: StartFlags,
  env: NodeJS.ProcessEnv,
): Pick<ServeOptions, "open" | "where" | "folder"> {
  const { data, durability } = flags;
  if (data !== undefined) {
    return {
      where: data,
      folder: data,
      open: () => embedded({ path: data, ...(durability === undefined ? {} : { durability }) }),
    };
  }
  if (flags.nats === undefined) {
    throw new KeyturnError(
      "invalid_options",
      "Say where the actors live: --nats HOST:PORT on a NATS server, or --data FOLDER on this machine alone.",
    );
  }
  const options = { ...natsOptionsOf(flags, env), provision: flags.provision, name: `keyturn node ${name}` };
  return {
    where: `NATS at ${flags.nats.join(", ")}`,
    open: async (troubled) => {
      const store = await nats(options);
      store.onTrouble(troubled);
      return store;
    },
  };
}

async function nodeOf(
  name: string,
  { actors: modules, weight, shards, set, telemetry, tracesPerSecond, keep }: StartFlags,
): Promise<ServeOptions["node"]> {
  const app = modules === undefined ? { actors: await readyMadeActors() } : await loadApp(modules);
  return {
    ...app,
    ...(keep === undefined ? {} : { keep }),
    name,
    weight,
    ...(shards === undefined ? {} : { shards }),
    ...(set === undefined ? {} : { settings: set }),
    ...(telemetry === undefined ? {} : { telemetry: await openTelemetry(telemetry, tracesPerSecond) }),
  };
}

/** Which of several processes it is, from 0. */
function placeOf(supervised: string | undefined): number {
  const [, digits] = /-(\d+)$/.exec(supervised ?? "") ?? [];
  return digits === undefined ? 0 : Number(digits) - 1;
}

/** Loaded only if it is wanted: OpenTelemetry's API may be missing. */
async function openTelemetry(sample: number, perSecond: number | undefined): Promise<Telemetry> {
  const { telemetry } = await import("../../telemetry/otel.ts").catch((cause: unknown) => {
    const text = `--telemetry needs the package @opentelemetry/api: ${textOf(cause)}`;
    throw new KeyturnError("invalid_options", text, { cause });
  });
  return telemetry({ sample, ...(perSecond === undefined ? {} : { perSecond }) });
}

function share(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && value >= 0 && value <= 1) return value;
  throw new InvalidArgumentError("It is a number from 0 to 1.");
}

function nodeName(text: string): string {
  if (NAME.test(text)) return text;
  throw new InvalidArgumentError('It is up to 60 letters, digits, "_" or "-".');
}

function setting(text: string, before: Partial<NodeSettings> | undefined): Partial<NodeSettings> {
  const [, name, value] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError("It is NAME=VALUE.");
  if (!Object.hasOwn(nodeDefaults, name)) {
    throw new InvalidArgumentError(`The bounds are ${Object.keys(nodeDefaults).join(", ")}.`);
  }
  return { ...before, [name]: positive()(value) };
}

/** The first signal asks to stop, the second one ends the process at once. */
function onSignals(stop: AbortController, console: Console, atOnce: () => void): void {
  for (const name of SIGNALS) {
    process.on(name, () => {
      if (!stop.signal.aborted) {
        stop.abort();
        return;
      }
      console.note("Ended at once.");
      atOnce();
      process.exit(128 + constants.signals[name]);
    });
  }
}
