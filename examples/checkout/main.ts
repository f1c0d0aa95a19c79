import { main } from "./checkout.ts";

await main();
