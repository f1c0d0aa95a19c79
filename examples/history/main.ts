import { run } from "../run.ts";
import { main } from "./history.ts";

await run("history", main);
