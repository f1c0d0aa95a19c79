/** A program that starts a NATS server and says where: `<port> <store>`. It ends with code 0 when its time is over. */
import { writeSync } from "node:fs";
import { startServer } from "./nats-server.ts";

const [hold_ms = "0"] = process.argv.slice(2);
const server = await startServer({ durability: "process" });
writeSync(1, `${server.port} ${server.storeDir}\n`);
setTimeout(() => process.exit(0), Number(hold_ms));
