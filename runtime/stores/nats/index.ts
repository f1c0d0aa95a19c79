/**
 * The NATS store: many processes, one durable population of actors.
 *
 * Owns the connection and puts the parts together: journal, snapshots, directory and dead letters on JetStream, frames
 * on core NATS. See names.ts for what lies where, provision.ts for how it is made.
 */
import type { AppSettings, Durability, Store } from "../../ports/index.ts";
import { Connection, type ConnectionState } from "./connection.ts";
import { NatsDeadLetters } from "./dead-letters.ts";
import { NatsDirectory } from "./directory.ts";
import { NatsJournal } from "./journal.ts";
import { Names } from "./names.ts";
import type { NatsOptions } from "./options.ts";
import { type ProvisionReport, provisionSettings, provisionStreams } from "./provision.ts";
import { findDurability } from "./server.ts";
import { NatsSnapshots } from "./snapshots.ts";
import { NatsTransport } from "./transport.ts";

export type { NatsOptions, TlsFiles } from "./options.ts";
export type { ProvisionReport, StreamReport } from "./provision.ts";

/**
 * Connects to NATS and makes what is missing there, unless `provision` is false.
 * @throws KeyturnError `unreachable`, `access_denied`, `server_unsuitable`, `not_provisioned`, `app_mismatch`,
 *   `invalid_options`
 */
export async function nats(options: NatsOptions): Promise<NatsStore> {
  const names = new Names(options.app ?? "keyturn");
  const connection = await Connection.open(options);
  try {
    const streams = await provisionStreams(connection, names, options.replicas, options.provision !== false);
    const replicas = Math.min(...streams.map((stream) => stream.replicas));
    const { durability, note } = await findDurability(options, replicas);
    return new NatsStore(connection, names, options, replicas, durability, note);
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/**
 * Connects as a client only: nothing is looked at or made, and no permission on JetStream is needed.
 * @throws KeyturnError `unreachable`, `access_denied`, `server_unsuitable`, `invalid_options`
 */
export async function natsClient(options: NatsOptions): Promise<NatsStore> {
  const names = new Names(options.app ?? "keyturn");
  const connection = await Connection.open(options);
  return new NatsStore(connection, names, options, 1, "process", "A client commits nothing by itself.");
}

/**
 * Makes an app's streams and buckets and writes its settings. Doing it again changes nothing.
 * @throws KeyturnError as `nats`; `app_mismatch` if the app exists with other settings
 */
export async function provisionNats(options: NatsOptions, settings: AppSettings): Promise<ProvisionReport> {
  const names = new Names(options.app ?? "keyturn");
  const connection = await Connection.open(options);
  try {
    const streams = await provisionStreams(connection, names, options.replicas, true);
    return { app: names.app, streams, ...(await provisionSettings(connection, names, settings)) };
  } finally {
    await connection.close();
  }
}

export class NatsStore implements Store {
  readonly description: string;
  readonly durability: Durability;
  /** For people: what commits survive, how that is known, and what to set. */
  readonly durabilityNote: string;
  readonly journal: NatsJournal;
  readonly snapshots: NatsSnapshots;
  readonly directory: NatsDirectory;
  readonly deadLetters: NatsDeadLetters;
  readonly transport: NatsTransport;
  readonly app: string;
  readonly replicas: number;
  readonly #connection: Connection;
  readonly #names: Names;

  /** @internal */
  constructor(
    connection: Connection,
    names: Names,
    options: NatsOptions,
    replicas: number,
    durability: Durability,
    durabilityNote: string,
  ) {
    this.#connection = connection;
    this.#names = names;
    this.app = names.app;
    this.replicas = replicas;
    this.durability = durability;
    this.durabilityNote = durabilityNote;
    const version = connection.nc.info?.version ?? "?";
    this.description = `NATS ${version} at ${connection.nc.getServer()}, app "${names.app}", ${replicas} replica${replicas === 1 ? "" : "s"}`;
    this.journal = new NatsJournal(connection, names);
    this.snapshots = new NatsSnapshots(connection, names, () => replicas > 1);
    this.directory = new NatsDirectory(connection, names);
    this.deadLetters = new NatsDeadLetters(connection, names);
    this.transport = new NatsTransport(connection, names, options);
    this.directory.onSettings = ({ shards }) => {
      this.transport.shards = shards;
    };
  }

  /** Whether the server is reached, in a sentence for people. */
  get connection(): ConnectionState {
    return this.#connection.state;
  }

  /** Hears of problems that no call waits for. */
  onTrouble(callback: (task: string, error: unknown) => void): void {
    this.#connection.onTrouble = callback;
  }

  /** What the app was created with: asked of its nodes, or else read from the server. Undefined if there is no app. */
  async settings(): Promise<AppSettings | undefined> {
    const answer = await this.#connection.request(this.#names.info).catch(() => undefined);
    if (answer === undefined || answer.data.length === 0) return this.directory.settings();
    const settings = answer.json<AppSettings>();
    this.transport.shards = settings.shards;
    return settings;
  }

  async close(): Promise<void> {
    this.directory.close();
    await this.#connection.close();
  }
}
