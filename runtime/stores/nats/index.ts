/**
 * The NATS store: many processes, one durable population of actors.
 *
 * Owns the connection and puts the parts together: journal, snapshots, directory and dead letters on JetStream, frames
 * on core NATS. See names.ts for what lies where, provision.ts for how it is made.
 */
import type { Msg } from "@nats-io/transport-node";
import type { AppSettings, Durability, Store } from "../../ports/index.ts";
import { isKeyturnError, KeyturnError } from "../../words/errors.ts";
import { Connection, type ConnectionState } from "./connection.ts";
import { NatsDeadLetters } from "./dead-letters.ts";
import { NatsDirectory, settingsOf } from "./directory.ts";
import { NatsJournal } from "./journal.ts";
import { type Layout, layoutIn, UNSPREAD } from "./layout.ts";
import { Names } from "./names.ts";
import { checkOptions, type NatsOptions } from "./options.ts";
import { type ProvisionReport, provisionSettings, provisionStreams } from "./provision.ts";
import { type DurabilityFound, findDurability } from "./server.ts";
import { NatsSnapshots } from "./snapshots.ts";
import { SpreadSnapshots } from "./spread-snapshots.ts";
import { NatsTransport } from "./transport.ts";

const ASK_TRIES = 3;

export type { NatsOptions, TlsFiles } from "./options.ts";
export type { ProvisionReport, StreamReport } from "./provision.ts";

/**
 * Connects to NATS and makes what is missing there, unless `provision` is false. A cluster that is electing is waited for:
 * three times `timeout_ms`.
 * @throws KeyturnError `unreachable`, `access_denied`, `server_unsuitable`, `not_provisioned`, `app_mismatch`,
 *   `invalid_options`
 */
export async function nats(options: NatsOptions): Promise<NatsStore> {
  const names = namesOf(options);
  const connection = await Connection.open(options);
  try {
    const { streams, layout } = await provisionStreams(
      connection,
      names,
      options,
      options.provision !== false,
    );
    const copies = streams.map((stream) => stream.replicas);
    const found = await findDurability(options, Math.min(...copies));
    return new NatsStore(connection, names, options, copies, layout, found);
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
  const names = namesOf(options);
  const connection = await Connection.open(options);
  const found: DurabilityFound = { durability: "process", note: "A client commits nothing by itself." };
  return new NatsStore(connection, names, options, [1], UNSPREAD, found);
}

/**
 * Makes an app's streams and buckets and writes its settings. Doing it again changes nothing. A cluster that is electing
 * is waited for: three times `timeout_ms`.
 * @throws KeyturnError as `nats`; `app_mismatch` if the app exists with other settings
 */
export async function provisionNats(options: NatsOptions, settings: AppSettings): Promise<ProvisionReport> {
  const names = namesOf(options);
  const connection = await Connection.open(options);
  try {
    const { streams, layout } = await provisionStreams(connection, names, options, true);
    const made = await provisionSettings(connection, names, settings, layout);
    return { app: names.app, streams, layout, ...made };
  } finally {
    await connection.close();
  }
}

/** @throws KeyturnError `invalid_options` */
function namesOf(options: NatsOptions): Names {
  checkOptions(options);
  return new Names(options.app ?? "keyturn");
}

/** Everything of one app on a NATS server, over one connection: what `nats(options)` opens. */
export class NatsStore implements Store {
  readonly description: string;
  readonly durability: Durability;
  /** For people: what commits survive, how that is known, and what to set. */
  readonly durabilityNote: string;
  readonly journal: NatsJournal;
  readonly retention: NatsJournal;
  readonly snapshots: SpreadSnapshots;
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
    copies: readonly number[],
    layout: Layout,
    { durability, note }: DurabilityFound,
  ) {
    this.#connection = connection;
    this.#names = names;
    this.app = names.app;
    const replicas = Math.min(...copies);
    this.replicas = replicas;
    this.durability = durability;
    this.durabilityNote = note;
    const version = connection.nc.info?.version ?? "?";
    this.description = `NATS ${version} at ${connection.nc.getServer()}, app "${names.app}", ${replicas} replica${replicas === 1 ? "" : "s"}`;
    this.journal = new NatsJournal(connection, names, layout);
    this.retention = this.journal;
    this.directory = new NatsDirectory(connection, names, layout);
    const replicated = copies.some((count) => count > 1);
    this.snapshots = new SpreadSnapshots(
      () => this.directory.layout,
      (bucket) => new NatsSnapshots(connection, names, bucket, () => replicated),
      () => this.transport.shards,
    );
    this.deadLetters = new NatsDeadLetters(connection, names);
    this.transport = new NatsTransport(connection, names, options);
    this.transport.layout = () => this.directory.layout;
    this.directory.snapshotsKnown = (shard) => this.snapshots.bucketFor(shard).known;
    this.directory.onSnapshotsKnown = (shard, seq) => this.snapshots.bucketFor(shard).saw(seq);
    this.directory.onSettings = ({ shards }) => {
      this.transport.shards = shards;
    };
  }

  /** Whether the server is reached and does what it is asked, in a sentence for people. */
  get connection(): ConnectionState {
    return this.#connection.state;
  }

  /** Hears of problems that no call waits for. */
  onTrouble(callback: (task: string, error: unknown) => void): void {
    this.#connection.onTrouble = callback;
  }

  /**
   * What the app was created with: asked of its nodes, or else read from the server. Undefined if there is no app.
   * @throws KeyturnError `unreachable` if no node answers and this user may not read it from the server
   */
  async settings(): Promise<AppSettings | undefined> {
    const answer = await this.#askNodes();
    if (answer === undefined) {
      try {
        return await this.directory.settings();
      } catch (cause) {
        if (!isKeyturnError(cause, "access_denied")) throw cause;
        throw new KeyturnError(
          "unreachable",
          `No node of the app "${this.app}" answers, and this user may not read the app's settings from the server. Start a node, or check the name of the app.`,
          { cause },
        );
      }
    }
    const settings = settingsOf(answer.data);
    this.directory.layout = layoutIn(answer.json());
    this.transport.shards = settings.shards;
    return settings;
  }

  /** Whichever node it is that gets the question may just be frozen; the next try gets another one. */
  async #askNodes(): Promise<Msg | undefined> {
    const timeout_ms = this.#connection.timeout_ms / ASK_TRIES;
    for (let tries = 0; tries < ASK_TRIES; tries++) {
      const answer = await this.#connection
        .request(this.#names.info, undefined, { timeout_ms })
        .catch(() => undefined);
      if (answer !== undefined) return answer.data.length === 0 ? undefined : answer;
      if (!this.#connection.connected) return undefined;
    }
    return undefined;
  }

  async close(): Promise<void> {
    this.directory.close();
    await this.#connection.close();
  }
}
