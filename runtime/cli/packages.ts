/** Where packages are: which copy of one a file would import. */
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The folder of a package as a file would import it; undefined if it is not found from there. */
export function packageFolder(name: string, from: string | URL): URL | undefined {
  let entry: string;
  try {
    entry = realpathSync(createRequire(from).resolve(name));
  } catch {
    // Without the name being resolved: a file may lie in the package itself.
    entry = realpathSync(fileURLToPath(from));
  }
  for (let folder = new URL(".", pathToFileURL(entry)); ; folder = new URL("..", folder)) {
    const manifest = new URL("package.json", folder);
    if (existsSync(manifest) && nameIn(manifest) === name) return folder;
    if (folder.pathname === "/" || new URL("..", folder).href === folder.href) return undefined;
  }
}

function nameIn(manifest: URL): unknown {
  try {
    return (JSON.parse(readFileSync(manifest, "utf8")) as { name?: unknown }).name;
  } catch {
    return undefined;
  }
}
