/**
 * Actors modules: files of users that export actor definitions.
 *
 * Owns the loading and the check of what is exported. TypeScript is run by `jiti`, since Node 20 does not; everything
 * else is imported by Node itself.
 *
 * Invariant: a module's `keyturn` and `xstate` are the very ones of this process. Another copy's `reply` and `tell`
 * would be taken for custom actions and do nothing, so another copy is refused.
 */
import { existsSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { extname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { AnyActorDefinition } from "../engine/definition.ts";
import { type Keep, policyOf } from "../engine/keep.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { packageFolder } from "./packages.ts";

const TYPESCRIPT = new Set([".ts", ".mts", ".cts", ".tsx"]);
/** Of these there must be one copy. */
const SHARED = ["keyturn", "xstate"] as const;

/**
 * Loads modules.
 * @param modules paths, or names of packages, as seen from `folder`
 * @param anew read the files again, also those that they import from beside them
 * @throws KeyturnError `invalid_options`
 */
export async function loadActors(
  modules: readonly string[],
  folder = process.cwd(),
  anew = false,
): Promise<readonly AnyActorDefinition[]> {
  return (await loadApp(modules, folder, anew)).actors;
}

/** What modules say of an app. */
export interface App {
  readonly actors: readonly AnyActorDefinition[];
  /** Their `export const keep`. */
  readonly keep?: Keep;
}

/**
 * Loads modules with what they say of the app beside their actors: how much of the journal is kept.
 * @throws KeyturnError `invalid_options`
 */
export async function loadApp(
  modules: readonly string[],
  folder = process.cwd(),
  anew = false,
): Promise<App> {
  let keep: { readonly value: Keep; readonly module: string } | undefined;
  const found = new Map<string, { definition: AnyActorDefinition; module: string }>();
  for (const module of modules) {
    const path = pathOf(module, folder);
    checkCopies(module, path);
    const exported = await load(module, path, anew);
    if (exported.keep !== undefined && definitionsIn(exported.keep) === undefined) {
      keep = keepIn(module, exported.keep, keep);
    }
    for (const definition of definitionsOf(module, exported)) {
      const before = found.get(definition.type);
      if (before !== undefined && before.definition !== definition) {
        throw fault(
          `Two actors are defined with the type "${definition.type}": in ${before.module} and in ${module}.`,
        );
      }
      found.set(definition.type, { definition, module });
    }
  }
  const actors = [...found.values()].map(({ definition }) => definition);
  return keep === undefined ? { actors } : { actors, keep: keep.value };
}

function keepIn(
  module: string,
  value: unknown,
  before: { readonly value: Keep; readonly module: string } | undefined,
): { readonly value: Keep; readonly module: string } {
  try {
    policyOf(value);
  } catch (cause) {
    throw new KeyturnError("invalid_options", `${module}: keep: ${textOf(cause)}`, { cause });
  }
  if (before !== undefined && JSON.stringify(before.value) !== JSON.stringify(value))
    throw fault(`Two modules say otherwise what is kept of the journal: ${before.module} and ${module}.`);
  return { value: value as Keep, module };
}

/** The ready-made actors, which a node hosts that was given none. */
export async function readyMadeActors(): Promise<readonly AnyActorDefinition[]> {
  return definitionsOf("keyturn/actors", await import("keyturn/actors"));
}

function pathOf(module: string, folder: string): string {
  const path = resolve(folder, module);
  if (existsSync(path)) {
    if (statSync(path).isDirectory()) throw fault(`${module} is a folder. Name a file in it.`);
    return path;
  }
  if (!/^[./]/.test(module)) {
    try {
      return createRequire(join(folder, "package.json")).resolve(module);
    } catch {
      // Said below.
    }
  }
  throw fault(`There is no actors module ${module} (${path}).`);
}

function checkCopies(module: string, path: string): void {
  for (const name of SHARED) {
    const own = packageFolder(name, import.meta.url);
    const theirs = packageFolder(name, pathToFileURL(path));
    if (own === undefined || theirs === undefined || own.href === theirs.href) continue;
    const advice =
      name === "keyturn"
        ? "Start the nodes with the project's own command: npx keyturn, in its folder"
        : "Let the project and keyturn share one: npm dedupe, or a version that fits both. A keyturn that is a link has its own: npm config set install-links true --location project, remove node_modules/keyturn, npm install";
    throw fault(
      `${module} uses another copy of ${name} than this command: ${fileURLToPath(theirs)} and ${fileURLToPath(own)}. ${advice}.`,
    );
  }
}

async function load(module: string, path: string, anew: boolean): Promise<Record<string, unknown>> {
  try {
    // Node itself never reads a module twice.
    if (!anew && !TYPESCRIPT.has(extname(path))) return await import(pathToFileURL(path).href);
    const { createJiti } = await import("jiti");
    // No cache on disk: it would be code in a folder that others may write to.
    const options = { fsCache: false, moduleCache: !anew, interopDefault: false, nativeModules: [...SHARED] };
    const jiti = createJiti(pathToFileURL(path).href, options);
    return await jiti.import<Record<string, unknown>>(path);
  } catch (cause) {
    const missing = SHARED.find((name) => isMissing(cause, name));
    if (missing !== undefined) {
      throw fault(`${module} imports ${missing}, which is not installed there: npm install keyturn xstate.`);
    }
    throw new KeyturnError("invalid_options", `${module} cannot be loaded: ${textOf(cause)}`, { cause });
  }
}

function isMissing(error: unknown, name: string): boolean {
  const code = (error as { code?: unknown } | undefined)?.code;
  return (
    (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") &&
    new RegExp(`['"]${name}(?:/[^'"]*)?['"]`).test(textOf(error))
  );
}

/** The definitions among a module's exports. */
function definitionsOf(module: string, exported: Record<string, unknown>): AnyActorDefinition[] {
  const definitions = new Set<AnyActorDefinition>();
  const others: string[] = [];
  for (const [name, value] of Object.entries(exported)) {
    if (name === "default" && Array.isArray(value)) {
      for (const [index, one] of value.entries()) {
        const found = definitionsIn(one);
        if (found === undefined)
          throw fault(`${module}: default[${index}] is ${kindOf(one)}, not an actor's definition.`);
        for (const definition of found) definitions.add(definition);
      }
      continue;
    }
    const found = definitionsIn(value);
    if (found !== undefined) for (const definition of found) definitions.add(definition);
    else others.push(`${name} is ${kindOf(value)}`);
  }
  if (definitions.size > 0) return [...definitions];
  const what = others.length === 0 ? "It exports nothing" : others.join("; ");
  throw fault(
    `${module} exports no actors: what defineActor returns, by name or as a default array. ${what}.`,
  );
}

/** A definition, or those that a view or a sink is made of. */
function definitionsIn(value: unknown): readonly AnyActorDefinition[] | undefined {
  if (isDefinition(value)) return [value];
  const { actors } = (value ?? {}) as { actors?: unknown };
  return Array.isArray(actors) && actors.length > 0 && actors.every(isDefinition) ? actors : undefined;
}

function isDefinition(value: unknown): value is AnyActorDefinition {
  const { type, machine, version } = (value ?? {}) as Partial<AnyActorDefinition>;
  return typeof type === "string" && Number.isSafeInteger(version) && isMachine(machine);
}

function isMachine(value: unknown): boolean {
  return (value as { __xstatenode?: unknown } | undefined | null)?.__xstatenode === true;
}

function kindOf(value: unknown): string {
  if (isMachine(value)) return "a machine that defineActor has not been given";
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return value === undefined ? "undefined" : `${/^[aeiou]/.test(typeof value) ? "an" : "a"} ${typeof value}`;
}

function fault(text: string): KeyturnError {
  return new KeyturnError("invalid_options", text);
}
