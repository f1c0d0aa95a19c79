import { runProgram } from "../program.ts";
import { mail } from "./mail.ts";

await runProgram(mail);
