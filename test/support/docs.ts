/**
 * The code of documentation pages, and how it is tried.
 *
 * Owns the extraction of blocks, a folder for each page that looks like a reader's own (keyturn and xstate are installed
 * in it), the check of all types at once, and the running of blocks one after another. Talks to the compiler and to the
 * built package; the servers that pages name are docs-servers.ts's.
 *
 * What a block is, is said by an HTML comment on the line before it, which readers do not see:
 *
 * | before the block | means |
 * | --- | --- |
 * | nothing, `ts` | a whole program: checked and run |
 * | nothing, `sh` | run in the page's folder |
 * | `<!-- file: NAME -->` | saved under that name; TypeScript, also with JSX, is checked |
 * | `<!-- fragment: CONTEXT -->` | checked with what test/docs/CONTEXT.ts exports; `…` stands for what is left out |
 * | `<!-- starts: TEXT -->` | `sh` that goes on: waited for until it prints TEXT, and ended with the page |
 * | `<!-- until: TEXT -->` | the same, and ended before the next block |
 * | `<!-- ends with: CODE -->` | `sh` that is run in the page's folder and whose exit code is this one |
 * | `<!-- not run: REASON -->` | `sh`: only the options of `keyturn` in it are checked |
 *
 * A `text` block after one that was run is what it prints; `…` in it stands for anything within a line.
 */
import { execFile, spawn } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { builtPackage } from "./build.ts";
import { serversFor } from "./docs-servers.ts";

export const root = fileURLToPath(new URL("../..", import.meta.url));
const contexts = join(root, "test/docs");

export type Directive =
  | "program"
  | "run"
  | "file"
  | "fragment"
  | "starts"
  | "until"
  | "ends with"
  | "not run";

export interface Block {
  /** Line of the page, from 1. */
  readonly line: number;
  readonly language: string;
  readonly text: string;
  readonly directive: Directive;
  readonly argument: string;
  /** What it prints, if the page says it. */
  output?: string;
}

/** What is said of a block by the page that it is in, if the page cannot say it itself. */
export type Directives = (block: { heading: string; language: string; text: string }) => string | undefined;

const DIRECTIVE = /^<!-- (file|fragment|starts|until|ends with|not run): (.+) -->$/;

/** The blocks of a page that are code. Throws for what nobody would try. */
export function blocksOf(markdown: string, more: Directives = () => undefined): Block[] {
  const lines = markdown.split("\n");
  const blocks: Block[] = [];
  let heading = "";
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] as string;
    if (/^#+ /.test(line)) heading = line.replace(/^#+ /, "");
    if (!line.startsWith("```")) continue;
    const language = line.slice(3).trim();
    const end = lines.indexOf("```", at + 1);
    if (end < 0) throw new Error(`Line ${at + 1}: the block has no end.`);
    const text = `${lines.slice(at + 1, end).join("\n")}\n`;
    const said = lines[at - 1] ?? "";
    const [, directive, argument = ""] =
      DIRECTIVE.exec(said) ?? DIRECTIVE.exec(`<!-- ${more({ heading, language, text }) ?? ""} -->`) ?? [];
    if (directive === undefined && said.startsWith("<!--")) throw new Error(`Line ${at}: unknown: ${said}`);
    const before = blocks.at(-1);
    if (language === "text" && directive === undefined) {
      if (before !== undefined) before.output = text;
    } else if (directive !== undefined) {
      blocks.push({ line: at + 1, language, text, directive: directive as Directive, argument });
    } else if (language === "ts" || language === "sh") {
      const own = language === "ts" ? "program" : "run";
      blocks.push({ line: at + 1, language, text, directive: own, argument: "" });
    } else if (language !== "") {
      throw new Error(`Line ${at + 1}: nobody would try a block of ${language}; say what file it is.`);
    }
    at = end;
  }
  return blocks;
}

function isTypeScript({ language }: Block): boolean {
  return language === "ts" || language === "tsx";
}

/** A page with its folder. */
export class Page {
  readonly name: string;
  readonly blocks: readonly Block[];
  readonly folder: string;

