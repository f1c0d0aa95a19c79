import { runProgram } from "../program.ts";
import { program } from "./statistics.ts";

await runProgram(program);
