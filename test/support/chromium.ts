/**
 * A Chromium for browser tests: CHROMIUM_BIN, then PATH, then the distribution's own headless shell, fetched once per
 * checkout into node_modules/.cache without root, as nats-server is.
 *
 * Owns the search; what is fetched (apt-packages.ts) is some 85 MB.
 *
 * Invariant: what is answered has been run and has said its version.
 */
import { existsSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { aptCache, fetchedLibraries, fetchPackages } from "./apt-packages.ts";
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
  const cache = aptCache("chromium");
  if (!existsSync(cache)) {
    onFetch?.();
    try {
      await fetchPackages("chromium", PACKAGES);
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

/** The program, and where its libraries and fonts lie. */
function placesIn(cache: string): [string, Chromium["env"]] {
  const folders = fetchedLibraries("chromium").flatMap((folder) => [folder, join(folder, "pulseaudio")]);
  const fonts = join(cache, "fonts.conf");
  writeFileSync(
    fonts,
    `<?xml version="1.0"?><fontconfig><include ignore_missing="yes">/etc/fonts/fonts.conf</include><dir>${join(cache, "usr", "share", "fonts")}</dir><cachedir>${join(cache, "font-cache")}</cachedir></fontconfig>`,
  );
  const env = { LD_LIBRARY_PATH: folders.join(delimiter), FONTCONFIG_FILE: fonts };
  return [join(cache, "usr", "lib", "chromium", "chromium-headless-shell"), env];
}
