import { main } from "./transfer.ts";

await main();
