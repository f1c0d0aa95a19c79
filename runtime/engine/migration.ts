/**
 * Migrations: how a state that an older version of a type wrote becomes one of the version that is hosted.
 *
 * Owns the check of what a user's migration gives, and the order of the steps. Talks to the machine and to the delays.
 * Pure: nothing is written here. An actor is migrated whenever it is loaded, until a turn of it is recorded.
 *
 * Invariants:
 * 1. A migration sees frozen plain data and gives plain data; everything else is refused by name, and the actor is as
 *    it was stored.
 * 2. The first record of a new version is a keyframe (step.ts): recovery and history never add a change to a state of
 *    another version, and run no migration.
 * 3. What is not recorded yet is written back as it was stored (`Turn.unmigrated`), so no state is migrated twice.
 */
import { encode } from "../words/codec.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { seal, sizeOf, ValueFault } from "../words/values.ts";
import type { ActorDefinition, HostedType } from "./definition.ts";
import { reconcileDelays } from "./delays.ts";
import { withBeginning } from "./invocations.ts";
import { isLifeTimer } from "./life.ts";
import {
  familyOf,
  type Machine,
  type MachineSnapshot,
  type MachineState,
  type PackedChild,
  type Timer,
} from "./machine.ts";
import { DISPLACED, SYNCED } from "./machine/family.ts";
import { packTimers } from "./record.ts";
import type { ActorData } from "./state.ts";

/** A state as migrations take and give it. What they take is frozen. */
export interface MigratedState {
  /** As XState has it: `"paid"`, `{ waiting: "payment" }`, or for parallel states an object with each region. */
  readonly value: MachineState["value"];
  // biome-ignore lint/suspicious/noExplicitAny: the context of a version that the program has no types of any more
  readonly context: Readonly<Record<string, any>>;
  readonly status: "active" | "done" | "error";
  /** Of a machine that is done. */
  readonly output: unknown;
  /**
   * What history states remember: ids of state nodes by the id of the history state. What the new machine does not have
   * is forgotten.
   */
  readonly history: Readonly<Record<string, readonly string[]>>;
  /** What the machine has invoked and spawned, parents first. What is left out is gone, with its timers. */
  readonly children?: readonly MigratedChild[];
}

/** An invoked or spawned actor, as migrations take and give it. */
export interface MigratedChild {
  /** Ids from the machine down, joined by `/`. */
  readonly path: string;
  /** Name of this very actor, which its timers and answers carry. To be kept. */
  readonly session: string;
  /** Name of its logic, which the new machine has to have. */
  readonly src: string;
  readonly systemId: string | null;
  readonly syncSnapshot: boolean;
  /** Set if another has taken its id: XState's `children` do not have it, and it goes on. */
  readonly displaced?: boolean;
  /** For a machine `[value, context, status, output, history, error]`, for others what XState persists. */
  readonly state: unknown;
}

/** From one version's state to the next one's. Synchronous; it returns a new state, or the one that it was given. */
export type Migration = (state: MigratedState) => MigratedState;

/** Migrations by the version that they begin with: `migrations[2]` makes a state of version 3 from one of version 2. */
export type Migrations = Readonly<Record<number, Migration>>;

const none: Migrations = Object.freeze({});
const VERSION = /^[1-9]\d{0,14}$/;
const PARTS: ReadonlySet<string> = new Set(["value", "context", "status", "output", "history", "children"]);

/** A frozen copy of what a definition was given. Throws `invalid_options`. */
export function checkMigrations(type: string, version: number, given: unknown): Migrations {
  if (given === undefined) return none;
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new KeyturnError(
      "invalid_options",
      `The migrations of "${type}" are an object with a function for each version to begin with: { 1: (state) => ({ ...state }) }.`,
    );
  }
  for (const [from, migration] of Object.entries(given)) {
    if (!VERSION.test(from) || Number(from) >= version) {
      throw new KeyturnError(
        "invalid_options",
        `"${type}" has a migration from version "${from.slice(0, 40)}"; with version ${version} they begin with ${
          version === 1 ? "none: raise the version" : `1 to ${version - 1}`
        }.`,
      );
    }
    if (typeof migration !== "function") {
      throw new KeyturnError(
        "invalid_options",
        `The migration of "${type}" from version ${from} is no function.`,
      );
    }
  }
  return Object.freeze({ ...(given as Migrations) });
}

/**
 * An older version's state as one of the definition's version; what is not older stays as it is.
 * @throws KeyturnError `migration_failed`
 */
