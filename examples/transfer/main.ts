import { run } from "../run.ts";
import { main } from "./transfer.ts";

await run("transfer", main);
