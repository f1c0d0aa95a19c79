import { main } from "./hello.ts";

await main();
