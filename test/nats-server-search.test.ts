/** Where tests get their nats-server from: NATS_SERVER_BIN, PATH, or the distribution's packages; versions are checked. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseDeb822, parseList } from "./support/nats-apt.ts";
import { findServer, parseVersion } from "./support/nats-binary.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "keyturn-search-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function script(path: string, ...lines: string[]): string {
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, ["#!/bin/sh", ...lines, ""].join("\n"));
  chmodSync(path, 0o755);
  return path;
}

function server(dir: string, version: string): string {
  return script(join(folder, dir, "nats-server"), `echo "nats-server: v${version}"`);
}

function search(env: { NATS_SERVER_BIN?: string; PATH?: string }): ReturnType<typeof findServer> {
  return findServer({
    env: { PATH: join(folder, "empty"), ...env },
    cache: join(folder, "cache"),
    aptSources: join(folder, "apt"),
  });
}

const path = (...dirs: string[]): string => dirs.map((dir) => join(folder, dir)).join(delimiter);

describe("search", () => {
  test("NATS_SERVER_BIN comes before PATH", async () => {
    const named = server("named", "2.14.4");
    server("bin", "2.15.1");
    expect(await search({ NATS_SERVER_BIN: named, PATH: path("bin") })).toEqual({
      path: named,
      version: "2.14.4",
      notes: [],
    });
  });

  test("one that is too old is passed over and named, and the next one on PATH is taken", async () => {
    const named = server("named", "2.9.10");
    const old = server("old", "2.11.15");
    const fitting = server("new", "2.12.0");
    const found = await search({ NATS_SERVER_BIN: named, PATH: path("missing", "old", "new") });
    expect(found.path).toBe(fitting);
    expect(found.notes).toEqual([
      `NATS_SERVER_BIN: ${named} is version 2.9.10, which is too old`,
      `PATH: ${old} is version 2.11.15, which is too old`,
    ]);
  });

  test("what is no nats-server, or does not run, is passed over", async () => {
    const broken = script(join(folder, "broken", "nats-server"), "exit 3");
    const other = script(join(folder, "other", "nats-server"), "echo hello");
    const fitting = server("new", "3.0.0");
    const found = await search({ PATH: path("broken", "other", "new") });
    expect(found.path).toBe(fitting);
    expect(found.notes).toEqual([
      expect.stringContaining(`PATH: ${broken} cannot be run`),
      `PATH: ${other} does not say a version as nats-server does`,
    ]);
  });

  test("where none is found the text says what was looked at and how to get one", async () => {
    const old = server("old", "2.10.27");
    const failure = await search({ NATS_SERVER_BIN: join(folder, "gone"), PATH: path("old") }).then(
      () => "found",
      (error: Error) => error.message,
    );
    expect(failure).toContain("no nats-server 2.12 or newer");
    expect(failure).toContain(`NATS_SERVER_BIN: ${join(folder, "gone")} cannot be run`);
    expect(failure).toContain(`PATH: ${old} is version 2.10.27, which is too old`);
    expect(failure).toContain("names no source of the distribution's own packages");
    for (const way of ["brew install nats-server", "docker", "release", "NATS_SERVER_BIN=/path/to"]) {
      expect(failure).toContain(way);
    }
  });

  test.each([
    ["nats-server: v2.15.1\n", [2, 15, 1]],
    ["nats-server: v2.12.0-RC.1", [2, 12, 0]],
    ["nats-server v2", undefined],
    ["", undefined],
  ])("the version in %j is %j", (text, version) => {
    expect(parseVersion(text)).toEqual(version);
  });
});

describe("the distribution's packages", () => {
  const sources = `Types: deb deb-src
# a comment
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQENBF
`;

  /** An apt-get that has the package in one suite only, and notes what it was run with. */
  function fakeApt(suite: string, version: string): void {
    mkdirSync(join(folder, "apt", "sources.list.d"), { recursive: true });
    writeFileSync(join(folder, "apt", "sources.list.d", "debian.sources"), sources);
    script(
      join(folder, "bin", "apt-get"),
      `echo "$@" >> ${folder}/calls`,
      `cat "$2" > ${folder}/apt.conf`,
      `parts=$(sed -n 's/^Dir::Etc::SourceParts "\\(.*\\)";/\\1/p' "$2")`,
      `grep -q "^Suites: ${suite}$" "$parts"/keyturn.sources || { echo "E: no such suite" >&2; exit 100; }`,
      `cat "$parts"/keyturn.sources > ${folder}/used.sources`,
      `case "$*" in *download*) : > nats-server_${version}_amd64.deb;; esac`,
    );
    script(
      join(folder, "bin", "dpkg-deb"),
      `mkdir -p "$3/usr/sbin"`,
      `printf '#!/bin/sh\\necho "nats-server: v${version}"\\n' > "$3/usr/sbin/nats-server"`,
    );
  }

  const searchApt = (): ReturnType<typeof findServer> =>
    search({ PATH: [join(folder, "bin"), "/usr/bin", "/bin"].join(delimiter) });

  test("are taken from the machine's own source with another suite, into the cache and nowhere else", async () => {
    fakeApt("forky", "2.15.1");
    const found = await searchApt();
    expect(found).toEqual({ path: join(folder, "cache", "nats-server"), version: "2.15.1", notes: [] });
    expect(readdirSync(join(folder, "cache"))).toEqual(["nats-server"]);
    expect(readFileSync(join(folder, "used.sources"), "utf8")).toBe(
      sources
        .replace("Types: deb deb-src\n# a comment\n", "Types: deb\nSuites: forky\n")
        .replace("Suites: bookworm bookworm-updates\n", ""),
    );
    const config = readFileSync(join(folder, "apt.conf"), "utf8");
    for (const option of ["Dir::Etc::SourceParts", "Dir::State::Lists", "Dir::Cache"]) {
      expect(config).toContain(`${option} "${join(folder, "cache")}/`);
    }
    for (const hook of ["Pre-Invoke", "Post-Invoke", "Post-Invoke-Success"]) {
      expect(config).toContain(`#clear APT::Update::${hook};`);
    }
    expect(config).not.toMatch(/AllowInsecure|AllowUnauthenticated|trusted/i);
  });

  test("are fetched once", async () => {
    fakeApt("forky", "2.15.1");
    await searchApt();
    const calls = readFileSync(join(folder, "calls"), "utf8");
    expect((await searchApt()).version).toBe("2.15.1");
    expect(readFileSync(join(folder, "calls"), "utf8")).toBe(calls);
  });

  test("may be fetched by several at once", async () => {
    fakeApt("sid", "2.15.1");
    const found = await Promise.all([searchApt(), searchApt(), searchApt()]);
    for (const { path } of found) expect(path).toBe(join(folder, "cache", "nats-server"));
    expect(readdirSync(join(folder, "cache"))).toEqual(["nats-server"]);
  });

  test("are passed over where they are too old, and nothing is left behind", async () => {
    fakeApt("forky", "2.10.27");
    await expect(searchApt()).rejects.toThrow(/version 2\.10\.27, which is too old/);
    expect(readdirSync(join(folder, "cache"))).toEqual([]);
    expect(existsSync(join(folder, "used.sources"))).toBe(true);
  });
});

describe("apt's sources", () => {
  test("in one line: options and components stay, only the suite changes", () => {
    const found = parseList(`# deb http://off.invalid/debian bookworm main
deb-src http://mirror.invalid/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://mirror.invalid/debian bookworm main contrib # why
  deb cdrom:[x]/ stable main
deb http://flat.invalid/ ./
`);
    expect(found.map(({ suites }) => suites)).toEqual([["bookworm"], ["stable"]]);
    expect(found[0]?.withSuite("forky")).toBe(
      "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://mirror.invalid/debian forky main contrib\n",
    );
  });

  test("in stanzas: what is off or has no binary packages is left out", () => {
    const found = parseDeb822(`Types: deb
URIs: http://a.invalid
Suites: noble noble-updates
Components: main universe

Enabled: no
Types: deb
URIs: http://b.invalid
Suites: noble
Components: main

Types: deb-src
URIs: http://c.invalid
Suites: noble
Components: main
`);
    expect(found).toHaveLength(1);
    expect(found[0]?.suites).toEqual(["noble", "noble-updates"]);
    expect(found[0]?.withSuite("devel")).toBe(
      "Types: deb\nSuites: devel\nURIs: http://a.invalid\nComponents: main universe\n",
    );
  });
});
