/** What package.json promises of Node is true of all that is installed with it. */
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { projectFiles } from "../runtime/cli/templates.ts";

interface Manifest {
  readonly engines: { readonly node: string };
  readonly overrides: Readonly<Record<string, string>>;
}
interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly dev?: boolean; readonly engines?: { readonly node?: string } }>
  >;
}

const read = <T>(file: string): T =>
  JSON.parse(readFileSync(new URL(`../${file}`, import.meta.url), "utf8")) as T;
const manifest = read<Manifest>("package.json");
const own = createRequire(import.meta.url);
// The one that fastify brings.
const semver = createRequire(own.resolve("fastify"))("semver") as {
  minVersion(range: string): { readonly version: string };
  satisfies(version: string, range: string): boolean;
};

it("no package that is installed with this one asks for a newer Node", () => {
  const oldest = semver.minVersion(manifest.engines.node).version;
  const packages = Object.entries(read<Lock>("package-lock.json").packages).filter(
    ([, { dev }]) => dev !== true,
  );
  const asking = packages.filter(([, { engines }]) => !semver.satisfies(oldest, engines?.node ?? "*"));
  expect(packages.length).toBeGreaterThan(50);
  expect(asking.map(([path, { engines }]) => `${path} ${engines?.node}`)).toEqual([]);
});

it("a new project has these versions too, where it needs them", () => {
  const options = {
    name: "app",
    keyturn: "^0.1.0",
    xstate: "^5",
    zod: "^4",
    vitest: "^4",
    typescript: "^5",
    types: "^20",
    natsConf: "",
  };
  const made = (overrides?: Manifest["overrides"]) =>
    JSON.parse(projectFiles({ ...options, overrides })["package.json"] as string) as Partial<Manifest>;
  expect(Object.keys(manifest.overrides)).not.toEqual([]);
  expect(made(manifest.overrides).overrides).toEqual(manifest.overrides);
  expect(made()).not.toHaveProperty("overrides");
});
