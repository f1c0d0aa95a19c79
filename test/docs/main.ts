/** `npm run docs`: writes docs/reference from the build. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commandLinePage, declaredProgram } from "./command-line.ts";
import { referenceOf, writeReference } from "./reference.ts";

const dist = join(import.meta.dirname, "../..");
const root = join(dist, "..");
const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  exports: Record<string, unknown>;
};
const pages = referenceOf(dist, exports);
writeReference(join(root, "docs/reference"), pages);
const program = await declaredProgram();
writeFileSync(join(root, "docs/reference/command-line.md"), commandLinePage(program));
console.log(`docs/reference/command-line.md: ${program.commands.length} commands`);
for (const { file, entries } of pages) console.log(`docs/reference/${file}: ${entries.length} exports`);
