/** Pages of tests: bundled as users bundle theirs, and served beside the actors that they show. */
import { build, type BuildOptions } from "esbuild";
import type { HttpOptions } from "keyturn/http";

/** As a page's own build, from the sources. @returns the script */
export async function bundled(entry: string, options: BuildOptions = {}): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    platform: "browser",
    format: "esm",
    target: ["chrome110", "firefox110", "safari16"],
    conditions: ["keyturn-source"],
    jsx: "automatic",
    // Warnings of React are part of what is tested.
    define: { "process.env.NODE_ENV": '"development"' },
    logLevel: "silent",
    ...options,
  });
  return outputFiles?.[0]?.text ?? "";
}

/** Serves a script as a page, at `/page`. */
export function pageOf(script: string): NonNullable<HttpOptions["routes"]> {
  const html =
    '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body><script type="module" src="/page.js"></script>';
  return (app) => {
    const open = { config: { open: true } };
    app.get("/page", open, async (_, reply) => reply.type("text/html; charset=utf-8").send(html));
    app.get("/page.js", open, async (_, reply) => reply.type("text/javascript; charset=utf-8").send(script));
  };
}
