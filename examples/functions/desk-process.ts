/** The desk as a process: `node desk-process.js PORT`. Tells who started it where it listens. */
import type { AddressInfo } from "node:net";
import { deskServer } from "./desk.ts";

const server = deskServer();
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  process.send?.((server.address() as AddressInfo).port);
});
process.on("disconnect", () => process.exit());
