import { main } from "./nodes.ts";

await main();
