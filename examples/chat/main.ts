import { run } from "../run.ts";
import { main } from "./chat.ts";

await run("chat", main);
