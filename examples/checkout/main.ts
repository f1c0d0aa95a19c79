import { run } from "../run.ts";
import { main } from "./checkout.ts";

await run("checkout", main);
