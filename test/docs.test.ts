/**
 * Everything that the README and the pages of docs/ show as code is tried: types are checked, programs and commands are
 * run, and what they print is compared with what the page says.
 */
import { execFile } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
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
    expect(text.split("\n").length).toBeLessThanOrEqual(180);
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
    60_000,
  );

  it("names commands and options that keyturn has", async () => {
    const used = new Map<string, Set<string>>();
    const blocks: readonly Block[] = pages.pages.flatMap((page) => page.blocks);
    for (const { language, text } of blocks) {
      if (language !== "sh") continue;
      for (const line of text.replaceAll("\\\n", " ").split("\n")) {
        const [, command, rest = ""] =
          /^(?:\w+="?\S+ )?(?:npx )?keyturn ([a-z]+)((?: [^#|;]*)?)/.exec(line.replace(/\s#.*/, "")) ?? [];
        if (command === undefined) continue;
        const options = used.get(command) ?? new Set();
        used.set(command, options);
        for (const [option] of rest.matchAll(/--[a-z-]+/g)) options.add(option);
      }
    }
    expect(used.size).toBeGreaterThan(2);
    const main = join(await builtPackage(), "dist/runtime/cli/main.js");
    await Promise.all(
      [...used].map(async ([command, options]) => {
        const { stdout } = await promisify(execFile)(process.execPath, [main, command, "--help"]);
        expect(stdout, command).toContain(`keyturn ${command}`);
        for (const option of options) expect(stdout, command).toContain(option);
      }),
    );
  });
});

describe("the reference", () => {
  const { exports } = JSON.parse(read("package.json")) as { exports: Record<string, unknown> };
  let reference: ReferencePage[] = [];
  beforeAll(async () => {
    const options = ["--noCheck", "--emitDeclarationOnly", "--incremental", "false", "--sourceMap", "false"];
    const more = ["--inlineSources", "false", "--outDir", join(pages.folder, "dist")];
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    const args = [tsc, "-p", "tsconfig.build.json", ...options, ...more];
    await promisify(execFile)(process.execPath, args, { cwd: root });
    reference = referenceOf(join(pages.folder, "dist"), exports);
  }, 120_000);

  it("has every entry point of the package, with everything that is there at run time", async () => {
    expect(reference.map(({ module }) => module)).toEqual(
      Object.keys(exports).flatMap((path) => (path.endsWith(".json") ? [] : [`keyturn${path.slice(1)}`])),
    );
    for (const { module, entries } of reference) {
      const names = new Set(entries.flatMap(({ name, isValue }) => (isValue ? [name] : [])));
      for (const name of Object.keys((await import(module)) as object)) expect(names, module).toContain(name);
    }
  });

  it("says what each thing is that people call, and shows nothing internal", () => {
    const silent = reference.flatMap(({ module, entries }) =>
      entries.flatMap(({ name, isValue, words }) => (isValue && words === "" ? [`${module}: ${name}`] : [])),
    );
    expect(silent).toEqual([]);
    for (const { code, name } of reference.flatMap(({ entries }) => entries)) {
      expect(code, name).not.toMatch(/@internal|#private|\bprivate\b/);
      expect(code, name).not.toBe("");
    }
  });

  it("documentation leads to each of its pages", () => {
    const index = read("docs/README.md");
    for (const { file } of reference) expect(index).toContain(`(reference/${file})`);
  });
});
