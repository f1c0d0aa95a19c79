import { run } from "../run.ts";
import { main } from "./hello.ts";

await run("hello", main);
