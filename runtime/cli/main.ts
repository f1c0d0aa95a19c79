#!/usr/bin/env -S node --max-semi-space-size=64
/** The command `keyturn`. See program.ts. */
import { run } from "./program.ts";

process.exitCode = await run(process.argv.slice(2));
// What still holds the process then has been given up.
setTimeout(() => process.exit(), 1_000).unref();
