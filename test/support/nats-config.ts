/** The configuration of a server that is started for a test, a bench or the chaos run. */

export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
  /** Whether the other side must show a certificate too. */
  readonly verify?: boolean;
}

export interface ServerSettings {
  /** "fsync": acknowledged after the disk has it, as `nats.conf` sets it. "process": the server's own default. */
  readonly durability?: "fsync" | "process";
  /** Largest message, in bytes. */
  readonly maxPayload?: number;
  /** What JetStream may take up on disk, in bytes. */
  readonly maxFileStore?: number;
  /** Apps whose plain requests the server maps to shards, and their numbers of shards. */
  readonly apps?: Readonly<Record<string, number>>;
  /** For clients. */
  readonly tls?: TlsFiles;
  /** The `accounts` block, without its name: `{ A { users = [ … ] } }`. JetStream must be enabled in each. */
  readonly accounts?: string;
  /** Whether servers of a cluster tell clients of each other; true by default. */
  readonly advertise?: boolean;
  /** More lines of configuration. */
  readonly extra?: string;
}

/** What a server is and where it listens. */
export interface ServerPlace {
  readonly name: string;
  readonly port: number;
  readonly monitorPort: number;
  readonly storeDir: string;
  readonly cluster?: { readonly name: string; readonly port: number; readonly routes: readonly string[] };
}

export function configText(settings: ServerSettings, place: ServerPlace): string {
  const { durability = "fsync", maxPayload, maxFileStore, apps = { keyturn: 64 }, tls, accounts } = settings;
  const lines = [
    `server_name: ${JSON.stringify(place.name)}`,
    `listen: "127.0.0.1:${place.port}"`,
    `http: "127.0.0.1:${place.monitorPort}"`,
    "jetstream {",
    `  store_dir: ${JSON.stringify(place.storeDir)}`,
  ];
  if (durability === "fsync") lines.push("  sync_interval: always");
  if (maxFileStore !== undefined) lines.push(`  max_file_store: ${maxFileStore}`);
  lines.push("}");
  if (maxPayload !== undefined) lines.push(`max_payload: ${maxPayload}`);
  const mappings = Object.entries(apps).map(
    ([app, shards]) =>
      `  ${JSON.stringify(`${app}.actor.*.*`)}: ${JSON.stringify(
        `${app}.shard.{{partition(${shards},1,2)}}.{{wildcard(1)}}.{{wildcard(2)}}`,
      )}`,
  );
  if (mappings.length > 0) lines.push("mappings = {", ...mappings, "}");
  if (tls !== undefined) {
    lines.push("tls {", `  cert_file: ${JSON.stringify(tls.cert)}`, `  key_file: ${JSON.stringify(tls.key)}`);
    if (tls.ca !== undefined) lines.push(`  ca_file: ${JSON.stringify(tls.ca)}`);
    if (tls.verify === true) lines.push("  verify: true");
    lines.push("}");
  }
  if (place.cluster !== undefined) {
    const { name, port, routes } = place.cluster;
    lines.push("cluster {", `  name: ${JSON.stringify(name)}`, `  listen: "127.0.0.1:${port}"`);
    lines.push(
      `  routes: ${JSON.stringify(routes)}`,
      ...(settings.advertise === false ? ["  no_advertise: true"] : []),
      "}",
    );
  }
  if (accounts !== undefined) lines.push(`accounts: ${accounts}`);
  if (settings.extra !== undefined) lines.push(settings.extra);
  return `${lines.join("\n")}\n`;
}
