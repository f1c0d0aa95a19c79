/**
 * The node, its actors over HTTP, and the page: one process, one port.
 *
 * The page is bundled when the program starts, out of its sources; a project of its own would do that in its build.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { type KeyturnNode, memory, startNode } from "keyturn";
import { type HttpOptions, type HttpServer, serveHttp } from "keyturn/http";
import type { OpenStore } from "../run.ts";
import { game } from "./game.ts";

/** Beside this module, or where it was compiled from. */
const FOLDER = [
  join(import.meta.dirname, "page"),
  join(import.meta.dirname, "..", "..", "..", "examples", "game", "page"),
].find((folder) => existsSync(join(folder, "main.tsx")));

export interface Served {
  /** Where the page is. */
  readonly url: string;
  stop(): Promise<void>;
}

/** @param listen `host:port`; port 0 is any that is free */
export async function serve(listen: string, open: OpenStore = memory): Promise<Served> {
  const routes = await pageRoutes();
  const node: KeyturnNode = await startNode({ actors: [game], store: await open() });
  let server: HttpServer;
  try {
    server = await serveHttp(node, { listen, routes });
  } catch (error) {
    await node.stop();
    throw error;
  }
  return {
    url: `${server.url}/game`,
    stop: async () => {
      await server.close();
      await node.stop();
    },
  };
}

async function pageRoutes(): Promise<NonNullable<HttpOptions["routes"]>> {
  if (FOLDER === undefined) throw new Error("The sources of the page are not there.");
  const { outputFiles } = await build({
    entryPoints: { game: join(FOLDER, "main.tsx"), style: join(FOLDER, "style.css") },
    outdir: "game",
    bundle: true,
    write: false,
    minify: true,
    format: "esm",
    target: ["chrome110", "firefox110", "safari16"],
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
    // In this repository "keyturn" is its sources.
    conditions: ["keyturn-source"],
    logLevel: "warning",
  });
  const html = await readFile(join(FOLDER, "index.html"), "utf8");
  const files = new Map(outputFiles.map(({ path, text }) => [path.slice(path.lastIndexOf(".")), text]));
  return (app) => {
    // Its files say nothing of anybody; what it shows it asks for like every client.
    const open = { config: { open: true } };
    const types = { "": "text/html", ".js": "text/javascript", ".css": "text/css" } as const;
    for (const [ending, type] of Object.entries(types)) {
      const text = ending === "" ? html : (files.get(ending) ?? "");
      app.get(`/game${ending}`, open, async (_, reply) => reply.type(`${type}; charset=utf-8`).send(text));
    }
  };
}
