/** Ports for servers that are restarted on them. */
import { createServer } from "node:net";

/**
 * So many ports of 127.0.0.1 that nobody listens on.
 *
 * They lie below the range that the system draws outgoing ports from. In that range a client that keeps connecting to
 * a server which is down may be given the server's own port as its own, connect to itself, and hold the port.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  for (let tries = 0; ports.size < count; tries++) {
    if (tries > 1000) throw new Error("No free port was found on 127.0.0.1 between 12000 and 32000.");
    const port = 12_000 + Math.floor(Math.random() * 20_000);
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen({ port, host: "127.0.0.1", exclusive: true }, () => probe.close(() => resolve(true)));
  });
}
