/**
 * What an app needs on the server: its streams and buckets.
 *
 * Owns their configuration. Talks to JetStream's management through `@nats-io/jetstream`. Making what is there already
 * changes nothing; what is there and differs in what matters is refused, because it is somebody else's or from another
 * version.
 */
import {
  jetstreamManager,
  JetStreamApiError,
  type JetStreamManager,
  type StreamConfig,
} from "@nats-io/jetstream";
import type { AppSettings } from "../../ports/index.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { ackOf, expecting, isConflict, isError, isNotFound, refusalOf } from "./api.ts";
import type { Connection } from "./connection.ts";
import { NatsDirectory } from "./directory.ts";
import type { Names } from "./names.ts";
import { SENTINEL } from "./snapshots.ts";

export interface StreamReport {
  readonly stream: string;
  readonly replicas: number;
  /** False if it was there before. */
  readonly made: boolean;
}

export interface ProvisionReport {
  readonly app: string;
  readonly streams: readonly StreamReport[];
  readonly settings: AppSettings;
  /** False if the app existed before. */
  readonly made: boolean;
}

function configs(
  names: Names,
  replicas: number,
): (Partial<StreamConfig> & { name: string; subjects: string[] })[] {
  const common = {
    storage: "file",
    num_replicas: replicas,
    discard: "new",
    allow_direct: true,
    deny_delete: true,
  } as const;
  const bucket = (name: string): Partial<StreamConfig> & { name: string; subjects: string[] } => ({
    ...common,
    name,
    subjects: [names.key(name, ">")],
    max_msgs_per_subject: 1,
    allow_rollup_hdrs: true,
    allow_msg_ttl: true,
  });
  return [
    {
      ...common,
      name: names.journal,
      subjects: [`${names.app}.journal.>`],
      description: "Keyturn: every turn, a lane for each node",
    },
    {
      ...bucket(names.snapshots),
      allow_atomic: true,
      description: "Keyturn: the latest written state of every actor",
    },
    { ...bucket(names.shards), description: "Keyturn: who owns which shard" },
    { ...bucket(names.nodes), description: "Keyturn: who is there" },
    {
      ...common,
      name: names.dead,
      subjects: [`${names.app}.dead.*`],
      max_msgs_per_subject: 1,
      description: "Keyturn: messages that were refused and had nobody waiting",
    },
  ] as (Partial<StreamConfig> & { name: string; subjects: string[] })[];
}

/**
 * Makes what is missing.
 * @param make false to make nothing, and to throw `not_provisioned` if something is missing
 */
export async function provisionStreams(
  connection: Connection,
  names: Names,
  replicas: number | undefined,
  make: boolean,
): Promise<readonly StreamReport[]> {
  const manager = await managerOf(connection);
  const reports: StreamReport[] = [];
  for (const config of configs(names, replicas ?? 1)) {
    const found = await infoOf(manager, config.name);
    if (found !== undefined) {
      checkStream(found, config);
      reports.push({ stream: config.name, replicas: found.num_replicas, made: false });
      continue;
    }
    if (!make) {
      throw new KeyturnError(
        "not_provisioned",
        `The stream ${config.name} is missing. Run "keyturn provision" first.`,
      );
    }
    const { made, replicas: has } = await add(manager, config);
    reports.push({ stream: config.name, replicas: has, made });
  }
  if (make) await putSentinel(connection, names);
  return reports;
}

/**
 * Writes what the app is, or finds out.
 * @throws KeyturnError `app_mismatch` if it exists with other settings
 */
export async function provisionSettings(
  connection: Connection,
  names: Names,
  wanted: AppSettings,
): Promise<{ settings: AppSettings; made: boolean }> {
  const directory = new NatsDirectory(connection, names);
  const before = await directory.settings();
  const settings = before ?? (await directory.app(wanted));
  if (settings.shards !== wanted.shards || settings.format !== wanted.format) {
    throw new KeyturnError(
      "app_mismatch",
      `The app "${names.app}" exists with ${settings.shards} shards in format ${settings.format}, not ${wanted.shards} in format ${wanted.format}. Both are frozen: use it as it is, or another app name.`,
    );
  }
  return { settings, made: before === undefined };
}

async function managerOf(connection: Connection): Promise<JetStreamManager> {
  try {
    return await jetstreamManager(connection.nc, { timeout: connection.timeout_ms });
  } catch (cause) {
    throw new KeyturnError(
      "server_unsuitable",
      `The NATS server offers no JetStream to this user: ${textOf(cause)}. Start it with a jetstream block, as nats.conf has one.`,
      { cause },
    );
  }
}

async function infoOf(manager: JetStreamManager, stream: string): Promise<StreamConfig | undefined> {
  try {
    return (await manager.streams.info(stream)).config;
  } catch (cause) {
    if (cause instanceof JetStreamApiError && cause.apiError().err_code === 10_059) return undefined;
    throw failed(`look at the stream ${stream}`, cause);
  }
}

async function add(
  manager: JetStreamManager,
  config: Partial<StreamConfig> & { name: string },
): Promise<{ made: boolean; replicas: number }> {
  try {
    const { config: made } = await manager.streams.add(config);
    return { made: true, replicas: made.num_replicas };
  } catch (cause) {
    // Somebody else made it at the same moment.
    const found = await infoOf(manager, config.name).catch(() => undefined);
    if (found !== undefined) return { made: false, replicas: found.num_replicas };
    throw failed(`make the stream ${config.name}`, cause);
  }
}

/** What must be as it is here, whoever made the stream. */
function checkStream(found: StreamConfig, wanted: Partial<StreamConfig>): void {
  const faults: string[] = [];
  if (found.subjects.join() !== wanted.subjects?.join())
    faults.push(`its subjects are ${found.subjects.join(", ")}`);
  for (const flag of ["allow_direct", "allow_atomic", "allow_msg_ttl"] as const) {
    if (wanted[flag] === true && found[flag] !== true) faults.push(`${flag} is off`);
  }
  const perSubject = wanted.max_msgs_per_subject ?? -1;
  if ((found.max_msgs_per_subject ?? -1) !== perSubject)
    faults.push(`max_msgs_per_subject is ${found.max_msgs_per_subject}`);
  if (found.storage !== "file") faults.push("it lies in memory");
  if (faults.length === 0) return;
  throw new KeyturnError(
    "app_mismatch",
    `The stream ${found.name} is there, but not as Keyturn makes it: ${faults.join(", ")}. Use another app name, or set it right.`,
  );
}

async function putSentinel(connection: Connection, names: Names): Promise<void> {
  const subject = names.key(names.snapshots, SENTINEL);
  const answer = ackOf(await connection.request(subject, undefined, { headers: expecting(0) }), "provision");
  if (isError(answer) && !isConflict(answer) && !isNotFound(answer)) throw refusalOf("provision", answer);
}

function failed(task: string, cause: unknown): KeyturnError {
  if (cause instanceof KeyturnError) return cause;
  const denied = /permission|authorization/i.test(textOf(cause));
  return new KeyturnError(
    denied ? "access_denied" : "store_failed",
    `NATS would not ${task}: ${textOf(cause)}${denied ? '. Let a user with the provisioner\'s permissions run "keyturn provision" first' : ""}.`,
    { cause },
  );
}
