import { runProgram } from "../program.ts";
import { program } from "./mail.ts";

await runProgram(program);
