/**
 * The nats-server program that tests, benches and the chaos run start.
 *
 * Owns the search: NATS_SERVER_BIN, then PATH, then the distribution's packages, which are fetched once per checkout
 * into node_modules/.cache. Talks to nothing of the runtime and to no test framework.
 *
 * Invariants:
 * 1. What is answered has been run and has said a version that is new enough. What is passed over is named in `notes`.
 * 2. Processes that search at once do not disturb each other: each fetches into a folder of its own, and the result is
 *    put in place by one rename.
 */
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fetchFromApt } from "./nats-apt.ts";
import { run } from "./nats-run.ts";

/** The oldest server that Keyturn works with. */
const oldest = [2, 12] as const;

export interface ServerBinary {
  readonly path: string;
  readonly version: string;
  /** Servers that were passed over, and why. */
  readonly notes: readonly string[];
}

export interface SearchOptions {
  /** Variables to look into instead of the process's own. */
  readonly env?: { readonly NATS_SERVER_BIN?: string | undefined; readonly PATH?: string | undefined };
  /** Where a fetched server is kept, instead of the checkout's node_modules/.cache. */
  readonly cache?: string;
  /** Where apt's sources are described, instead of /etc/apt. */
  readonly aptSources?: string;
  /** Told before something slow is begun. */
  readonly onFetch?: () => void;
}

let found: Promise<ServerBinary> | undefined;

/** The server of this process, searched for once. */
export function serverBinary(): Promise<ServerBinary> {
  found ??= findServer();
  return found;
}

export async function findServer(options: SearchOptions = {}): Promise<ServerBinary> {
  const env = options.env ?? process.env;
  const cache = options.cache ?? join(projectFolder(), "node_modules", ".cache", "keyturn", "nats-server");
  const cached = join(cache, "nats-server");
  const notes: string[] = [];
  const absent: string[] = [];
  const consider = async (path: string, from: string): Promise<ServerBinary | undefined> => {
    const { version, fault } = await probe(path);
    if (fault === undefined) return { path, version, notes };
    notes.push(`${from}: ${path} ${fault}`);
    return undefined;
  };

  if (env.NATS_SERVER_BIN) {
    const server = await consider(env.NATS_SERVER_BIN, "NATS_SERVER_BIN");
    if (server !== undefined) return server;
  } else {
    absent.push("NATS_SERVER_BIN: not set");
  }
  const onPath = (env.PATH ?? "").split(delimiter).filter(Boolean).map(inFolder).filter(isExecutable);
  if (onPath.length === 0) absent.push("PATH: no nats-server");
  for (const path of onPath) {
    const server = await consider(path, "PATH");
    if (server !== undefined) return server;
  }
  if (existsSync(cached)) {
    const server = await consider(cached, "fetched earlier");
    if (server !== undefined) return server;
  }
  options.onFetch?.();
  mkdirSync(cache, { recursive: true });
  const staging = mkdtempSync(join(cache, "fetching-"));
  try {
    const accepts = async (path: string): Promise<boolean> => (await consider(path, "apt")) !== undefined;
    const binary = await fetchFromApt(staging, accepts, { sources: options.aptSources, path: env.PATH });
    renameSync(binary, cached);
    const server = await consider(cached, "apt");
    if (server !== undefined) return server;
  } catch (error) {
    notes.push(`the distribution's packages: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
  throw new Error(howToGetOne([...absent, ...notes]));
}

/** The version in what `nats-server --version` prints, if that is what it prints. */
export function parseVersion(text: string): readonly [number, number, number] | undefined {
  const parts = /^nats-server: v(\d+)\.(\d+)\.(\d+)/m.exec(text);
  return parts === null ? undefined : [Number(parts[1]), Number(parts[2]), Number(parts[3])];
}

async function probe(path: string): Promise<{ version: string; fault?: string }> {
  let text: string;
  try {
    text = await run(path, ["--version"], { timeout_ms: 10_000 });
  } catch (error) {
    return {
      version: "",
      fault: `cannot be run (${error instanceof Error ? error.message : String(error)})`,
    };
  }
  const parsed = parseVersion(text);
  if (parsed === undefined) return { version: "", fault: "does not say a version as nats-server does" };
  const version = parsed.join(".");
  const [major, minor] = parsed;
  if (major > oldest[0] || (major === oldest[0] && minor >= oldest[1])) return { version };
  return { version, fault: `is version ${version}, which is too old` };
}

function howToGetOne(notes: readonly string[]): string {
  return `There is no nats-server ${oldest.join(".")} or newer, and what is to be run needs one.
Looked for in:
${notes.map((note) => `  - ${note}`).join("\n")}
Get one in any of these ways, and run this again:
  - macOS: brew install nats-server
  - Debian 14 or newer: apt install nats-server
  - docker: docker create --name nats nats:2.14 && docker cp nats:/nats-server . && docker rm nats
  - anywhere: unpack a release of nats-io/nats-server on GitHub
and put it on PATH, or name it: NATS_SERVER_BIN=/path/to/nats-server`;
}

/** The checkout: this module runs from test/support or from dist/test/support. */
export function projectFolder(): string {
  let folder = import.meta.dirname;
  for (;;) {
    const description = join(folder, "package.json");
    if (existsSync(description) && /"name": "keyturn"/.test(readFileSync(description, "utf8"))) return folder;
    const parent = dirname(folder);
    if (parent === folder) throw new Error("This module does not lie in a checkout of Keyturn.");
    folder = parent;
  }
}

function inFolder(folder: string): string {
  return join(folder, "nats-server");
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