  constructor(name: string, blocks: readonly Block[], within: string) {
    this.name = name;
    this.blocks = blocks;
    this.folder = join(within, name.replace(/\.md$/, "").replaceAll("/", "-"));
  }

  /** Name of the file that a block is. */
  fileOf(block: Block): string {
    if (block.directive === "file") return block.argument;
    return `line-${block.line}.ts`;
  }
}

/** All pages, in one folder, which is to be removed. */
export class Pages {
  readonly folder = mkdtempSync(join(tmpdir(), "keyturn-docs-"));
  readonly pages: Page[] = [];
  #declarations: Promise<string> | undefined;

  add(name: string, blocks: readonly Block[]): void {
    const page = new Page(name, blocks, this.folder);
    mkdirSync(page.folder, { recursive: true });
    writeFileSync(join(page.folder, "package.json"), '{ "type": "module" }\n');
    for (const block of blocks) {
      if (!isTypeScript(block)) continue;
      write(page, block, block.directive === "fragment" ? inContext(block) : block.text);
    }
    this.pages.push(page);
  }

  /** The folder of the package's declarations, as they are published; made once. */
  declarations(): Promise<string> {
    this.#declarations ??= this.#declare();
    return this.#declarations;
  }

  async #declare(): Promise<string> {
    const folder = join(this.folder, "declared");
    const dist = join(folder, "dist");
    mkdirSync(folder);
    cpSync(join(root, "package.json"), join(folder, "package.json"));
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"), "junction");
    const compilerOptions = {
      outDir: dist,
      rootDir: root,
      emitDeclarationOnly: true,
      incremental: false,
      sourceMap: false,
      inlineSources: false,
      noCheck: true,
    };
    const config = join(folder, "tsconfig.json");
    const include = ["runtime", "actors"].map((name) => join(root, name));
    writeFileSync(
      config,
      JSON.stringify({ extends: join(root, "tsconfig.build.json"), compilerOptions, include, exclude: [] }),
    );
    const { stdout } = await this.#tsc(["-p", config]);
    if (stdout !== "") throw new Error(`The declarations cannot be made.\n${stdout}`);
    return dist;
  }

  /**
   * Checks the types of everything, with one run of the compiler, against the declarations that readers have. Resolves
   * with what it finds, page and line first.
   */
  async faults(): Promise<string[]> {
    await this.declarations();
    cpSync(contexts, join(this.folder, "contexts"), { recursive: true });
    mkdirSync(join(this.folder, "node_modules"));
    for (const name of ["xstate", "zod", "pino", "@types", "@opentelemetry", "@statelyai"])
      symlinkSync(join(root, "node_modules", name), join(this.folder, "node_modules", name), "junction");
    symlinkSync(join(this.folder, "declared"), join(this.folder, "node_modules/keyturn"), "junction");
    const { compilerOptions } = JSON.parse(
      readFileSync(join(root, "tsconfig.json"), "utf8").replace(/^\s*\/\/.*$/gm, ""),
    ) as { compilerOptions: object };
    // A reader's own project may be less strict than this one; names are imported for every fragment alike.
    const options = {
      ...compilerOptions,
      customConditions: [],
      verbatimModuleSyntax: false,
      noUncheckedSideEffectImports: false,
      jsx: "react-jsx",
    };
    const pages = this.pages.flatMap(({ folder }) =>
      ["ts", "tsx"].map((ending) => `${relative(this.folder, folder)}/**/*.${ending}`),
    );
    const config = { compilerOptions: options, include: pages };
    writeFileSync(join(this.folder, "tsconfig.json"), JSON.stringify(config));
    const { stdout } = await this.#tsc(["-p", "tsconfig.json", "--pretty", "false"]);
    return stdout
      .split("\n")
      .filter((line) => line.includes("error TS"))
      .map((line) => this.#named(line));
  }

  /** Makes JavaScript of it beside it, for Node 20, which does not run TypeScript. */
  async compile(): Promise<void> {
    const built = await builtPackage();
    rmSync(join(this.folder, "node_modules/keyturn"));
    symlinkSync(built, join(this.folder, "node_modules/keyturn"), "junction");
    await this.#tsc(["-p", "tsconfig.json", "--noCheck", "--noEmit", "false", "--noResolve"]);
    const bin = join(this.folder, "bin");
    mkdirSync(bin);
    script(join(bin, "node"), [
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a shell's
      'for arg; do shift; case "$arg" in -*) ;; *.ts) arg="${arg%.ts}.js";; esac; set -- "$@" "$arg"; done',
      `exec '${process.execPath}' "$@"`,
    ]);
    const main = join(built, "dist/runtime/cli/main.js");
    script(join(bin, "keyturn"), [`exec '${process.execPath}' '${main}' "$@"`]);
    script(join(bin, "npx"), ['exec "$@"']);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** `folder/line-17.ts(3,1): error` as the line of the page. */
  #named(line: string): string {
    const [, folder, file, within, rest] = /^([^/(]+)\/([^(]+)\((\d+),\d+\): (.*)$/.exec(line) ?? [];
    const page = this.pages.find((one) => relative(this.folder, one.folder) === folder);
    const block = page?.blocks.find((one) => isTypeScript(one) && page.fileOf(one) === file);
    if (page === undefined || block === undefined) return line;
    return `${page.name}:${block.line + Number(within)}: ${rest}`;
  }

  #tsc(args: readonly string[]): Promise<{ stdout: string }> {
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    return promisify(execFile)(process.execPath, [tsc, ...args], { cwd: this.folder }).catch(
      (error: { stdout?: string }) => {
        if (error.stdout === undefined || error.stdout === "") throw error;
        return { stdout: error.stdout };
      },
    );
  }
}

function write(page: Page, block: Block, text: string): void {
  const path = join(page.folder, page.fileOf(block));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

function script(path: string, lines: readonly string[]): void {
  writeFileSync(path, `#!/bin/sh\n${lines.join("\n")}\n`);
  chmodSync(path, 0o755);
}

/** A fragment as a module: what it does not declare itself comes from its context. The first line is the context's. */
function inContext({ text, argument }: Block): string {
  const names = namesIn(join(contexts, `${argument}.ts`)).filter((name) => !declares(text, name));
  const from = JSON.stringify(`../contexts/${argument}.ts`);
  // Only what stands for something left out; never within a text.
  const whole = text
    .replace(/(?<=[,{(] ?)…,? ?/g, "")
    .replace(/, …(?= ?[})])/g, "")
    .replace(/ …(?=\s*(?:\/\/.*)?$)/gm, " {}");
  return `import { ${names.join(", ")} } from ${from};${whole.startsWith("import") ? " " : ""}${whole}\nexport {};\n`;
}

function declares(text: string, name: string): boolean {
  const declared = new RegExp(`\\b(?:const|let|class|function|type|interface) ${name}\\b`);
  const imported = new RegExp(`^import \\{[^}]*\\b${name}\\b[^}]*\\} from`, "m");
  return declared.test(text) || imported.test(text);
}

function namesIn(path: string): string[] {
  const source = readFileSync(path, "utf8");
  const declared = [
    ...source.matchAll(/^export (?:declare )?(?:const|let|function|type|interface|class) (\w+)/gm),
  ].map(([, name]) => name as string);
  const again = [...source.matchAll(/^export \{([^}]*)\} from/gm)].flatMap(([, names]) =>
    (names as string)
      .split(",")
      .map((name) => name.trim().replace(/^type /, ""))
      .filter((name) => name !== ""),
  );
  return [...declared, ...again];
}

/** Runs a page's blocks in order. Throws for the first that fails or prints something else. */
export async function runPage(page: Page, pages: Pages): Promise<void> {
  const tried = page.blocks.filter(({ directive }) => !["file", "fragment", "not run"].includes(directive));
  const servers = await serversFor(
    page.folder,
    tried.map(({ text }) => text),
  );
  const { own } = servers;
  const started: Started[] = [];
  try {
    let together: Block[] = [];
    const bin = join(pages.folder, "bin");
    const runTogether = async (): Promise<void> => {
      const blocks = together;
      together = [];
      if (blocks.length > 0) await runPrograms(page, blocks, own, bin);
    };
    for (const block of page.blocks) {
      const { directive, text, line } = block;
      const where = `${page.name}:${line}`;
      if (directive === "program") together.push(block);
      if (directive === "program" || directive === "fragment" || directive === "not run") continue;
      await runTogether();
      if (directive === "file") {
        if (!isTypeScript(block)) write(page, block, text);
        place(page, page.fileOf(block), own);
        continue;
      }
      const one = new Started(own(text), page.folder, bin, servers.env(text));
      if (directive === "starts" || directive === "until") {
        started.push(one);
        await one.until(block.argument, where);
        if (directive === "starts") continue;
        one.stop();
        await one.ended;
        continue;
      }
      const code = await one.ended;
      if (code !== Number(directive === "ends with" ? block.argument : 0))
        throw new Error(`${where} ended with ${code}.\n${one.stdout}\n${one.stderr}`);
      if (block.output !== undefined) same(where, own(block.output), one.stdout);
    }
    await runTogether();
  } finally {
    for (const one of started) one.stop();
    await Promise.all(started.map((one) => one.ended));
    await servers.stop();
  }
}

/** Programs that follow each other, in one process: to start one for each costs more than all that they do. */
async function runPrograms(
  page: Page,
  blocks: readonly Block[],
  own: (text: string) => string,
  bin: string,
): Promise<void> {
  const files = blocks.map((block) => page.fileOf(block));
  for (const file of files) place(page, file, own);
  const between = "-- the next program --\n";
  const imports = files.map((file) => `await import("./${file.replace(/\.ts$/, ".js")}");`);
  const all = join(page.folder, `programs-${blocks[0]?.line}.js`);
  writeFileSync(all, imports.join(`\nprocess.stdout.write(${JSON.stringify(between)});\n`));
  const one = new Started(`node ${all}`, page.folder, bin);
  const code = await one.ended;
  const printed = one.stdout.split(between);
  if (code !== 0) {
    const failed = `${page.name}:${blocks[printed.length - 1]?.line}`;
    throw new Error(`${failed} ended with ${code}.\n${printed.at(-1)}\n${one.stderr}`);
  }
  for (const [at, { line, output }] of blocks.entries())
    if (output !== undefined) same(`${page.name}:${line}`, own(output), printed[at] ?? "");
}

/** A file of a page as it is when the page's server is known: what it was compiled to, too. */
function place(page: Page, file: string, own: (text: string) => string): void {
  const path = join(page.folder, file);
  for (const one of new Set([path, path.replace(/\.ts$/, ".js")]))
    if (existsSync(one)) writeFileSync(one, own(readFileSync(one, "utf8")));
}

function same(where: string, shown: string, printed: string): void {
  const lines = (text: string): string[] =>
    text
      .trimEnd()
      .split("\n")
      .map((line) => line.trimEnd());
  const pattern = lines(shown).map((line) => line.split("…").map(literal).join(".*"));
  if (!new RegExp(`^${pattern.join("\n")}$`).test(lines(printed).join("\n")))
    throw new Error(`${where} prints\n${printed}\nand the page shows\n${shown}`);
}

function literal(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** A shell with what a block says. */
class Started {
  stdout = "";
  stderr = "";
  readonly ended: Promise<number | NodeJS.Signals>;
  readonly #pid: number;
  #over = false;
  #look: () => void = () => undefined;

  constructor(command: string, cwd: string, bin: string, more: Readonly<Record<string, string>> = {}) {
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith("KEYTURN_")),
    );
    const child = spawn("/bin/sh", ["-euc", command], {
      cwd,
      env: { ...env, ...more, PATH: `${bin}:${process.env.PATH}`, NODE_NO_WARNINGS: "1" },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    this.#pid = child.pid as number;
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
      this.#look();
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
      this.#look();
    });
    this.ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        this.#over = true;
        this.#look();
        resolve(code ?? (signal as NodeJS.Signals));
      });
    });
  }

  async until(text: string, where: string): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#look = () => {
        if (this.#over || `${this.stdout}${this.stderr}`.includes(text)) resolve();
      };
      this.#look();
    });
    if (this.#over)
      throw new Error(`${where} ended before it printed “${text}”.\n${this.stdout}\n${this.stderr}`);
  }

  stop(): void {
    if (!this.#over) process.kill(-this.#pid, "SIGTERM");
  }
}
