import { runProgram } from "../program.ts";
import { program } from "./recommend.ts";

await runProgram(program);
