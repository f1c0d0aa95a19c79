/**
 * A Chromium for browser tests: CHROMIUM_BIN, then PATH, then the distribution's own headless shell, fetched once per
 * checkout into node_modules/.cache without root, as nats-server is.
 *
 * Owns the search and one private apt run, which fetches the package and those of its libraries that the machine lacks
 * (some 85 MB), and unpacks them side by side. Talks to apt-get and dpkg-deb.
 *
 * Invariants:
 * 1. What is answered has been run and has said its version.
 * 2. Processes that search at once do not disturb each other: the result is put in place by one rename.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { aptConfig, codename, distributionSources } from "./nats-apt.ts";
import { projectFolder } from "./nats-binary.ts";
import { run } from "./nats-run.ts";

export interface Chromium {
  readonly path: string;
  readonly version: string;
  /** What its process needs besides the variables of this one. */
  readonly env: Readonly<Record<string, string>>;
}

const NAMES = ["chromium", "chromium-browser", "google-chrome", "chromium-headless-shell"];
/** The headless shell is a third smaller than the whole browser; the fonts are for machines that have none. */
const PACKAGES = ["chromium-headless-shell", "fonts-dejavu-core"];
const FETCH_MS = 240_000;

let found: Promise<Chromium> | undefined;

/** The browser of this process, searched for once. @throws Error with what was tried */
export function chromium(onFetch?: () => void): Promise<Chromium> {
  found ??= find(onFetch);
  return found;
}

async function find(onFetch: (() => void) | undefined): Promise<Chromium> {
  const { CHROMIUM_BIN, PATH = "" } = process.env;
  const failures: string[] = [];
  const consider = async (path: string, env: Chromium["env"] = {}): Promise<Chromium | undefined> => {
    try {
      const args = ["--version", "--no-sandbox"];
      const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
      const text = await run("env", [...variables, path, ...args], { timeout_ms: 20_000 });
      const [, version] = /([\d.]{5,})/.exec(text) ?? [];
      if (version !== undefined) return { path, version, env };
      failures.push(`${path} says no version`);
    } catch (error) {
      failures.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
    return undefined;
  };
  const given = CHROMIUM_BIN === undefined ? [] : [CHROMIUM_BIN];
  const onPath = PATH.split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name)));
  for (const path of [...given, ...onPath.filter(existsSync)]) {
    const browser = await consider(path);
    if (browser !== undefined) return browser;
  }
  const cache = join(projectFolder(), "node_modules", ".cache", "keyturn", "chromium");
  if (!existsSync(cache)) {
    onFetch?.();
    try {
      await fetchInto(cache);
    } catch (error) {
      failures.push(`the distribution's packages: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const browser = existsSync(cache) ? await consider(...placesIn(cache)) : undefined;
  if (browser !== undefined) return browser;
  throw new Error(
    `There is no Chromium: ${failures.join("; ")}. Install one (apt install chromium), or name it: CHROMIUM_BIN=/path/to/chromium.`,
  );
}

async function fetchInto(cache: string): Promise<void> {
  const parent = join(cache, "..");
  mkdirSync(parent, { recursive: true });
  const place = mkdtempSync(join(parent, "fetching-"));
  try {
    const [source] = distributionSources("/etc/apt");
    const [suite] = codename();
    if (source === undefined || suite === undefined)
      throw new Error("/etc/apt names no source of the distribution's own packages");
    for (const name of ["parts", "lists/partial", "cache/archives/partial", "unpacked"])
      mkdirSync(join(place, name), { recursive: true });
    writeFileSync(join(place, "parts", `keyturn.${source.format}`), source.withSuite(suite));
    const config = join(place, "apt.conf");
    writeFileSync(config, `${aptConfig(place)}Debug::NoLocking "true";\n`);
    const apt = (...args: string[]): Promise<string> =>
      run("apt-get", ["-c", config, "--quiet", ...args], { cwd: place, timeout_ms: FETCH_MS });
    await apt("update");
    await apt("install", "--yes", "--download-only", "--no-install-recommends", ...PACKAGES);
    const archives = join(place, "cache", "archives");
    const unpacked = join(place, "unpacked");
    for (const file of readdirSync(archives).filter((name) => name.endsWith(".deb")))
      await run("dpkg-deb", ["-x", join(archives, file), unpacked], { timeout_ms: 60_000 });
    // Other searches may have been faster.
    if (!existsSync(cache)) renameSync(unpacked, cache);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** The program, and where its libraries and fonts lie. */
function placesIn(cache: string): [string, Chromium["env"]] {
  const lib = join(cache, "usr", "lib");
  const libraries = existsSync(lib)
    ? readdirSync(lib)
        .filter((name) => name.includes("linux-gnu"))
        .map((name) => join(lib, name))
    : [];
  const folders = libraries.flatMap((folder) => [folder, join(folder, "pulseaudio")]);
  const fonts = join(cache, "fonts.conf");
  writeFileSync(
    fonts,
    `<?xml version="1.0"?><fontconfig><include ignore_missing="yes">/etc/fonts/fonts.conf</include><dir>${join(cache, "usr", "share", "fonts")}</dir><cachedir>${join(cache, "font-cache")}</cachedir></fontconfig>`,
  );
  const env = { LD_LIBRARY_PATH: folders.join(delimiter), FONTCONFIG_FILE: fonts };
  return [join(lib, "chromium", "chromium-headless-shell"), env];
}
