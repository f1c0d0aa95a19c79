import { main } from "./history.ts";

await main();
