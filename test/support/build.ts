/**
 * The package as it is after `npm run build`, for tests that start its programs as processes; and the dashboard's page.
 *
 * Each is built once a run, by the first file that wants it; the other files, also those that run at the same time, wait
 * for it. The package lies in a folder that the global setup names and removes, the page in dist/, where sources look for
 * it. Nobody else writes into them.
 */
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../..", import.meta.url));
const VARIABLE = "KEYTURN_TEST_BUILD";
/** How long another file's build may take. */
const PATIENCE_MS = 110_000;

/** Names the folder, for all test files of this run. Returns what removes it. Each of vitest's projects asks. */
export async function prepareBuild(): Promise<() => Promise<void>> {
  if (process.env[VARIABLE] !== undefined) return () => Promise.resolve();
  const folder = await mkdtemp(join(tmpdir(), "keyturn-build-"));
  process.env[VARIABLE] = folder;
  return () => rm(folder, { recursive: true, force: true });
}

let built: Promise<string> | undefined;
let page: Promise<string> | undefined;

/** The folder of the built package. */
export function builtPackage(): Promise<string> {
  built ??= onceARun("package", buildInto);
  return built;
}

/** Sees to it that servers have the dashboard's page as it is now. */
export async function builtDashboard(): Promise<void> {
  page ??= onceARun("dashboard", async () => {
    await promisify(execFile)(process.execPath, [join(root, "runtime/dashboard/build.mjs")]);
  });
  await page;
}

/** @returns the run's folder, when the work has been done by this file or by another */
async function onceARun(name: string, work: (folder: string) => Promise<void>): Promise<string> {
  const folder = process.env[VARIABLE];
  if (folder === undefined) throw new Error(`${VARIABLE} is not set; vitest's global setup does it.`);
  const [begun, done, failed] = ["begun", "done", "failed"].map((what) =>
    join(folder, `${name}.${what}`),
  ) as [string, string, string];
  if (await isMine(begun)) {
    try {
      await work(folder);
      await writeFile(done, "");
    } catch (error) {
      await writeFile(failed, "");
      throw error;
    }
    return folder;
  }
  for (const started = performance.now(); !(await exists(done)); await wait(50)) {
    if (await exists(failed)) throw new Error(`Another test file could not build the ${name}.`);
    if (performance.now() - started > PATIENCE_MS) throw new Error(`The ${name} is not built in time.`);
  }
  return folder;
}

/** Whether this is the first to ask: only one can make a folder. */
async function isMine(begun: string): Promise<boolean> {
  try {
    await mkdir(begun);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Makes of a folder what a clone is after `npm run build`. */
async function buildInto(folder: string): Promise<void> {
  await cp(join(root, "package.json"), join(folder, "package.json"));
  // Also the sources of the examples' pages, which are bundled when an example starts, and the server's configuration.
  for (const name of ["node_modules", "examples", "nats.conf"])
    await symlink(join(root, name), join(folder, name), "junction");
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  // Types are checked elsewhere; this is about what runs.
  const options = [
    "--incremental",
    "false",
    "--noCheck",
    "--noEmitOnError",
    "false",
    "--declaration",
    "false",
  ];
  const maps = ["--sourceMap", "false", "--inlineSources", "false"];
  const args = [tsc, "-p", "tsconfig.build.json", "--outDir", join(folder, "dist"), ...options, ...maps];
  await promisify(execFile)(process.execPath, args, { cwd: root });
}
