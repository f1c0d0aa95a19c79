/**
 * Everything that the README and the pages of docs/ show as code is tried: types are checked, programs and commands are
 * run, and what they print is compared with what the page says.
 */
import { execFile } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Command } from "commander";
import { EXIT_CODES } from "../runtime/cli/shell.ts";
import { commandLinePage, declaredProgram } from "./docs/command-line.ts";
import { referenceOf, type ReferencePage } from "./docs/reference.ts";
import { builtPackage } from "./support/build.ts";
import { type Block, blocksOf, type Directives, Pages, root, runPage } from "./support/docs.ts";

const read = (path: string): string => readFileSync(join(root, path), "utf8");

/** Reference pages are made, not written. */
const written = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
  .map((name) => join("docs", name))
  .filter((name) => name.endsWith(".md") && !name.startsWith(join("docs", "reference")))
  .sort();

/** The README's blocks are for reading: one is a whole program, the others are fragments, or tried by tests of their own. */
const inReadme: Directives = ({ heading, language, text }) => {
  if (heading === "An actor in twenty lines") return undefined;
  return language === "ts" && text !== "" ? "fragment: readme" : "not run: tests of their own start these";
};

const pages = new Pages();
pages.add("README.md", blocksOf(read("README.md"), inReadme));
for (const name of written) pages.add(name, blocksOf(read(name)));

afterAll(() => pages.remove());

describe("the pages", () => {
  it.each(written)("%s is one topic, of a length that is read", (name) => {
    const text = read(name);
    expect(text.split("\n").length).toBeLessThanOrEqual(190);
    expect(text.match(/^# /gm)?.length).toBeGreaterThanOrEqual(1);
    expect(text).not.toMatch(/!(?=\s|$)/m);
  });

  it.each(["README.md", ...written])("%s links to what is there", (name) => {
    const folder = join(root, name, "..");
    for (const [, target, anchor] of read(name).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)) {
      const path = target === "" ? join(root, name) : join(folder, target as string);
      // What `npm run docs` makes is not in the repository.
      if (path.startsWith(join(root, "docs/reference"))) continue;
      expect(() => statSync(path), `${name}: ${target}`).not.toThrow();
      if (anchor === undefined || !path.endsWith(".md")) continue;
      const anchors = [...readFileSync(path, "utf8").matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
        (title as string)
          .toLowerCase()
          .replace(/[^\p{L}\p{N}\s_-]/gu, "")
          .replaceAll(" ", "-"),
      );
      expect(anchors, `${name}: #${anchor}`).toContain(anchor);
    }
  });
});

describe("their code", () => {
  let faults: string[] = [];
  beforeAll(async () => {
    faults = await pages.faults();
    await pages.compile();
  }, 120_000);

  it("has right types", () => {
    expect(faults).toEqual([]);
  });

  it.concurrent.each(pages.pages.map((page) => [page.name, page] as const))(
    "%s runs, and prints what it shows",
    (_name, page) => runPage(page, pages),
    120_000,
  );

  it("names commands and options that keyturn has", async () => {
    const used = new Map<string, Set<string>>();
    const blocks: readonly Block[] = pages.pages.flatMap((page) => page.blocks);
    for (const { language, text } of blocks) {
      if (language !== "sh") continue;
      for (const line of text.replaceAll("\\\n", " ").split("\n")) {
        const [, command, rest = ""] =
          /^(?:\w+="[^"]*" |\w+=\S+ )?(?:npx )?keyturn ((?:dead |timers )?[a-z]+)((?: [^#|;]*)?)/.exec(
            line.replace(/\s#.*/, ""),
          ) ?? [];
        if (command === undefined) continue;
        const options = used.get(command) ?? new Set();
        used.set(command, options);
        for (const [option] of rest.matchAll(/--[a-z-]+/g)) options.add(option);
      }
    }
    expect(used.size).toBeGreaterThan(2);
    const program = join(await builtPackage(), "dist/runtime/cli/program.js");
    const between = "-- the next command --\n";
    const asks = `
      const [, program, ...commands] = process.argv;
      const { run } = await import(program);
      for (const command of commands) {
        process.stdout.write(${JSON.stringify(between)});
        await run([...command.split(" "), "--help"]);
      }`;
    const args = ["--input-type=module", "-e", asks, program, ...used.keys()];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    const helps = stdout.split(between).slice(1);
    for (const [at, [command, options]] of [...used].entries()) {
      expect(helps[at], command).toContain(`keyturn ${command}`);
      for (const option of options) expect(helps[at], command).toContain(option);
    }
  });
});

describe("the reference", () => {
  const { exports } = JSON.parse(read("package.json")) as { exports: Record<string, unknown> };
  let reference: ReferencePage[] = [];
  beforeAll(async () => {
    reference = referenceOf(await pages.declarations(), exports);
  }, 120_000);

  it("has every entry point of the package, with everything that is there at run time", async () => {
    expect(reference.map(({ module }) => module)).toEqual(
      Object.keys(exports).flatMap((path) => (path.endsWith(".json") ? [] : [`keyturn${path.slice(1)}`])),
    );
    const looks =
      "for (const name of process.argv.slice(1)) console.log(Object.keys(await import(name)).join());";
    const modules = reference.map(({ module }) => module);
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--input-type=module", "-e", looks, ...modules],
      { cwd: pages.pages[0]?.folder },
    );
    const shown = reference.map(({ entries }) =>
      entries.flatMap(({ name, isValue }) => (isValue ? [name] : [])).sort(),
    );
    expect(
      stdout
        .trimEnd()
        .split("\n")
        .map((line) => line.split(",").sort()),
    ).toEqual(shown);
  });

  it("says what each thing is that people call, and shows nothing internal", () => {
    const silent = reference.flatMap(({ module, entries }) =>
      entries.flatMap(({ name, isValue, code, words }) =>
        (isValue || code.startsWith("class ")) && words === "" ? [`${module}: ${name}`] : [],
      ),
    );
    expect(silent).toEqual([]);
    for (const { code, name } of reference.flatMap(({ entries }) => entries)) {
      expect(code, name).not.toMatch(/@internal|#private|\bprivate\b/);
      expect(code, name).not.toBe("");
    }
  });

  it("has every command with all that it takes, each with its words", async () => {
    const program = await declaredProgram();
    const page = commandLinePage(program);
    const check = (command: Command, path: string): void => {
      expect(page).toContain(`\n## ${path}\n`);
      expect(command.description(), path).not.toBe("");
      for (const { flags, description, hidden } of command.options) {
        if (hidden) expect(page).not.toContain(flags);
        else expect(page, path).toContain(`| \`${flags.replaceAll("|", "\\|")}\` | `);
        expect(hidden || description !== "", `${path} ${flags}`).toBe(true);
      }
      for (const below of command.commands) check(below, `${path} ${below.name()}`);
    };
    expect(program.commands.length).toBeGreaterThan(20);
    for (const command of program.commands) check(command, `keyturn ${command.name()}`);
    for (const [code, text] of EXIT_CODES) expect(page).toContain(`| ${code} | ${text} |`);
  });

  it("documentation leads to each of its pages", () => {
    const index = read("docs/README.md");
    expect(index).toContain("(reference/command-line.md)");
    for (const { file } of reference) expect(index).toContain(`(reference/${file})`);
  });
});
