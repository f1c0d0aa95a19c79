/**
 * nats-server out of the distribution's own packages, for this checkout only: no root, nothing of the system changed.
 *
 * Owns the reading of apt's sources and one private apt run: the machine's own source with another suite, private
 * folders for lists and packages, no hooks. Talks to apt-get and dpkg-deb.
 *
 * Invariants:
 * 1. Every file is written below the given folder. The system's hooks are cleared, since some of them clean up or
 *    refresh what belongs to the system.
 * 2. Where to fetch from and which signature to trust come from the machine's own source, unchanged.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { run } from "./nats-run.ts";

/** One source that packages come from, as apt writes it, and where its suites stand in it. */
export interface AptSource {
  readonly format: "list" | "sources";
  readonly suites: readonly string[];
  /** The same source with another suite. */
  withSuite(suite: string): string;
}

export interface AptOptions {
  /** Where apt's sources are described, instead of /etc/apt. */
  readonly sources?: string | undefined;
  /** Where apt-get and dpkg-deb are looked for, instead of PATH. */
  readonly path?: string | undefined;
}

/** The suites to look in: Debian's that have a new enough server, the machine's own, and Ubuntu's newest. */
function suitesToTry(): readonly string[] {
  return [...new Set(["forky", "sid", ...codename(), "devel"])];
}

/** Takes the enabled sources of binary packages out of a file in the one-line format. */
export function parseList(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split("\n")) {
    // deb [option=value …] uri suite component…
    const parts = /^\s*(deb\s+(?:\[[^\]]*\]\s+)?\S+)\s+(\S+)((?:\s+[^\s#]+)+)/.exec(line);
    if (parts === null) continue;
    const [, head = "", suite = "", components = ""] = parts;
    sources.push({
      format: "list",
      suites: [suite],
      withSuite: (other) => `${head} ${other}${components}\n`,
    });
  }
  return sources;
}

/** Takes the enabled sources of binary packages out of a file in the deb822 format. */
export function parseDeb822(text: string): AptSource[] {
  const sources: AptSource[] = [];
  const withoutComments = text
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .join("\n");
  for (const stanza of withoutComments.split(/\n[ \t]*\n+/)) {
    // A field goes on in the lines that begin with a blank.
    const fields = stanza.split(/\n(?![ \t])/).filter((field) => field.trim() !== "");
    const value = (name: string): string => {
      const field = fields.find((text) => text.toLowerCase().startsWith(`${name}:`));
      return field === undefined ? "" : field.slice(name.length + 1).trim();
    };
    if (!value("types").split(/\s+/).includes("deb")) continue;
    if (/^(no|false|without|off|disable)$/i.test(value("enabled"))) continue;
    const others = fields.filter((field) => !/^(types|suites):/i.test(field));
    sources.push({
      format: "sources",
      suites: value("suites").split(/\s+/).filter(Boolean),
      withSuite: (other) => `${["Types: deb", `Suites: ${other}`, ...others].join("\n")}\n`,
    });
  }
  return sources;
}

/** The machine's sources that may be the distribution's own, the likeliest first. */
export function distributionSources(folder: string): AptSource[] {
  const files = [join(folder, "sources.list")];
  const parts = join(folder, "sources.list.d");
  if (existsSync(parts))
    files.push(
      ...readdirSync(parts)
        .sort()
        .map((name) => join(parts, name)),
    );
  const sources = files.filter(existsSync).flatMap((file) => {
    if (file.endsWith(".list")) return parseList(readFileSync(file, "utf8"));
    return file.endsWith(".sources") ? parseDeb822(readFileSync(file, "utf8")) : [];
  });
  const own = codename();
  const isOwn = (source: AptSource): boolean => source.suites.some((suite) => own.includes(suite));
  // bookworm-security and the like lie elsewhere; a suite that ends in a slash is no suite.
  const plain = sources.filter((source) => source.suites.some((suite) => /^[a-z]+$/.test(suite)));
  return [...plain.filter(isOwn), ...plain.filter((source) => !isOwn(source))];
}

/**
 * Fetches nats-server into the folder: `accepts` is handed one unpacked binary after another, and the first that it
 * accepts is the answer. Throws with what was tried.
 */
export async function fetchFromApt(
  folder: string,
  accepts: (binary: string) => Promise<boolean>,
  { sources: where = "/etc/apt", path }: AptOptions = {},
): Promise<string> {
  const sources = distributionSources(where);
  if (sources.length === 0) throw new Error(`${where} names no source of the distribution's own packages`);
  const failures: string[] = [];
  let attempt = 0;
  for (const source of sources) {
    for (const suite of suitesToTry()) {
      const place = join(folder, `apt-${attempt++}`);
      try {
        const binary = await fetchFromSuite(place, source, suite, path);
        if (await accepts(binary)) return binary;
        failures.push(`${suite}: what is there does not fit`);
      } catch (error) {
        failures.push(`${suite}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }
  throw new Error(failures.join("; "));
}

async function fetchFromSuite(
  place: string,
  source: AptSource,
  suite: string,
  path: string | undefined,
): Promise<string> {
  for (const name of ["parts", "lists/partial", "cache/archives/partial", "package", "unpacked"]) {
    mkdirSync(join(place, name), { recursive: true });
  }
  writeFileSync(join(place, "parts", `keyturn.${source.format}`), source.withSuite(suite));
  const config = join(place, "apt.conf");
  writeFileSync(config, aptConfig(place));
  const apt = (...args: string[]): Promise<string> =>
    run("apt-get", ["-c", config, "--quiet", ...args], {
      cwd: join(place, "package"),
      path,
      timeout_ms: 240_000,
    });
  await apt("update");
  await apt("download", "nats-server");
  const name = readdirSync(join(place, "package")).find((file) => file.endsWith(".deb"));
  if (name === undefined) throw new Error("apt-get has downloaded no package");
  const unpacked = join(place, "unpacked");
  await run("dpkg-deb", ["-x", join(place, "package", name), unpacked], { path, timeout_ms: 60_000 });
  const found = ["usr/sbin", "usr/bin"].map((dir) => join(unpacked, dir, "nats-server")).find(existsSync);
  if (found === undefined) throw new Error(`${name} holds no nats-server`);
  // Out of the tree of the package, whose folders may have any mode.
  const binary = join(place, "nats-server");
  copyFileSync(found, binary);
  chmodSync(binary, 0o755);
  return binary;
}

/** Read after the system's own settings, whose proxies and keys stay as they are. */
export function aptConfig(place: string): string {
  return `Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "${join(place, "parts")}";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "${join(place, "lists")}";
Dir::Cache "${join(place, "cache")}";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
`;
}

/** The names under which the machine's own release may stand in its sources. */
export function codename(): string[] {
  try {
    const named = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(readFileSync("/etc/os-release", "utf8"));
    return named?.[1] === undefined ? [] : [named[1]];
  } catch {
    return [];
  }
}
