import { main } from "./chat.ts";

await main();
