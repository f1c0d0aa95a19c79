/**
 * The three servers of examples/nats/production on this machine: TLS on every link, users of least privilege.
 *
 * Owns the copies of their files, within a folder of the caller's; the caller stops the servers.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { writeCertificates } from "./nats-certificates.ts";
import { freePorts } from "./nats-ports.ts";
import { clusterOf, type NatsCluster, startServer } from "./nats-server.ts";
import { copyVariants, passwords } from "./nats-variants.ts";

export interface Production {
  readonly cluster: NatsCluster;
  /** The authority's certificate: a file. */
  readonly ca: string;
  /** Where the first server meets the others. */
  readonly routePort: number;
}

/** Starts them, and resolves when they have found each other. What has been started is stopped if one fails. */
export async function startProduction(folder: string): Promise<Production> {
  const certificates = writeCertificates(folder);
  const ports = await freePorts(9);
  const starts = [0, 1, 2].map((at) => {
    const [port, routePort, webPort] = ports.slice(3 * at, 3 * at + 3);
    const copy = join(folder, `${at}`);
    mkdirSync(copy);
    copyVariants(copy, {
      "production/server.conf": {
        "0.0.0.0:4222": `127.0.0.1:${port}`,
        "0.0.0.0:6222": `127.0.0.1:${routePort}`,
        "0.0.0.0:8443": `127.0.0.1:${webPort}`,
      },
    });
    const env = {
      ...passwords,
      KEYTURN_SERVER_NAME: `keyturn-${at + 1}`,
      KEYTURN_STORE_DIR: join(copy, "store"),
      KEYTURN_ROUTES: JSON.stringify([1, 4, 7].map((of) => `tls://127.0.0.1:${ports[of]}`)),
      KEYTURN_TLS_CERT: certificates.cert,
      KEYTURN_TLS_KEY: certificates.key,
      KEYTURN_TLS_CA: certificates.ca,
    };
    const configFile = join(copy, "production/server.conf");
    return startServer({ configFile, env, name: `keyturn-${at + 1}`, ready_ms: 30_000 });
  });
  const servers = (await Promise.allSettled(starts)).flatMap((one) =>
    one.status === "fulfilled" ? [one.value] : [],
  );
  try {
    await Promise.all(starts);
    const cluster = clusterOf("keyturn", servers);
    await cluster.ready(servers.length);
    return { cluster, ca: certificates.ca, routePort: ports[1] ?? 0 };
  } catch (error) {
    await Promise.all(servers.map((server) => server.stop()));
    throw error;
  }
}
