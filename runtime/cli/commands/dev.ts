/**
 * `keyturn dev`: a node for whoever writes actors, on a folder of this machine; its actors are loaded again when a file
 * beside them changes.
 *
 * Owns the watch and the restarts. The store stays open and so does its socket: other commands are not cut off while the
 * node changes. New actors are loaded and checked first; those that cannot be loaded leave the old ones running.
 *
 *   | from      | to        | when
 *   | serving   | loading   | a file changed, and it was quiet for a moment
 *   | loading   | serving   | the modules are faulty: the old node goes on
 *   | loading   | switching | they are well: the node is stopped, another is started on the same store
 *   | switching | waiting   | it does not start: nothing is served until a file changes
 */
import { type Dirent, type FSWatcher, readdirSync, statSync, watch } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import type { HttpServer } from "../../http/index.ts";
import { type KeyturnNode, startNode } from "../../node.ts";
import type { Store } from "../../ports/index.ts";
import { embedded } from "../../stores/embedded/index.ts";
import { serveStore, type StoreServer } from "../../stores/socket/index.ts";
import { sourcesAmong } from "../../streams/sources/define.ts";
import { textOf } from "../../words/errors.ts";
import { type App, loadApp, readyMadeActors } from "../actors.ts";
import type { Console } from "../console.ts";
import { Observing } from "../observing.ts";
import { httpOf } from "../http.ts";
import { addLogOptions, consoleOf, type LogFlags } from "../logs.ts";
import { gather, type HostPort, hostPort, jsonOption } from "../options.ts";
import { Output } from "../output.ts";
import { DONE, type Shell, stopSignal } from "../shell.ts";
import { DEV_FOLDER, isStore } from "../target.ts";
import { withinWait } from "../wait.ts";

interface DevFlags extends LogFlags {
  readonly data: string;
  readonly actors?: readonly string[];
  readonly name: string;
  /** False for none. */
  readonly http: HostPort | false;
}

/** Editors write a file in several steps. */
const QUIET_MS = 80;
const WAIT_MS = 5_000;
const SOURCE = /\.(?:[cm]?[jt]sx?|json)$/;
/** Folders that are watched, at most. */
const FOLDERS_MAX = 1_000;
const IGNORED = new Set(["node_modules", "dist", "coverage", ".git", DEV_FOLDER]);

export function addDev(program: Command, shell: Shell): void {
  const command = program
    .command("dev")
    .summary("run a node here, and load its actors again when they change")
    .description(
      `Runs a node in a folder of this machine, ./${DEV_FOLDER} by default, and loads its actors again when a file beside them changes. What the actors hold stays.`,
    )
    .addOption(
      new Option(
        "--actors <module>",
        "a module that exports actors; the ready-made ones by default",
      ).argParser(gather),
    )
    .addOption(
      new Option("--data <folder>", "keep everything in this folder").default(DEV_FOLDER).env("KEYTURN_DATA"),
    )
    .addOption(new Option("--name <name>", "name of the node").default("dev"))
    .addOption(
      new Option("--http <host:port>", "serve the actors and the dashboard there")
        .argParser(hostPort)
        .default({ host: "127.0.0.1", port: 8_080 }, "127.0.0.1:8080"),
    )
    .addOption(new Option("--no-http", "serve nothing over HTTP"))
    .addOption(jsonOption);
  addLogOptions(command)
    .addHelpText(
      "after",
      "\nOther commands in the same folder find it without being told where:\n  keyturn dev --actors ./actors.ts &\n  keyturn ask counter/home add by=1",
    )
    .action(async (flags: DevFlags) => shell.exit(await dev(flags, shell)));
}

async function dev(flags: DevFlags, shell: Shell): Promise<number> {
  const { data, name, actors } = flags;
  const stop = stopSignal(shell);
  const console = consoleOf(name, flags, shell);
  const first = await load(actors);
  if (!(await isStore(data))) await begin(data);
  // It is one process's only, and other commands reach it over its socket; power losses are not what is being tried here.
  const opening = { wait_ms: WAIT_MS, where: data, console, stop };
  const store = await withinWait(opening, () => embedded({ path: data, durability: "process" }));
  if (store === undefined) return DONE;
  const session = new Session(store, flags, console, new Output(shell, { json: false }));
  let server: StoreServer | undefined;
  try {
    await session.start(first);
    server = await serveStore(store, data).catch((error: unknown) => {
      console.note(`Other commands cannot reach this node: ${textOf(error)}`, "warn");
      return undefined;
    });
    await session.follow(stop);
  } finally {
    await server?.close();
    await session.stop();
    await store.close();
  }
  console.say("stopped", { graceful: true }, "Stopped.");
  return DONE;
}

/** The folder is not for version control. */
async function begin(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(resolve(folder, ".gitignore"), "*\n", { flag: "wx" }).catch(() => undefined);
}

async function load(modules: readonly string[] | undefined): Promise<App> {
  return modules === undefined
    ? { actors: await readyMadeActors() }
    : await loadApp(modules, process.cwd(), true);
}

class Session {
  readonly #store: Store;
  readonly #flags: DevFlags;
  readonly #console: Console;
  readonly #output: Output;
  readonly #drained = new AbortController();
  #node: KeyturnNode | undefined;
  #http: HttpServer | undefined;

  constructor(store: Store, flags: DevFlags, console: Console, output: Output) {
    this.#store = store;
    this.#flags = flags;
    this.#console = console;
    this.#output = output;
  }

