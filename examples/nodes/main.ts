import { run } from "../run.ts";
import { main } from "./nodes.ts";

await run("nodes", main);