export function migrate(
  definition: Pick<ActorDefinition, "type" | "version" | "machine" | "migrations">,
  data: ActorData,
): ActorData {
  const { type, version, machine, migrations } = definition;
  if (data.version >= version) return data;
  let state = inputOf(type, data);
  for (let from = data.version; from < version; from++) {
    const migration = migrations[from];
    if (migration !== undefined) state = stepped(type, from, migration, state);
  }
  checkSize(type, version - 1, state, data.timers);
  const { value, context, status, output, children = [] } = state;
  const history = rememberedBy(machine, state);
  const { error, children: stored } = data.machine;
  const plain: MachineState = { value, context, status, output, history };
  const migrated = error === undefined ? plain : { ...plain, error };
  return {
    ...data,
    version,
    machine:
      children.length === 0 && stored === undefined
        ? migrated
        : { ...migrated, children: children.map(packChild) },
  };
}

/** What a stored state is in memory: migrated if it has to be, with the timers that its machine waits for. */
export interface Adopted {
  readonly snapshot: MachineSnapshot;
  readonly timers: readonly Timer[];
}

/**
 * A stored state as the hosted version has it.
 * @throws KeyturnError `migration_failed`, `incompatible_snapshot`
 */
export function adopt(hosted: HostedType, data: ActorData, now: number): Adopted {
  const { definition, host } = hosted;
  checkVersion(hosted, data.version);
  if (data.version === definition.version)
    return { snapshot: host.restore(data.machine), timers: data.timers };
  const snapshot = host.restore(migrate(definition, data).machine);
  const timers = ofLiving(snapshot, data.timers);
  const delays = reconcileDelays(snapshot, timers, now, data.turn, definition.delays === "restart");
  return { snapshot, timers: withBeginning(hosted, snapshot, delays, data.timers, now, data.turn) };
}

/** Timers whose child a migration has left out are gone with it. */
function ofLiving(snapshot: MachineSnapshot, timers: readonly Timer[]): readonly Timer[] {
  const family = familyOf(snapshot);
  const lives = (session: string | undefined): boolean =>
    session === undefined || family?.bySession(session) !== undefined;
  const kept = timers.filter((timer) => isLifeTimer(timer) || (lives(timer.source) && lives(timer.target)));
  return kept.length === timers.length ? timers : kept;
}

function packChild(child: MigratedChild): PackedChild {
  const { path, session, src, systemId, syncSnapshot, displaced, state } = child;
  const flags = (syncSnapshot ? SYNCED : 0) | (displaced === true ? DISPLACED : 0);
  return [path, session, src, systemId, flags as PackedChild[4], state];
}

function unpackChild([path, session, src, systemId, flags, state]: PackedChild): MigratedChild {
  const child = { path, session, src, systemId, syncSnapshot: (flags & SYNCED) !== 0, state };
  return (flags & DISPLACED) === 0 ? child : { ...child, displaced: true };
}

/** Throws `newer_version` if a stored state is of a later version than the one that is hosted. */
function checkVersion({ definition: { type, version } }: HostedType, stored: number): void {
  if (stored <= version) return;
  throw new KeyturnError(
    "newer_version",
    `This actor of type "${type}" was written by version ${stored}, and this node hosts version ${version}, which cannot read it. Nothing was changed: run version ${stored} or a later one.`,
  );
}

function inputOf(type: string, { machine, version }: ActorData): MigratedState {
  const { value, context, status, output, history = {} } = machine;
  const children = (machine.children ?? []).map(unpackChild);
  const state = { value, context, status, output, history, children } as MigratedState;
  try {
    seal(state, "the state");
  } catch (cause) {
    throw failed(type, version, `it cannot be given the state: ${textOf(cause)}`, cause);
  }
  return state;
}

function stepped(type: string, from: number, migration: Migration, state: MigratedState): MigratedState {
  let given: unknown;
  try {
    given = migration(state);
  } catch (cause) {
    const hint =
      cause instanceof TypeError && /read only|not extensible|Cannot delete/.test(cause.message)
        ? " The state is frozen: return a new one instead of changing it."
        : "";
    throw failed(type, from, `it threw: ${textOf(cause)}${hint}`, cause);
  }
  if (isThenable(given)) {
    // Nobody waits for it.
    Promise.resolve(given).catch(() => undefined);
    throw failed(type, from, "it is asynchronous. Use a function that returns the state itself");
  }
  const problem = problemOf(given);
  if (problem !== undefined) throw failed(type, from, problem);
  const { value, context, status, output, history = {}, children = [] } = given as MigratedState;
  const next: MigratedState = { value, context, status, output, history, children };
  try {
    seal(next, "state", state);
  } catch (cause) {
    if (cause instanceof ValueFault) throw failed(type, from, cause.message, cause);
    throw cause;
  }
  return next;
}

