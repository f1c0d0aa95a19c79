/**
 * What the examples' command lines have in common: each runs on a store of its own, or with `--nats HOST:PORT` on a
 * NATS server, where any number of machines could share it.
 */
import { parseArgs } from "node:util";
import { isKeyturnError, nats, type Store } from "keyturn";

export type OpenStore = () => Store | Promise<Store>;

/**
 * Runs an example, and sets the exit code: 1 for what went wrong outside of it, 2 for a wrong command line.
 * @param app its name on a server
 */
export async function run(app: string, main: (open?: OpenStore) => Promise<unknown>): Promise<void> {
  let servers: string[] | undefined;
  try {
    servers = parseArgs({ options: { nats: { type: "string", multiple: true } } }).values.nats;
  } catch (error) {
    console.error(`${(error as Error).message}\nUsage: node ${process.argv[1]} [--nats HOST:PORT]`);
    process.exitCode = 2;
    return;
  }
  try {
    await main(servers && natsOn(servers, app));
  } catch (error) {
    if (!isKeyturnError(error)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}

/** A store on NATS for one example: each is an app of its own, since every node hosts all actors of its app. */
export function natsOn(servers: string | readonly string[], app: string): OpenStore {
  return () => nats({ servers, app });
}
