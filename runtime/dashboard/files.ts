/**
 * The dashboard's page as it was built: a handful of files in memory.
 *
 * Owns where they lie: beside this module in dist/, where `npm run build` puts them; from the source they are read out of
 * dist/ too. Serves nothing itself.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import { gzipSync } from "node:zlib";

export interface PageFile {
  readonly type: string;
  readonly body: Buffer;
  readonly gzipped: Buffer;
  readonly etag: string;
}

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
};
const FOLDERS = [
  join(import.meta.dirname, "static"),
  join(import.meta.dirname, "..", "..", "dist", "runtime", "dashboard", "static"),
];

let loading: Promise<ReadonlyMap<string, PageFile> | undefined> | undefined;

/** The files by name, read once; undefined while they are not built. */
export async function pageFiles(): Promise<ReadonlyMap<string, PageFile> | undefined> {
  loading ??= load();
  const files = await loading;
  if (files === undefined) loading = undefined;
  return files;
}

async function load(): Promise<ReadonlyMap<string, PageFile> | undefined> {
  for (const folder of FOLDERS) {
    const names = await readdir(folder).catch((): string[] => []);
    if (!names.includes("index.html")) continue;
    const files = names.filter((name) => extname(name) in TYPES);
    return new Map(await Promise.all(files.map(async (name) => [name, await read(folder, name)] as const)));
  }
  return undefined;
}

async function read(folder: string, name: string): Promise<PageFile> {
  const body = await readFile(join(folder, name));
  const digest = createHash("sha256").update(body).digest("base64url").slice(0, 22);
  const gzipped = gzipSync(body, { level: 9 });
  return { type: TYPES[extname(name)] as string, body, gzipped, etag: `"${digest}"` };
}
