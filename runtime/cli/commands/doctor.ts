/**
 * `keyturn doctor`: whether everything is as it has to be, and what to do where it is not.
 *
 * Owns the checks of this machine and of the app as a whole; the store's own are the store's (diagnose.ts of each).
 * Changes nothing.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, Option } from "commander";
import { ownActors } from "../../own-actors.ts";
import type { Member } from "../../ports/index.ts";
import { diagnoseFolder } from "../../stores/embedded/diagnose.ts";
import { diagnoseNats } from "../../stores/nats/diagnose.ts";
import { isKeyturnError, KeyturnError, textOf } from "../../words/errors.ts";
import { failure, fine, type Finding, warning } from "../../words/findings.ts";
import { natsOptionsOf } from "../options.ts";
import { Output } from "../output.ts";
import { DONE, FAILED, type Shell } from "../shell.ts";
import {
  addTargetOptions,
  DEV_FOLDER,
  isStore,
  openTarget,
  type Target,
  type TargetFlags,
} from "../target.ts";
import { ownedBy, shardTable } from "./cluster.ts";

interface DoctorFlags extends TargetFlags {
  readonly strict?: boolean;
}

/** What package.json asks for. */
const NODE = [20, 19] as const;
const FILES_MIN = 1_024;
const LETTERS = 100;
const MOVING_LOOKS = 20;
const MOVING_MS = 200;

export function addDoctor(program: Command, shell: Shell): void {
  const doctor = program
    .command("doctor")
    .summary("look whether everything is as it has to be")
    .description(
      "Looks at this machine, the server or the folder, and the app, and says what to do where something is not as it has to be. Changes nothing. Exit code 1 if something does not work.",
    );
  addTargetOptions(doctor, { actors: false })
    .option("--monitor <url>", "the server's monitoring address, to be asked what commits survive")
    .addOption(new Option("--strict", "fail for warnings too"))
    .addHelpText(
      "after",
      "\nExamples:\n  keyturn doctor --nats 127.0.0.1:4222 --monitor http://127.0.0.1:8222\n  keyturn doctor --data ./data",
    )
    .action(async (flags: DoctorFlags) => shell.exit(await examine(flags, shell)));
}

async function examine(flags: DoctorFlags, shell: Shell): Promise<number> {
  const output = new Output(shell, flags);
  const findings = [
    ...(await machineFindings()),
    ...(await storeFindings(flags, shell)),
    ...(await appFindings(flags, shell)),
  ];
  const failed = findings.filter(({ level }) => level === "failure").length;
  const warned = findings.filter(({ level }) => level === "warning").length;
  if (output.json) for (const finding of findings) output.row(finding);
  else {
    const marks = {
      ok: output.paint("green", "ok"),
      warning: output.paint("yellow", "warning"),
      failure: output.paint("red", "failure"),
    };
    const width = Math.max(...findings.map(({ check }) => check.length));
    for (const { check, level, text, remedy } of findings) {
      const pad = " ".repeat("failure".length - level.length);
      output.text(`${marks[level]}${pad}  ${check.padEnd(width)}  ${text}`);
      if (remedy !== undefined) output.text(`${" ".repeat(11 + width)}→ ${remedy}`);
    }
    const text = failed > 0 ? `${failed} of ${findings.length} checks failed.` : "Everything works.";
    output.note(warned > 0 ? `${text} Warnings: ${warned}.` : text);
  }
  return failed > 0 || (flags.strict && warned > 0) ? FAILED : DONE;
}

async function machineFindings(): Promise<Finding[]> {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const suits = major > NODE[0] || (major === NODE[0] && minor >= NODE[1]);
  const text = `Node.js ${process.versions.node} on ${process.platform} ${process.arch}.`;
  const findings = [
    suits ? fine("node", text) : failure("node", text, `Install Node.js ${NODE.join(".")} or newer.`),
  ];
  const files = await openFilesMax();
  if (files === undefined) return findings;
  const handles = `This process may have ${files.toLocaleString("en")} files and connections open.`;
  findings.push(
    files < FILES_MIN
      ? warning("file handles", handles, "ulimit -n 4096, or LimitNOFILE= in its unit.")
      : fine("file handles", handles),
  );
  return findings;
}

