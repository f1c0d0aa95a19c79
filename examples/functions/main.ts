import { run } from "../run.ts";
import { main } from "./payments.ts";

await run("functions", (open) => main(open));
