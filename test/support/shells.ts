/**
 * zsh and fish for tests of completion: of PATH, or out of the distribution's own packages, fetched once per checkout
 * into node_modules/.cache without root, as Chromium is (some 8 MB).
 *
 * Owns the search. What is answered has been run.
 */
import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { aptCache, fetchedLibraries, fetchPackages } from "./apt-packages.ts";

const exec = promisify(execFile);
const CACHE = "shells";

/** Runs a script in a shell and resolves with what it prints. */
export type ShellRun = (script: string) => Promise<string>;

let fetching: Promise<void> | undefined;

function fetched(): Promise<void> {
  fetching ??= existsSync(aptCache(CACHE)) ? Promise.resolve() : fetchPackages(CACHE, ["zsh", "fish"]);
  return fetching;
}

async function find(
  name: string,
  own: () => {
    readonly path: string;
    readonly env: Readonly<Record<string, string>>;
    readonly setUp: string;
  },
): Promise<ShellRun> {
  const onPath = (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find(existsSync);
  let shell = { path: onPath ?? "", env: {}, setUp: "" };
  if (onPath === undefined) {
    await fetched();
    shell = own();
  }
  const { path, env, setUp } = shell;
  const flags = name === "zsh" ? ["-f"] : ["--no-config"];
  return async (script) => {
    const { stdout } = await exec(path, [...flags, "-c", `${setUp}${script}`], {
      env: { ...process.env, ...env },
    });
    return stdout;
  };
}

/** A zsh, without anybody's settings. */
export function zsh(): Promise<ShellRun> {
  return find("zsh", () => {
    const cache = aptCache(CACHE);
    const functions = join(cache, "usr", "share", "zsh", "functions");
    const folders = readdirSync(functions, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name));
    const modules = fetchedLibraries(CACHE).flatMap((folder) =>
      existsSync(join(folder, "zsh"))
        ? readdirSync(join(folder, "zsh")).map((version) => join(folder, "zsh", version))
        : [],
    );
    return {
      path: join(cache, "bin", "zsh"),
      env: { LD_LIBRARY_PATH: fetchedLibraries(CACHE).join(delimiter) },
      setUp: `module_path=(${modules.join(" ")})\nfpath=(${[functions, ...folders].join(" ")})\n`,
    };
  });
}

/** A fish, without anybody's settings. */
export function fish(): Promise<ShellRun> {
  return find("fish", () => ({
    path: join(aptCache(CACHE), "usr", "bin", "fish"),
    env: { LD_LIBRARY_PATH: fetchedLibraries(CACHE).join(delimiter) },
    setUp: "",
  }));
}
