/** What the fragments about telemetry are about. */
import type { Log } from "keyturn/telemetry";

export { startNode } from "keyturn";
export { counter } from "keyturn/actors";
export { logTo } from "keyturn/telemetry";
export { store } from "./readme.ts";
export declare function pino(): Log;
