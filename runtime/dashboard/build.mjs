/**
 * Bundles the dashboard's page into static files: `node runtime/dashboard/build.mjs`, part of `npm run build`.
 *
 * Types are checked by `npm run types` (page/tsconfig.json), not here: this takes a fraction of a second.
 */
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const page = join(import.meta.dirname, "page");
const out = join(import.meta.dirname, "..", "..", "dist", "runtime", "dashboard", "static");

await mkdir(out, { recursive: true });
await Promise.all([
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
