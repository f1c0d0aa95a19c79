/**
 * The reference: what each entry point of the package exports, with the words that stand over it in the source.
 *
 * Owns the pages in docs/reference. Reads the declarations that the build makes, through the compiler's own API, so that
 * what is shown is what a user's editor shows. That API is called unstable: it is used here and nowhere else, and only
 * to follow exports to their declarations.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { API, type Symbol as Exported, SymbolFlags } from "typescript/unstable/sync";
import type { Node } from "typescript/unstable/ast";

/** One export. */
export interface ReferenceEntry {
  readonly name: string;
  /** Whether it is there at run time. */
  readonly isValue: boolean;
  /** What its comment says, as Markdown; empty if it has none. */
  readonly words: string;
  readonly code: string;
}

/** One entry point of the package. */
export interface ReferencePage {
  /** As it is imported. */
  readonly module: string;
  /** Of the page. */
  readonly file: string;
  readonly words: string;
  readonly entries: readonly ReferenceEntry[];
}

/**
 * Reads the declarations.
 * @param dist the build
 * @param exported package.json's `exports`
 */
export function referenceOf(dist: string, exported: Readonly<Record<string, unknown>>): ReferencePage[] {
  const modules = Object.entries(exported).flatMap(([path, to]) => {
    const types = (to as { types?: string }).types;
    if (types === undefined) return [];
    return [{ path, file: join(dist, types.replace(/^\.\/dist\//, "")) }];
  });
  const folder = mkdtempSync(join(tmpdir(), "keyturn-reference-"));
  const api = new API({ cwd: folder });
  try {
    const config = join(folder, "tsconfig.json");
    const compilerOptions = {
      module: "nodenext",
      target: "es2023",
      lib: ["es2023"],
      types: [],
      allowImportingTsExtensions: true,
      noEmit: true,
      skipLibCheck: true,
    };
    writeFileSync(config, JSON.stringify({ compilerOptions, files: modules.map(({ file }) => file) }));
    const project = api.updateSnapshot({ openProjects: [config] }).getProject(config);
    if (project === undefined) throw new Error("The declarations cannot be opened.");
    const { checker, program } = project;
    return modules.map(({ path, file }) => {
      const source = program.getSourceFile(file);
      const symbol = source === undefined ? undefined : checker.getSymbolAtLocation(source);
      if (symbol === undefined) throw new Error(`${file} exports nothing.`);
      const entries = checker.getExportsOfModule(symbol).map((one) => {
        const target = (one.flags & SymbolFlags.Alias) === 0 ? one : checker.getAliasedSymbol(one);
        return entryOf(one.name, target, isForTypes(one));
      });
      const [, head = ""] = /^\/\*\*([\s\S]*?)\*\//.exec(readFileSync(file, "utf8")) ?? [];
      return {
        module: `keyturn${path.slice(1)}`,
        file: `${path === "." ? "keyturn" : path.slice(2)}.md`,
        words: markdownOf(head),
        entries: entries.sort((a, b) => Number(b.isValue) - Number(a.isValue) || (a.name < b.name ? -1 : 1)),
      };
    });
  } finally {
    api.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Writes the pages. */
export function writeReference(folder: string, pages: readonly ReferencePage[]): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const page of pages) writeFileSync(join(folder, page.file), textOf(page));
}

/** Whether it is exported as a type only, as by `export { type Client }` and `export type { Client }`. */
function isForTypes(symbol: Exported): boolean {
  const specifier = symbol.declarations[0]?.resolve();
  if (specifier === undefined || (symbol.flags & SymbolFlags.Alias) === 0) return false;
  const statement = statementOf(specifier);
  return [specifier, statement].some((node) => /^(?:export )?type\b/.test(node.getText()));
}

function entryOf(name: string, symbol: Exported, forTypes: boolean): ReferenceEntry {
  const declarations = symbol.declarations.flatMap((handle) => handle.resolve() ?? []);
  const statements = declarations.map(statementOf);
  const comments = statements.map((one) => commentOf(one));
  return {
    name,
    isValue: !forTypes && (symbol.flags & SymbolFlags.Value) !== 0,
    words: comments.map(markdownOf).find((text) => text !== "") ?? "",
    code: statements.map(codeOf).join("\n"),
  };
}

/** `const a = …` is declared within a statement, and its comment stands over that. */
function statementOf(node: Node): Node {
  let at = node;
  while (at.parent !== undefined && at.parent.parent !== undefined && !isStatement(at)) at = at.parent;
  return at;
}

function isStatement(node: Node): boolean {
  return node.parent?.parent === undefined;
}

function sourceOf(node: Node): string {
  let at = node;
  while (at.parent !== undefined) at = at.parent;
  return (at as unknown as { readonly text: string }).text;
}

/** The last comment before a node's first word. */
function commentOf(node: Node): string {
  const text = sourceOf(node).slice(node.pos, node.end);
  const comments = [
    ...(/^(?:\s|\/\*[\s\S]*?\*\/|\/\/.*\n)*/.exec(text)?.[0] ?? "").matchAll(/\/\*\*([\s\S]*?)\*\//g),
  ];
  return comments.at(-1)?.[1] ?? "";
}

function codeOf(node: Node): string {
  const source = sourceOf(node);
  let text = source.slice(node.pos, node.end);
  const members = (node as unknown as { readonly members?: readonly Node[] }).members ?? [];
  for (const member of [...members].reverse()) {
    const own = source.slice(member.pos, member.end);
    if (!/@internal|^\s*(?:private\b|#)/m.test(own)) continue;
    text = text.slice(0, member.pos - node.pos) + text.slice(member.end - node.pos);
  }
  return text
    .replace(/^(?:\s|\/\*[\s\S]*?\*\/|\/\/.*\n)*/, "")
    .replace(/^export (?:declare )?/, "")
    .replace(/^ {4,}/gm, (spaces) => " ".repeat(Math.floor(spaces.length / 2) + (spaces.length % 2)));
}

/** A doc comment without its stars; its tags as a list. */
function markdownOf(comment: string): string {
  const lines = comment
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, ""))
    .join("\n")
    .trim()
    .replace(/\{@link ([^}]+)\}/g, "`$1`");
  const [words = "", ...tags] = lines.split(/\n(?=@[a-z])/);
  if (words.startsWith("@")) tags.unshift(words);
  const told = tags.map((tag) =>
    tag
      .replace(/\n\s*/g, " ")
      .replace(/^@param (\S+) (?:- )?/, "- `$1`: ")
      .replace(/^@returns? /, "- Returns ")
      .replace(/^@throws /, "- Throws "),
  );
  return [words.startsWith("@") ? "" : words.trim(), told.join("\n")]
    .filter((part) => part !== "")
    .join("\n\n");
}

function textOf({ module, words, entries }: ReferencePage): string {
  const values = entries.filter(({ isValue }) => isValue);
  const types = entries.filter(({ isValue }) => !isValue);
  const links = (list: readonly ReferenceEntry[]): string =>
    list.map(({ name }) => `[\`${name}\`](#${name.toLowerCase()})`).join(" · ");
  const parts = [
    `# ${module}`,
    "Made from the source by `npm run docs`; do not edit it.",
    words,
    `**At run time**: ${links(values)}`,
    ...(types.length > 0 ? [`**Types**: ${links(types)}`] : []),
    ...entries.flatMap(({ name, words: own, code }) => [
      `## ${name}`,
      ...(own === "" ? [] : [own]),
      `\`\`\`ts\n${code}\n\`\`\``,
    ]),
  ];
  return `${parts.join("\n\n")}\n`;
}
