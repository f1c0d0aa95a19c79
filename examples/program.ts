/**
 * What the larger examples have in common as command lines: `--data DIR` or `--nats HOST:PORT`, `--json`, `--help`,
 * options of their own, a progress bar, an end by a signal, and exit codes.
 *
 * Owns the store that a program runs on, and standard error. On a terminal the progress is a bar; elsewhere it is a line
 * for each tenth, which a log can hold. With `--json` standard output is one JSON document and nothing else.
 */
import { constants } from "node:os";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { SingleBar } from "cli-progress";
import { embedded, isKeyturnError, type Store } from "keyturn";
import { natsOn } from "./run.ts";

/** Options of a program's own, by name; all of them take a text. */
export type OwnOptions = Readonly<Record<string, string | undefined>>;

/** What a program is given to run. */
export interface Run {
  readonly store: Store;
  readonly options: OwnOptions;
  /** Aborted when the program shall end early. */
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/** Says how far it is. */
export interface Progress {
  /** @param unit in the plural, for example "mails" */
  start(total: number, done: number, unit: string): void;
  /** @param note what else there is to say */
  update(done: number, note?: string): void;
  stop(): void;
}

/** What came of it: as data for `--json`, and for people. */
export interface Result {
  readonly json: unknown;
  readonly text: string;
}

export interface Program {
  /** Name of the app on a server, and of the folder under `data/`. */
  readonly app: string;
  readonly help: string;
  /** Names of its own options. */
  readonly options: readonly string[];
  /** What cannot be done if something outside is wrong, for example "The flights cannot be played into". */
  readonly cannot?: string;
  /** Refuses options that make no sense, by throwing. */
  check?(options: OwnOptions): void;
  /** @returns undefined if it was stopped before its end */
  run(run: Run): Promise<Result | undefined>;
}

/** Something that a program itself finds it cannot do. */
export class ProgramError extends Error {}

/** How long to wait for another process to leave the folder, and how often to look. */
const LOCK_WAIT_MS = 3_000;
const LOCK_LOOK_MS = 50;

/** Runs a program with the arguments of this process until it ends or is told to, and sets the exit code. */
export async function runProgram(program: Program): Promise<void> {
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort(name));
  process.exitCode = await execute(program, process.argv.slice(2), stop.signal);
}

/**
 * Runs a program.
 * @param args of the command line, without node and the program
 * @param signal stops it early, its reason being the name of a process signal
 * @returns the exit code: 0, 1 for a failure, 2 for a command line that makes no sense, 128 and more for a signal
 */
export async function execute(
  program: Program,
  args: readonly string[],
  signal: AbortSignal,
): Promise<number> {
  const line = commandLine(program, args);
  if (line === undefined) return 2;
  if (line.help) {
    process.stdout.write(`${program.help}\n`);
    return 0;
  }
  const { place, options, json } = line;
  try {
    const store = await place.open(signal);
    let result: Result | undefined;
    try {
      result = await program.run({ store, options, signal, progress: progressOn(process.stderr, json) });
    } finally {
      await store.close();
    }
    if (result === undefined) {
      process.stderr.write("Stopped. Run it again, and it goes on from here.\n");
      return 128 + constants.signals[signal.reason as NodeJS.Signals];
    }
    process.stdout.write(
      json
        ? `${JSON.stringify(result.json)}\n`
        : `${result.text}\nThe actors live in ${place.text}. Run it again: nothing counts twice.\n`,
    );
    return 0;
  } catch (error) {
    if (!isExpected(error)) throw error;
    process.stderr.write(`${program.cannot ?? "It does not work in"} ${place.text}: ${error.message}\n`);
    return 1;
  }
}

interface Line {
  readonly place: Place;
  readonly options: OwnOptions;
  readonly json: boolean;
  readonly help: boolean;
}

/** The options that all have. */
interface Common {
  readonly data?: string;
  readonly nats?: string[];
  readonly json: boolean;
  readonly help: boolean;
}

