/**
 * The conformance table: what became of each case, plain and durable.
 *
 * Owns the verdicts. All of them come from running; none is written down anywhere. Talks to the converter and to the
 * two subjects.
 */
import { isDeepStrictEqual } from "node:util";
import { isKeyturnError } from "../../runtime/index.ts";
import {
  type Case,
  type Course,
  drive,
  isGated,
  type Observation,
  sameStates,
  type Step,
  stepsOf,
} from "./cases.ts";
import { convert } from "./convert.ts";
import { ConversionError } from "./document.ts";
import { type DurableOptions, DurableSubject } from "./durable.ts";
import { PlainSubject } from "./plain.ts";

export interface Row {
  readonly id: string;
  /**
   * `pass` as its script says, `fail` otherwise; `not converted` if XState has nothing for what the document uses;
   * `no script` if the framework does not say what is to come of it.
   */
  readonly plain: "pass" | "fail" | "not converted" | "no script";
  /**
   * `same` states, data and status as plain after every step, or `different`; `refused` by the runtime as a machine that
   * it does not host; `not run` where plain gives nothing to compare with.
   */
  readonly durable: "same" | "different" | "refused" | "not run";
  /** Why it is not `pass` or not `same`; empty if it is both. */
  readonly reason: string;
}

export interface Totals {
  readonly cases: number;
  readonly passes: number;
  /** Of the cases that plain passes, those that are the same on the durable actor. */
  readonly same: number;
}

export async function rowOf(one: Case, options: DurableOptions = {}): Promise<Row> {
  const { id, script } = one;
  if (script === undefined)
    return { id, plain: "no script", durable: "not run", reason: "the framework has no .json for it" };
  const machineOf = () => convert(one.text, one.folder, isGated(script));
  const steps = stepsOf(script);
  let plain: { course: Course; fault: string | undefined };
  try {
    plain = await plainRun(machineOf, steps);
  } catch (error) {
    if (error instanceof ConversionError)
      return { id, plain: "not converted", durable: "not run", reason: `the document ${error.message}` };
    return { id, plain: "fail", durable: "not run", reason: `XState throws: ${textOf(error)}` };
  }
  const verdict = plain.fault === undefined ? "pass" : "fail";
  const durable = await durableRun(machineOf, steps, plain.course, options);
  const about = plain.fault === undefined ? undefined : aboutOf(one.text);
  const reasons = [plain.fault, about, durable.fault].filter((fault) => fault !== undefined);
  return { id, plain: verdict, durable: durable.verdict, reason: reasons.join("; ") };
}

export function totalsOf(rows: readonly Row[]): Totals {
  const passing = rows.filter(({ plain }) => plain === "pass");
  const same = passing.filter(({ durable }) => durable === "same");
  return { cases: rows.length, passes: passing.length, same: same.length };
}

async function plainRun(machineOf: () => ReturnType<typeof convert>, steps: readonly Step[]) {
  const subject = new PlainSubject(machineOf());
  try {
    const course = await drive(subject, steps);
    return { course, fault: faultOf(course.seen, steps) };
  } finally {
    subject.stop();
  }
}

/** What is not as the script says. */
function faultOf(seen: readonly Observation[], steps: readonly Step[]): string | undefined {
  for (const [at, { expected, event }] of steps.entries()) {
    const states = seen[at]?.states ?? [];
    if (expected === undefined || sameStates(expected, states)) continue;
    const when = at === 0 ? "at first" : event === undefined ? "in the end" : `after "${event.type}" (${at})`;
    return `XState is in ${list(states)} ${when}, expected ${list([...expected].sort())}`;
  }
  return undefined;
}

async function durableRun(
  machineOf: () => ReturnType<typeof convert>,
  steps: readonly Step[],
  plain: Course,
  options: DurableOptions,
): Promise<{ verdict: Row["durable"]; fault: string | undefined }> {
  let subject: DurableSubject | undefined;
  try {
    subject = await DurableSubject.start(machineOf, options);
    const fault = differenceOf(plain, await drive(subject, steps));
    return { verdict: fault === undefined ? "same" : "different", fault };
  } catch (error) {
    const refused = isKeyturnError(error) && error.code === "unsupported_machine";
    return { verdict: refused ? "refused" : "different", fault: `Keyturn: ${textOf(error)}` };
  } finally {
    await subject?.end();
  }
}

/** The first difference between what was seen of two subjects. */
function differenceOf(plain: Course, durable: Course): string | undefined {
  for (const at of plain.seen.keys()) {
    const after = differs(plain.seen[at], durable.seen[at]);
    if (after !== undefined) return `after step ${at} ${after}`;
    const restored = differs(plain.restored[at], durable.restored[at]);
    if (restored !== undefined) return `restored after step ${at} ${restored}`;
  }
  return undefined;
}

function differs(plain: Observation | undefined, durable: Observation | undefined): string | undefined {
  const [mine, theirs] = [known(plain), known(durable)];
  return isDeepStrictEqual(mine, theirs)
    ? undefined
    : `the durable actor is ${JSON.stringify(theirs)}, plain XState is ${JSON.stringify(mine)}`;
}

/** Without what has no value: a name without a value and no name are one to every expression but `in`. */
function known(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(known);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries.map(([name, item]) => [name, known(item)]));
}

/** What a document says in its head that it is about. */
function aboutOf(text: string): string | undefined {
  const head = text.slice(0, text.search(/<scxml[\s>]/));
  const comment = /<!--([\s\S]*?)-->/.exec(head)?.[1]?.replace(/\s+/g, " ").trim();
  return comment === undefined || comment.includes("Copyright")
    ? undefined
    : `it is to show: ${comment.slice(0, 160)}`;
}

function list(states: readonly string[]): string {
  return `[${states.join(" ")}]`;
}

function textOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ").slice(0, 200);
}