/** A state that no record could hold must not come into memory: its turns would have nowhere to go. */
function checkSize(type: string, from: number, state: MigratedState, timers: readonly Timer[]): void {
  if (sizeOf(state) + sizeOf(timers) <= limits.stateBytes) return;
  const bytes = encode([state, packTimers(timers)]).length;
  if (bytes <= limits.stateBytes) return;
  const text = `the state would take ${bytes} bytes, at most ${limits.stateBytes} are allowed`;
  throw failed(type, from, text);
}

/** What is wrong with the form of what a migration gave. */
function problemOf(given: unknown): string | undefined {
  if (!isRecord(given))
    return `it returned ${nameOf(given)}, not { value, context, status, output, history }`;
  const stranger = Object.keys(given).find((name) => !PARTS.has(name));
  if (stranger !== undefined)
    return `it returned a state with "${stranger.slice(0, 40)}", which no state has`;
  const { value, context, status, history } = given as Partial<Record<keyof MigratedState, unknown>>;
  if (!isStateValue(value, 0)) return `it returned the value ${nameOf(value)}, which names no state`;
  if (!isRecord(context)) return `it returned ${nameOf(context)} as context, not an object`;
  if (status !== "active" && status !== "done" && status !== "error")
    return `it returned the status ${JSON.stringify(status) ?? nameOf(status)}, not "active", "done" or "error"`;
  if (history !== undefined && !isHistory(history))
    return "it returned a history that is not lists of state node ids";
  const { children } = given;
  if (children !== undefined && !(Array.isArray(children) && children.every(isChild)))
    return "it returned children that are not { path, session, src, systemId, syncSnapshot, state }";
  return undefined;
}

const VALUE_DEPTH = 64;

function isStateValue(value: unknown, depth: number): boolean {
  if (typeof value === "string") return value !== "";
  return (
    depth < VALUE_DEPTH &&
    isRecord(value) &&
    Object.values(value).every((inner) => isStateValue(inner, depth + 1))
  );
}

function isHistory(history: unknown): boolean {
  return (
    isRecord(history) &&
    Object.values(history).every((ids) => Array.isArray(ids) && ids.every((id) => typeof id === "string"))
  );
}

function isChild(child: unknown): boolean {
  return (
    isRecord(child) &&
    typeof child.path === "string" &&
    typeof child.session === "string" &&
    typeof child.src === "string" &&
    (child.systemId === null || typeof child.systemId === "string") &&
    typeof child.syncSnapshot === "boolean" &&
    (child.displaced === undefined || typeof child.displaced === "boolean")
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | undefined | null)?.then === "function";
}

function nameOf(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (Array.isArray(value)) return "an array";
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  if (typeof value !== "object") return `a ${typeof value}`;
  const name: unknown = value.constructor?.name;
  return name === "Object" || typeof name !== "string" ? "an object" : `an instance of ${name}`;
}

/** What of a history the machine can still go back to: states within the parent of a history state that it has. */
function rememberedBy(machine: Machine, { history }: MigratedState): MachineState["history"] {
  const known = Object.entries(history).filter(([node, ids]) => {
    const parent = nodeOf(machine, node)?.parent;
    return parent !== undefined && ids.every((id) => isWithin(nodeOf(machine, id), parent));
  });
  return known.length === 0 ? undefined : Object.fromEntries(known);
}

type Node = Machine["root"];

function nodeOf(machine: Machine, id: string): Node | undefined {
  try {
    return machine.getStateNodeById(id);
  } catch {
    return undefined;
  }
}

function isWithin(node: Node | undefined, parent: Node): boolean {
  for (let at = node?.parent; at !== undefined; at = at.parent) if (at === parent) return true;
  return false;
}

function failed(type: string, from: number, problem: string, cause?: unknown): KeyturnError {
  return new KeyturnError(
    "migration_failed",
    `The migration of "${type}" from version ${from} to ${from + 1} failed: ${problem}. The actor stays as it is stored. Deploy a migration that works; "keyturn check" tries it on every actor.`,
    cause === undefined ? {} : { cause },
  );
}
