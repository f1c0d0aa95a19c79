/** What the fragments about HTTP are about. */
import type { KeyturnNode } from "keyturn";

export { serveHttp } from "keyturn/http";
export declare const node: KeyturnNode;
