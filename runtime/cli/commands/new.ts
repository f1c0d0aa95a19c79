/** `keyturn new`: a project that runs, with an actor, a test and a server's configuration. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { type Command, Option } from "commander";
import { KeyturnError } from "../../words/errors.ts";
import { jsonOption } from "../options.ts";
import { Output, type OutputFlags } from "../output.ts";
import { packageFolder } from "../packages.ts";
import { DONE, Failure, type Shell } from "../shell.ts";
import { projectFiles } from "../templates.ts";

interface NewFlags extends OutputFlags {
  readonly keyturn?: string;
}

const NAME = /^[a-z0-9][a-z0-9._-]{0,99}$/;

export function addNew(program: Command, shell: Shell): void {
  program
    .command("new")
    .summary("make a project that runs")
    .description("Makes a folder with a project in it: an actor, its tests, a server's configuration.")
    .argument("<folder>", "it must not exist, or be empty; its name becomes the package's")
    .addOption(
      new Option(
        "--keyturn <spec>",
        "what package.json says of keyturn: a version, a file: or a link; this one's version by default, or this one's folder if it is a checkout",
      ),
    )
    .addOption(jsonOption)
    .addHelpText("after", "\nExample:\n  keyturn new my-app && cd my-app && npm install && npm test")
    .action(async (folder: string, flags: NewFlags) => shell.exit(await make(folder, flags, shell)));
}

async function make(folder: string, flags: NewFlags, shell: Shell): Promise<number> {
  const path = resolve(folder);
  const name = basename(path).toLowerCase();
  if (!NAME.test(name)) {
    const text = `"${basename(path)}" cannot be a package's name: letters, digits, ".", "_" and "-".`;
    throw new KeyturnError("invalid_options", text);
  }
  const there = await readdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw new KeyturnError("invalid_options", `${folder} cannot be used: ${error.message}`);
  });
  if (there.length > 0) throw new KeyturnError("invalid_options", `${folder} is not empty.`);
  const own = packageFolder("keyturn", import.meta.url);
  if (own === undefined) throw new Failure("The package keyturn is not found around this command.");
  const manifest = JSON.parse(await readFile(new URL("package.json", own), "utf8")) as Manifest;
  const files = projectFiles({
    name,
    keyturn: flags.keyturn ?? whereFrom(path, fileURLToPath(own), manifest.version),
    xstate: manifest.dependencies.xstate,
    zod: "^4.6.7",
    vitest: "^4.1.12",
    typescript: ">=5.8",
    types: "^20.19.43",
    overrides: isBefore(22) ? manifest.overrides : undefined,
    natsConf: await readFile(new URL("nats.conf", own), "utf8"),
  });
  for (const [file, text] of Object.entries(files)) {
    await mkdir(dirname(join(path, file)), { recursive: true });
    await writeFile(join(path, file), text, { flag: "wx" });
  }
  const output = new Output(shell, flags);
  const made = Object.keys(files).map((file) => `  ${join(folder, file)}`);
  output.say(
    { event: "made", folder: path, files: Object.keys(files) },
    `${made.join("\n")}\n\nNext:\n  cd ${folder}\n  npm install\n  npm test\n  npm run dev`,
  );
  return DONE;
}

/** What package.json in `project` says of the keyturn that lies in `own`: what is not installed can only be named as a folder. */
export function whereFrom(project: string, own: string, version: string): string {
  if (own.split(sep).includes("node_modules")) return `^${version}`;
  return `file:${relative(project, own).split(sep).join("/")}`;
}

/** Some of what keyturn needs asks for Node 22 in its newest versions, though it runs; npm would warn at each install. */
function isBefore(major: number): boolean {
  return Number.parseInt(process.versions.node, 10) < major;
}

interface Manifest {
  readonly version: string;
  /** Versions of such packages that take Node 20. */
  readonly overrides?: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<"xstate", string>>;
}
