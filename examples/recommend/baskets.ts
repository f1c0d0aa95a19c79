/**
 * The baskets: what each npm package in a `node_modules` folder depends on, to run and to be developed. A package is a
 * customer, and its dependencies are what it has chosen to have together.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, sep } from "node:path";

export interface Basket {
  /** The package's name. */
  readonly name: string;
  /** What it depends on, sorted; at least two. */
  readonly items: readonly string[];
}

const MODULES = "node_modules";

/** The folder in which the packages of this example are installed itself. */
export function installedModules(): string {
  const entry = createRequire(import.meta.url).resolve("cli-table3");
  return entry.slice(0, entry.lastIndexOf(`${sep}${MODULES}${sep}`) + MODULES.length + 1);
}

/**
 * The baskets of all packages in a folder and in those below it, in no order that means anything, but always the same.
 * Of a package that is there in several versions one is taken: the others would be the same customer again.
 * @throws Error with `syscall` if the folder cannot be read
 */
export async function readBaskets(folder: string): Promise<readonly Basket[]> {
  const baskets = new Map<string, Basket>();
  for await (const file of packagesIn(folder)) {
    const basket = basketOf(await readFile(file, "utf8"));
    if (basket !== undefined && !baskets.has(basket.name)) baskets.set(basket.name, basket);
  }
  return [...baskets.values()].sort((a, b) => hashOf(a).compare(hashOf(b)));
}

/**
 * Whether a basket, one in five, is kept from the shop to see how well it guesses. That hangs on its name alone: what a
 * shop has once learnt is never asked of it.
 */
export function isHeldOut(basket: Basket): boolean {
  return (hashOf(basket).at(-1) as number) % 5 === 0;
}

function hashOf({ name }: Basket): Buffer {
  return createHash("sha256").update(name).digest();
}

/** Every package.json of a package that is installed here, outer ones first. */
async function* packagesIn(folder: string): AsyncGenerator<string> {
  const inner: string[] = [];
  for (const entry of (await readdir(folder, { withFileTypes: true })).sort((a, b) =>
    a.name < b.name ? -1 : 1,
  )) {
    const path = join(folder, entry.name);
    if (!entry.isDirectory() || entry.name.startsWith(".")) continue;
    if (entry.name.startsWith("@")) {
      yield* packagesIn(path);
      continue;
    }
    const names = (await readdir(path, { withFileTypes: true })).map(({ name }) => name);
    if (names.includes("package.json")) yield join(path, "package.json");
    if (names.includes(MODULES)) inner.push(join(path, MODULES));
  }
  for (const path of inner) yield* packagesIn(path);
}

/** Undefined for a package that has not chosen two things. */
function basketOf(text: string): Basket | undefined {
  const { name, dependencies, devDependencies } = JSON.parse(text) as {
    name?: unknown;
    dependencies?: object;
    devDependencies?: object;
  };
  const items = Object.keys({ ...dependencies, ...devDependencies }).sort();
  return typeof name === "string" && items.length > 1 ? { name, items } : undefined;
}
