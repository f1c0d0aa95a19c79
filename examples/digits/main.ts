/** `node dist/examples/digits/main.js`. See job.ts. */
import { main } from "./job.ts";

const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stop.abort(name));
process.exitCode = await main(process.argv.slice(2), stop.signal);
