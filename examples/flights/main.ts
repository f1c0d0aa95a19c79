/** `npm start`. See job.ts. */
import { runProgram } from "../program.ts";
import { program } from "./job.ts";

await runProgram(program);
