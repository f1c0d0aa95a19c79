/**
 * Programs out of the distribution's own packages, for this checkout only: no root, nothing of the system changed.
 *
 * Owns one private apt run, which fetches packages and those of their libraries that the machine lacks, and unpacks them
 * side by side. Talks to apt-get and dpkg-deb.
 *
 * Invariant: processes that fetch at once do not disturb each other: the result is put in place by one rename.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { aptConfig, codename, distributionSources } from "./nats-apt.ts";
import { projectFolder } from "./nats-binary.ts";
import { run } from "./nats-run.ts";

const FETCH_MS = 240_000;

/** Where what was fetched under a name lies, whether it is there or not. */
export function aptCache(name: string): string {
  return join(projectFolder(), "node_modules", ".cache", "keyturn", name);
}

/** Fetches packages into `aptCache(name)`, as the tree that they would be on the machine. */
export async function fetchPackages(name: string, packages: readonly string[]): Promise<void> {
  const cache = aptCache(name);
  const parent = join(cache, "..");
  mkdirSync(parent, { recursive: true });
  const place = mkdtempSync(join(parent, "fetching-"));
  try {
    const [source] = distributionSources("/etc/apt");
    const [suite] = codename();
    if (source === undefined || suite === undefined)
      throw new Error("/etc/apt names no source of the distribution's own packages");
    for (const folder of ["parts", "lists/partial", "cache/archives/partial", "unpacked"])
      mkdirSync(join(place, folder), { recursive: true });
    writeFileSync(join(place, "parts", `keyturn.${source.format}`), source.withSuite(suite));
    const config = join(place, "apt.conf");
    writeFileSync(config, `${aptConfig(place)}Debug::NoLocking "true";\n`);
    const apt = (...args: string[]): Promise<string> =>
      run("apt-get", ["-c", config, "--quiet", ...args], { cwd: place, timeout_ms: FETCH_MS });
    await apt("update");
    await apt("install", "--yes", "--download-only", "--no-install-recommends", ...packages);
    const archives = join(place, "cache", "archives");
    const unpacked = join(place, "unpacked");
    for (const file of readdirSync(archives).filter((one) => one.endsWith(".deb")))
      await run("dpkg-deb", ["-x", join(archives, file), unpacked], { timeout_ms: 60_000 });
    // Others may have been faster.
    if (!existsSync(cache)) renameSync(unpacked, cache);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** Folders of the libraries that were fetched, for LD_LIBRARY_PATH. */
export function fetchedLibraries(name: string): readonly string[] {
  const lib = join(aptCache(name), "usr", "lib");
  if (!existsSync(lib)) return [];
  return readdirSync(lib)
    .filter((folder) => folder.includes("linux-gnu"))
    .map((folder) => join(lib, folder));
}