/** Undefined, and the reason on standard error, if it makes no sense. */
function commandLine(program: Program, args: readonly string[]): Line | undefined {
  const own = Object.fromEntries(program.options.map((name) => [name, { type: "string" as const }]));
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        ...own,
        data: { type: "string" },
        nats: { type: "string", multiple: true },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    const { data, nats, json, help, ...options } = values as Common & Record<string, unknown>;
    if (data === "") throw new Error("--data needs the name of a folder.");
    if (nats?.includes("")) throw new Error("--nats needs HOST:PORT.");
    if (data !== undefined && nats !== undefined) throw new Error("It is --data or --nats, not both.");
    program.check?.(options as OwnOptions);
    return { place: placeOf(program.app, data, nats), options: options as OwnOptions, json, help };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${program.help}\n`);
    return undefined;
  }
}

/** A whole number above 0 out of an option; undefined without it. */
export function countOf(options: OwnOptions, name: string): number | undefined {
  const text = options[name];
  if (text === undefined) return undefined;
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 1) throw new Error(`--${name} needs a whole number above 0.`);
  return number;
}

/** A whole number within bounds out of an option; undefined without it. */
export function numberOf(options: OwnOptions, name: string, least: number, most: number): number | undefined {
  const text = options[name];
  if (text === undefined) return undefined;
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(number >= least && number <= most))
    throw new Error(`--${name} is a whole number from ${least} to ${most}.`);
  return number;
}

/** Where the actors live. */
interface Place {
  /** For people. */
  readonly text: string;
  open(signal: AbortSignal): Promise<Store>;
}

function placeOf(
  app: string,
  data: string | undefined = `data/${app}`,
  nats?: readonly string[] | undefined,
): Place {
  if (nats !== undefined) {
    return { text: `NATS at ${nats.join(", ")}, app "${app}"`, open: async () => natsOn(nats, app)() };
  }
  const path = resolve(data);
  return { text: path, open: (signal) => openFolder(path, signal) };
}

/** Opens a folder. Whoever has it may be about to end: a program that was killed may outlive its shell. */
async function openFolder(path: string, signal: AbortSignal): Promise<Store> {
  const end_ms = performance.now() + LOCK_WAIT_MS;
  while (true) {
    try {
      return await embedded({ path });
    } catch (error) {
      if (!isKeyturnError(error, "store_locked") || performance.now() > end_ms || signal.aborted) throw error;
      await sleep(LOCK_LOOK_MS);
    }
  }
}

function progressOn(stream: NodeJS.WriteStream, json: boolean): Progress {
  if (stream.isTTY) return barOn(stream);
  return json ? silence : linesOn(stream);
}

const silence: Progress = { start: () => undefined, update: () => undefined, stop: () => undefined };

function barOn(stream: NodeJS.WriteStream): Progress {
  const bar = new SingleBar({
    stream,
    format: "{bar} {percentage}% | {value} of {total} {unit}{note} | {duration_formatted}",
    barCompleteChar: "█",
    barIncompleteChar: "░",
    gracefulExit: false,
    hideCursor: true,
  });
  return {
    start: (total, done, unit) => bar.start(total, done, { unit, note: "" }),
    update: (done, note) => bar.update(done, { note: note === undefined ? "" : ` | ${note}` }),
    stop: () => bar.stop(),
  };
}

function linesOn(stream: NodeJS.WriteStream): Progress {
  let total = 0;
  let unit = "";
  let said = 0;
  return {
    start(total_, done, unit_) {
      [total, unit, said] = [total_, unit_, Math.floor((10 * done) / total_)];
    },
    update(done, note) {
      const tenths = Math.floor((10 * done) / total);
      if (tenths <= said) return;
      said = tenths;
      stream.write(
        `${10 * tenths}% | ${done} of ${total} ${unit}${note === undefined ? "" : ` | ${note}`}\n`,
      );
    },
    stop: () => undefined,
  };
}

/** What can go wrong outside of a program, and says itself what it is. */
function isExpected(error: unknown): error is Error {
  return (
    error instanceof ProgramError || isKeyturnError(error) || (error instanceof Error && "syscall" in error)
  );
}