  async start({ actors, keep }: App): Promise<void> {
    const { name } = this.#flags;
    const observer = new Observing(
      this.#console,
      () => this.#node?.shards.length ?? 0,
      () => this.#drained.abort(),
    );
    // Shards that come and go with every start are no news.
    const quiet = { ...observer, shardServing: () => undefined, shardReleased: () => undefined };
    const sources = sourcesAmong(actors);
    this.#node = await startNode({ actors, sources, store: this.#store, name, observer: quiet, keep });
    this.#http = await this.#serve(this.#node);
    const types = actors.map(({ type, version, machine }) => ({
      type,
      version,
      events: [...machine.events].sort(),
    }));
    this.#console.say(
      "ready",
      { types, data: this.#flags.data, pid: process.pid, http: this.#http?.url },
      `Ready, in ${this.#flags.data}. It hosts:`,
    );
    if (!this.#flags.json) this.#list(types);
    observer.ready();
  }

  #list(types: readonly { type: string; version: number; events: readonly string[] }[]): void {
    const columns = [{ head: "type" }, { head: "version", right: true }, { head: "events" }];
    const rows = types.map(({ type, version, events }) => [
      type,
      `${version}`,
      events.filter((event) => !event.startsWith("xstate.")).join(", "),
    ]);
    this.#output.text(this.#output.tableText(columns, rows));
    if (this.#http !== undefined) this.#console.note(`Dashboard: ${this.#http.url}/dashboard/`);
  }

  /** A port that is taken, perhaps by another `dev`, is no reason not to run. */
  async #serve(node: KeyturnNode): Promise<HttpServer | undefined> {
    const { http } = this.#flags;
    const serve = http === false ? undefined : httpOf({ http }, {});
    if (serve === undefined) return undefined;
    try {
      const server: Promise<HttpServer> = serve(node, this.#console);
      return await server;
    } catch (error) {
      const text = textOf(error).replace(/\.?$/, ".");
      this.#console.note(`${text} Say another one: --http HOST:PORT.`, "warn");
      return undefined;
    }
  }

  async stop(): Promise<void> {
    const node = this.#node;
    await this.#http?.close();
    this.#http = undefined;
    this.#node = undefined;
    await node?.stop({ closeStore: false });
  }

  /** Loads and restarts with every change, until told to stop. */
  async follow(told: AbortSignal): Promise<void> {
    const { actors } = this.#flags;
    const stop = AbortSignal.any([told, this.#drained.signal]);
    const changes = new Changes(actors ?? []);
    try {
      while (!stop.aborted) {
        const file = await changes.next(stop);
        if (file === undefined) return;
        await this.#reload(file);
      }
    } finally {
      changes.close();
    }
  }

  async #reload(file: string): Promise<void> {
    let app: App;
    try {
      app = await load(this.#flags.actors);
    } catch (error) {
      const still = this.#node === undefined ? "" : " The actors that were loaded before go on.";
      this.#console.say("faulty", { file, reason: textOf(error) }, `${textOf(error)}${still}`, "error");
      return;
    }
    try {
      await this.stop();
      this.#console.say("reloaded", { file }, `${file} changed: the actors are loaded again.`);
      await this.start(app);
    } catch (error) {
      const text = `The node does not start: ${textOf(error)} It is tried again when a file changes.`;
      this.#console.say("faulty", { file, reason: textOf(error) }, text, "error");
    }
  }
}

/**
 * Changes of files in the folders of the modules, and below. Each folder is watched by itself: what watches whole trees
 * loses files that editors replace.
 */
class Changes {
  readonly #watchers = new Map<string, FSWatcher>();
  #changed: string | undefined;
  #wake: () => void = () => undefined;

  constructor(modules: readonly string[]) {
    const files = modules.filter((module) => /^[./]/.test(module) || SOURCE.test(module));
    for (const file of files) this.#follow(dirname(resolve(file)));
  }

  #follow(folder: string): void {
    if (this.#watchers.has(folder) || this.#watchers.size >= FOLDERS_MAX) return;
    let inner: Dirent[];
    try {
      const watcher = watch(folder, (_, name) => this.#noticed(folder, name));
      this.#watchers.set(folder, watcher);
      // A folder that is gone tells nothing more; the node goes on.
      watcher.on("error", () => this.#forget(folder));
      inner = readdirSync(folder, { withFileTypes: true });
    } catch {
      this.#forget(folder);
      return;
    }
    for (const entry of inner)
      if (entry.isDirectory() && !IGNORED.has(entry.name)) this.#follow(join(folder, entry.name));
  }

  #forget(folder: string): void {
    this.#watchers.get(folder)?.close();
    this.#watchers.delete(folder);
  }

  #noticed(folder: string, name: string | null): void {
    if (name === null || IGNORED.has(name)) return;
    const path = join(folder, name);
    if (!SOURCE.test(name)) {
      // A folder, perhaps, that was made just now.
      if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) this.#follow(path);
      return;
    }
    this.#changed = relative(process.cwd(), path);
    this.#wake();
  }

  /** The file that changed last, when it has been quiet for a moment. Undefined when told to stop. */
  async next(stop: AbortSignal): Promise<string | undefined> {
    while (this.#changed === undefined) {
      if (stop.aborted) return undefined;
      await new Promise<void>((done) => {
        this.#wake = done;
        stop.addEventListener("abort", () => done(), { once: true });
      });
    }
    let file: string;
    do {
      file = this.#changed as string;
      this.#changed = undefined;
      await sleep(QUIET_MS);
    } while (this.#changed !== undefined);
    return file;
  }

  close(): void {
    for (const watcher of this.#watchers.values()) watcher.close();
  }
}
