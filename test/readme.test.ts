/** What the README says about the project is so: the tests it names exist, and its first program is the example. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { describe, expect, it } from "vitest";

const root = new URL("../", import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), "utf8");
const readme = read("README.md");

describe("the README", () => {
  const rows = [...readme.matchAll(/^\| (\d+) \| `(test\/[^`]+)` \| (.+) \|$/gm)].map(
    ([, promise, file, name]) => ({
      promise: Number(promise),
      file: file as string,
      name: name as string,
    }),
  );

  it("names a test for each promise of the contract", () => {
    const promised = [...readme.matchAll(/^(\d+)\. \*\*/gm)].map(([, number]) => Number(number));
    expect(promised).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect([...new Set(rows.map(({ promise }) => promise))].sort((a, b) => a - b)).toEqual(promised);
  });

  it.each(rows)("promise $promise: $file has “$name”", ({ file, name }) => {
    expect(read(file)).toContain(name);
  });

  it("shows the hello example as it is", () => {
    const shown = readme.split("```ts\n")[1]?.split("```")[0] ?? "";
    const example = read("examples/hello/hello.ts");
    const definition = shown.slice(shown.indexOf("const greeter"), shown.indexOf("const node"));
    expect(definition.length).toBeGreaterThan(400);
    expect(example).toContain(definition.trim());
    expect(shown.trim().split("\n").length).toBeLessThanOrEqual(26);
  });

  it("has nothing left to fill in", () => {
    expect(readme).not.toContain("@@");
  });

  it("what the package exports and ships is there", () => {
    const { exports, files } = JSON.parse(read("package.json")) as {
      exports: Record<string, string | Record<string, string>>;
      files: string[];
    };
    for (const target of Object.values(exports)) {
      const path = typeof target === "string" ? target : (target["keyturn-source"] as string);
      expect(read(path), path).not.toBe("");
    }
    for (const path of files.filter((name) => !name.startsWith("dist/"))) {
      const isFolder = statSync(new URL(path, root)).isDirectory();
      expect(isFolder ? readdirSync(new URL(path, root)).join() : read(path), path).not.toBe("");
    }
  });

  it("links to files that exist", () => {
    for (const [, path] of readme.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      expect(() => readFileSync(new URL(path as string, root)), path).not.toThrow(/ENOENT/);
    }
  });
});
