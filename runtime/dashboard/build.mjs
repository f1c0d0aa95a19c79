/**
 * Bundles the dashboard's page into static files: `node runtime/dashboard/build.mjs`, part of `npm run build`.
 *
 * Types are checked by `npm run types` (page/tsconfig.json), not here: this takes a fraction of a second.
 */
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const page = join(import.meta.dirname, "page");
const out = join(import.meta.dirname, "..", "..", "dist", "runtime", "dashboard", "static");

/** What the bundle contains of others, whose licenses go with it. */
const bundled = ["preact", "@dagrejs/dagre", "@dagrejs/graphlib"];
const licenses = async () => {
  const texts = bundled.map(async (name) => {
    const license = join(import.meta.dirname, "..", "..", "node_modules", name, "LICENSE");
    return `${name}\n\n${await readFile(license, "utf8")}`;
  });
  await writeFile(join(out, "licenses.txt"), (await Promise.all(texts)).join("\n\n"));
};

await mkdir(out, { recursive: true });
await Promise.all([
  licenses(),
  cp(join(page, "index.html"), join(out, "index.html")),
  build({
    entryPoints: { app: join(page, "main.tsx"), style: join(page, "style.css") },
    outdir: out,
    bundle: true,
    minify: true,
    format: "esm",
    target: ["es2022", "chrome110", "firefox110", "safari16"],
    jsx: "automatic",
    jsxImportSource: "preact",
    tsconfig: join(page, "tsconfig.json"),
    legalComments: "eof",
    logLevel: "warning",
  }),
]);
