/**
 * The conformance cases: what `@scion-scxml/test-framework` ships, and what a run of one of them is.
 *
 * Owns the list of cases, the steps that a script (.json) means, and the driving of a subject through them. Talks to the
 * package's folder. Every .scxml is a case but those that others invoke or read; one without a script is listed too.
 */
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { StateValue } from "xstate";
import { BEGIN, type MachineEvent } from "./content.ts";

/** A script: the basic states that are active at first and after each event. */
export interface Script {
  readonly initialConfiguration: readonly string[];
  readonly events: readonly {
    /** Milliseconds to wait before the event. */
    readonly after?: number;
    readonly event: { readonly name: string; readonly data?: unknown };
    readonly nextConfiguration: readonly string[];
  }[];
}

export interface Case {
  /** `group/name`. */
  readonly id: string;
  readonly folder: string;
  readonly text: string;
  /** Undefined if the framework has none. */
  readonly script: Script | undefined;
}

/** What a subject does next. */
export interface Step {
  readonly wait_ms: number;
  readonly event: MachineEvent | undefined;
  /** Undefined where the script says nothing. */
  readonly expected: readonly string[] | undefined;
}

/** What can be seen of a subject after a step. */
export interface Observation {
  /** Ids of the active basic states, sorted. */
  readonly states: readonly string[];
  readonly status: string;
  readonly context: unknown;
  readonly output: unknown;
}

/** Something that runs a machine. */
export interface Subject {
  /** Resolves when everything that follows without time has happened. */
  send(event: MachineEvent): Promise<void>;
  /** Lets time pass. */
  wait(ms: number): Promise<void>;
  look(): Promise<Observation>;
  /** Forgets everything that is not stored. */
  restart(): Promise<void>;
}

/** For scripts without events, of tests that reach their verdict alone: how long they have, in three parts. */
const ALONE_MS = [400, 1_000, 8_600];

export function loadCases(): Case[] {
  const root = join(
    dirname(createRequire(import.meta.url).resolve("@scion-scxml/test-framework/package.json")),
    "test",
  );
  return readdirSync(root)
    .sort()
    .flatMap((group) => {
      const folder = join(root, group);
      const files = readdirSync(folder).sort();
      return files
        .filter((file) => file.endsWith(".scxml") && !/sub\d+\.scxml$/.test(file))
        .map((file) => {
          const name = file.replace(/(\.txml)?\.scxml$/, "");
          const json = file.replace(/\.scxml$/, ".json");
          const script = files.includes(json)
            ? (JSON.parse(readFileSync(join(folder, json), "utf8")) as Script)
            : undefined;
          return { id: `${group}/${name}`, folder, text: readFileSync(join(folder, file), "utf8"), script };
        });
    });
}

/** Whether time passes before a script's first event: then the machine waits for `(begin)`; see convert.ts. */
export function isGated({ events }: Script): boolean {
  return events.length === 0 || (events[0]?.after ?? 0) > 0;
}

/**
 * The steps of a script. Its initial configuration is looked at only if the first event comes at once: where the script
 * waits, it says what could be seen before anything had arrived that the machine sends itself, and XState delivers that
 * without delay. (XState's own suite looks at no initial configuration at all.)
 */
export function stepsOf(script: Script): Step[] {
  const { initialConfiguration, events } = script;
  const alone = events.length === 0;
  const first: Step = {
    wait_ms: 0,
    event: isGated(script) ? { type: BEGIN } : undefined,
    expected: isGated(script) ? undefined : initialConfiguration,
  };
  if (alone) {
    const last = ALONE_MS.length - 1;
    const waits = ALONE_MS.map((wait_ms, at) => ({
      wait_ms,
      event: undefined,
      expected: at === last ? initialConfiguration : undefined,
    }));
    return [first, ...waits];
  }
  return [
    first,
    ...events.map(({ after = 0, event: { name, data }, nextConfiguration }) => ({
      wait_ms: after,
      event: { type: name, ...(data === undefined ? {} : { data }) },
      expected: nextConfiguration,
    })),
  ];
}

/** What was seen of a subject on its way. */
export interface Course {
  /** After each step. */
  readonly seen: readonly Observation[];
  /** After each restart, before anything else happened: before every step but the first, and once in the end. */
  readonly restored: readonly Observation[];
}

/** Drives a subject: it is restarted before every step, once more within each wait, and in the end. */
export async function drive(subject: Subject, steps: readonly Step[]): Promise<Course> {
  const seen: Observation[] = [];
  const restored: Observation[] = [];
  for (const { wait_ms, event } of steps) {
    if (wait_ms > 0) {
      const half = Math.floor(wait_ms / 2);
      await subject.wait(half);
      await subject.restart();
      await subject.wait(wait_ms - half);
    }
    if (event !== undefined) await subject.send(event);
    seen.push(await subject.look());
    await subject.restart();
    restored.push(await subject.look());
  }
  return { seen, restored };
}

/** The basic states of a value: the leaves. (A region that is a basic state itself has an empty value.) */
export function basicStates(value: StateValue): string[] {
  const leaves = (part: StateValue): string[] =>
    typeof part === "string"
      ? [part]
      : Object.entries(part).flatMap(([name, inner = {}]) =>
          typeof inner === "object" && Object.keys(inner).length === 0 ? [name] : leaves(inner),
        );
  return leaves(value).sort();
}

export function sameStates(expected: readonly string[], states: readonly string[]): boolean {
  return [...expected].sort().join(" ") === states.join(" ");
}