/** The soft limit; undefined where it cannot be read or there is none. */
async function openFilesMax(): Promise<number | undefined> {
  const text = await readFile("/proc/self/limits", "latin1").catch(() => "");
  const found = /^Max open files +(\d+)/m.exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
}

async function storeFindings(flags: DoctorFlags, shell: Shell): Promise<readonly Finding[]> {
  const { data, nats } = flags;
  if (nats !== undefined) return await diagnoseNats(natsOptionsOf(flags, shell.env));
  const folder = data ?? ((await isStore(DEV_FOLDER)) ? DEV_FOLDER : undefined);
  if (folder !== undefined) return await diagnoseFolder(folder);
  throw new KeyturnError(
    "invalid_options",
    "Say what to look at: --nats HOST:PORT for a NATS server, or --data FOLDER for a folder of this machine.",
  );
}

/** The app: whether it is served, and what waits for somebody. */
async function appFindings(flags: DoctorFlags, shell: Shell): Promise<Finding[]> {
  let target: Target;
  try {
    target = await openTarget({ ...flags, wait: 0, json: true }, shell, { actors: false });
  } catch (error) {
    const code = isKeyturnError(error)
      ? error.code
      : ((error as { cause?: { code?: string } }).cause?.code ?? "");
    if (code === "not_provisioned") return [warning("app", textOf(error), "Start a node.")];
    return [failure("app", textOf(error))];
  }
  try {
    return [...(await nodeFindings(target)), await letterFinding(target)];
  } catch (error) {
    if (isKeyturnError(error, "access_denied")) return [answeredFinding(target)];
    return [failure("app", textOf(error))];
  } finally {
    await target.close();
  }
}

/** A client may not see who the nodes are; but what it was told of the app, it was told by one. */
function answeredFinding({ settings: { shards } }: Target): Finding {
  return fine("app", `A node answers this user: the app has ${shards} shards.`);
}

async function nodeFindings(target: Target): Promise<Finding[]> {
  const { shards } = target.settings;
  let { members, served } = await servedBy(target);
  // Shards that are just moving are soon owned again.
  for (let looks = 0; members.length > 0 && served < shards && looks < MOVING_LOOKS; looks++) {
    await sleep(MOVING_MS);
    ({ members, served } = await servedBy(target));
  }
  if (members.length === 0)
    return [
      warning("nodes", `No node runs: nobody serves the ${shards} shards.`, "keyturn start, or keyturn dev."),
    ];
  const names = members.map(({ node }) => node).join(", ");
  const text = `${members.length} node${members.length === 1 ? "" : "s"} (${names.slice(0, 200)}): ${served} of ${shards} shards are served.`;
  const findings = [
    served < shards
      ? failure(
          "nodes",
          text,
          "keyturn shards --unowned shows the others. They are taken within a lease, unless only nodes with later versions can read them.",
        )
      : fine("nodes", text),
  ];
  const own = new Set(ownActors.map(({ type }) => type));
  const hosts = new Set(
    members.map(({ types }) =>
      types
        .filter((type) => !own.has(type))
        .sort()
        .join(", "),
    ),
  );
  if (hosts.size > 1)
    findings.push(
      warning(
        "types",
        "The nodes do not all host the same types.",
        `Every node of an app hosts all of its types: ${[...hosts].join(" | ")}.`,
      ),
    );
  return findings;
}

async function servedBy(target: Target): Promise<{ members: readonly Member[]; served: number }> {
  const members = await target.store.directory.members();
  const owned = ownedBy(await shardTable(target));
  return {
    members,
    served: members.reduce((sum, { incarnation }) => sum + (owned.get(incarnation) ?? 0), 0),
  };
}

async function letterFinding({ store }: Target): Promise<Finding> {
  const letters = await store.deadLetters.list(LETTERS);
  if (letters.length === 0) return fine("dead letters", "There are none.");
  const count = letters.length < LETTERS ? String(letters.length) : `${LETTERS} or more`;
  return warning(
    "dead letters",
    `There are ${count}.`,
    "keyturn dead list shows them, keyturn dead retry sends them again.",
  );
}
