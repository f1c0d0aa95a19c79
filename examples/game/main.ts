import { parseArgs } from "node:util";
import { embedded, isKeyturnError } from "keyturn";
import { natsOn } from "../run.ts";
import { serve } from "./serve.ts";

const HELP = `Noughts and crosses in two windows, that share one actor.

  node dist/examples/game/main.js [--listen HOST:PORT] [--data DIR | --nats HOST:PORT]

  --listen  where the page is served, 127.0.0.1:8090 by default
  --data    the folder in which the tables live, data/game by default
  --nats    a NATS server instead; start it on several ports, and the windows may be at different ones`;

async function main(): Promise<number> {
  let options: { listen?: string; data?: string; nats?: string[]; help?: boolean };
  try {
    options = parseArgs({
      options: {
        listen: { type: "string" },
        data: { type: "string" },
        nats: { type: "string", multiple: true },
        help: { type: "boolean", short: "h" },
      },
    }).values;
    if (options.data !== undefined && options.nats !== undefined)
      throw new Error("It is --data or --nats, not both.");
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`);
    return 2;
  }
  if (options.help === true) {
    console.log(HELP);
    return 0;
  }
  const { listen = "127.0.0.1:8090", data = "data/game", nats } = options;
  try {
    const { url, stop } = await serve(
      listen,
      nats === undefined ? () => embedded({ path: data }) : natsOn(nats, "game"),
    );
    console.log(`Open ${url} in two windows. Ctrl-C ends it; started again, every table is as it was.`);
    await new Promise((resolve) => {
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, resolve);
    });
    await stop();
    return 0;
  } catch (error) {
    if (!isKeyturnError(error)) throw error;
    console.error(error.message);
    return 1;
  }
}

process.exitCode = await main();
