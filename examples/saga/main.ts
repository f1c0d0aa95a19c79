import { run } from "../run.ts";
import { main } from "./saga.ts";

await run("saga", main);
