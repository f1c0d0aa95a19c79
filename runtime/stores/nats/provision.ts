/**
 * What an app needs on the server: its streams and buckets.
 *
 * Owns their configuration. Talks to JetStream's management through `@nats-io/jetstream`. Making what is there already
 * changes nothing; what is there and differs in what matters is refused, because it is somebody else's or from another
 * version. A cluster that is electing, or gathering, is waited for (patience.ts): every step here may be taken twice.
 */
import { randomUUID } from "node:crypto";
import {
  jetstreamManager,
  JetStreamApiError,
  type JetStreamManager,
  type StreamConfig,
  type StreamInfo,
} from "@nats-io/jetstream";
import type { AppSettings } from "../../ports/index.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import { expecting, isConflict, isError, isStreamMissing, publishTo, refusalOf } from "./api.ts";
import type { Connection } from "./connection.ts";
import { NatsDirectory } from "./directory.ts";
import { deniedBy } from "./faults.ts";
import { type Layout, sameLayout } from "./layout.ts";
import type { Names } from "./names.ts";
import type { NatsOptions } from "./options.ts";
import { patiently } from "./patience.ts";
import { SENTINEL } from "./snapshots.ts";

/** The largest message, with its headers. */
const MESSAGE_BYTES = 1_048_576;
/** Names the making of a stream, in its metadata. */
const MAKER = "keyturn.made";
/** More replicas than servers, and replicas without a cluster. */
const NO_SUCH_CLUSTER: ReadonlySet<number> = new Set([10_005, 10_074]);

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
  readonly layout: Layout;
  /** False if the app existed before. */
  readonly made: boolean;
}

type Wanted = Partial<StreamConfig> & { name: string; subjects: string[] };

/** The streams that every app has, and those that depend on how it is spread. */
function configs(names: Names, replicas: number): { fixed: Wanted[]; spread(layout: Layout): Wanted[] } {
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
  const fixed = [
    { ...bucket(names.shards), description: "Keyturn: who owns which shard" },
    { ...bucket(names.nodes), description: "Keyturn: who is there" },
    {
      ...common,
      name: names.dead,
      subjects: [`${names.app}.dead.*`],
      max_msgs_per_subject: 1,
      description: "Keyturn: messages that were refused and had nobody waiting",
    },
  ] as Wanted[];
  const spread = (layout: Layout): Wanted[] => {
    const journals = Array.from({ length: layout.journals }, (_, number) => ({
      ...common,
      name: names.journalStream(number),
      subjects: [names.journalSubjects(number, layout)],
      description: "Keyturn: every turn, a lane for each node",
    }));
    const buckets = Array.from({ length: layout.snapshotBuckets }, (_, number) => ({
      ...bucket(names.bucketStream(number)),
      allow_atomic: true,
      description: "Keyturn: the latest written state of every actor",
    }));
    return [...journals, ...buckets] as Wanted[];
  };
  return { fixed, spread };
}

export interface Provisioned {
  readonly streams: readonly StreamReport[];
  readonly layout: Layout;
}

/**
 * Makes what is missing. Of an app that exists it makes no journal and no snapshots: what is missing there was lost, and
 * in its place an empty one would be taken for all that there ever was.
 * @param make false to make nothing, and to throw `not_provisioned` if something is missing
 * @throws KeyturnError `corrupt_record` if a part of an app is gone
 */
export async function provisionStreams(
  connection: Connection,
  names: Names,
  { replicas = 1, snapshotBuckets, journals }: NatsOptions,
  make: boolean,
): Promise<Provisioned> {
  await checkJetStream(connection);
  const wanted = configs(names, replicas);
  const reports: StreamReport[] = [];
  const ensure = async (config: Wanted, existed = false): Promise<void> => {
    let found = (await infoOf(connection, config.name))?.config;
    let made = false;
    if (found === undefined) {
      if (existed) throw lost(names.app, config.name);
      if (!make) {
        throw new KeyturnError(
          "not_provisioned",
          `The stream ${config.name} is missing. Run "keyturn provision" first.`,
        );
      }
      ({ found, made } = await add(connection, config));
    }
    checkStream(found, config);
    reports.push({ stream: config.name, replicas: found.num_replicas, made });
  };
  for (const config of wanted.fixed) await ensure(config);
  // An app that is there has said how it is spread.
  const asked = { snapshotBuckets: snapshotBuckets ?? 1, journals: journals ?? 1 };
  const directory = new NatsDirectory(connection, names, asked);
  const task = `read from ${names.shards}`;
  const settings = (): ReturnType<NatsDirectory["settings"]> =>
    patiently(connection.timeout_ms, task, () => directory.settings());
  const exists = (await settings()) !== undefined;
  if (exists) sameLayout(names.app, directory.layout, { snapshotBuckets, journals });
  const { layout } = directory;
  for (const config of wanted.spread(layout)) await ensure(config, exists);
  if (!exists) {
    for (let number = 0; number < layout.journals; number++) {
      const info = await infoOf(connection, names.journalStream(number));
      if (info !== undefined && info.state.messages > 0 && (await settings()) === undefined)
        throw lost(names.app, names.shards);
    }
  }
  if (make) {
    for (let bucket = 0; bucket < layout.snapshotBuckets; bucket++)
      await putSentinel(connection, names.bucketStream(bucket), names);
  }
  return { streams: reports, layout };
}

/**
 * Writes what the app is, or finds out.
 * @throws KeyturnError `app_mismatch` if it exists with other settings
 */
export async function provisionSettings(
  connection: Connection,
  names: Names,
  wanted: AppSettings,
  layout: Layout,
): Promise<{ settings: AppSettings; made: boolean }> {
  const { settings, made } = await patiently(connection.timeout_ms, `write to ${names.shards}`, () =>
    new NatsDirectory(connection, names, layout).create(wanted),
  );
  if (settings.shards !== wanted.shards || settings.format !== wanted.format) {
    throw new KeyturnError(
      "app_mismatch",
      `The app "${names.app}" exists with ${settings.shards} shards in format ${settings.format}, not ${wanted.shards} in format ${wanted.format}. Both are frozen: use it as it is, or another app name.`,
    );
  }
  return { settings, made };
}

/** One question to JetStream's management, repeated until there is an answer. */
async function manage<T>(
  { nc, timeout_ms }: Connection,
  task: string,
  ask: (manager: JetStreamManager) => Promise<T>,
): Promise<T> {
  return patiently(timeout_ms, task, async (timeout) =>
    ask(await jetstreamManager(nc, { timeout, checkAPI: false })),
  );
}

async function checkJetStream(connection: Connection): Promise<void> {
  try {
    await manage(connection, "say what JetStream offers", (manager) => manager.getAccountInfo());
  } catch (cause) {
    const refused = refusalIn(cause);
    if (refused !== undefined) throw refused;
    throw new KeyturnError(
      "server_unsuitable",
      `The NATS server offers no JetStream to this user: ${textOf(cause)}. Start it with a jetstream block, as nats.conf has one.`,
      { cause },
    );
  }
}

async function infoOf(connection: Connection, stream: string): Promise<StreamInfo | undefined> {
  const task = `look at the stream ${stream}`;
  try {
    return await manage(connection, task, (manager) => manager.streams.info(stream));
  } catch (cause) {
    if (cause instanceof JetStreamApiError && isStreamMissing(cause.apiError())) return undefined;
    throw failed(task, cause);
  }
}

async function add(connection: Connection, config: Wanted): Promise<{ made: boolean; found: StreamConfig }> {
  // The server takes making for done where the same stream is there; with a mark of its own no other one is the same.
  const maker = randomUUID();
  const task = `make the stream ${config.name}`;
  try {
    const { config: found } = await manage(connection, task, (manager) =>
      manager.streams.add({ ...config, metadata: { [MAKER]: maker } }),
    );
    return { made: found.metadata?.[MAKER] === maker, found };
  } catch (cause) {
    // Somebody else made it at the same moment.
    const found = await infoOf(connection, config.name).catch(() => undefined);
    if (found !== undefined) return { made: false, found: found.config };
    throw failed(task, cause);
  }
}

/** What must be as it is here, whoever made the stream: all that decides what is kept and what is acknowledged. */
function checkStream(found: StreamConfig, wanted: Partial<StreamConfig>): void {
  const faults: string[] = [];
  const must = (holds: boolean, fault: string): void => {
    if (!holds) faults.push(fault);
  };
  must(found.subjects.join() === wanted.subjects?.join(), `its subjects are ${found.subjects.join(", ")}`);
  for (const flag of ["allow_direct", "allow_atomic", "allow_msg_ttl", "allow_rollup_hdrs"] as const) {
    must(wanted[flag] !== true || found[flag] === true, `${flag} is off`);
  }
  must(found.storage === "file", "it lies in memory");
  must((found.persist_mode ?? "default") === "default", `persist_mode is ${found.persist_mode}`);
  must(found.retention === "limits", `its retention is ${found.retention}`);
  must(found.discard === "new", `it discards ${found.discard} messages when it is full`);
  must(found.discard_new_per_subject !== true, "discard_new_per_subject is on");
  must((found.max_age ?? 0) === 0, "it forgets messages that are old");
  must(
    (found.max_msg_size ?? -1) < 0 || found.max_msg_size >= MESSAGE_BYTES,
    `max_msg_size is ${found.max_msg_size}`,
  );
  const perSubject = wanted.max_msgs_per_subject ?? -1;
  must(
    (found.max_msgs_per_subject ?? -1) === perSubject,
    `max_msgs_per_subject is ${found.max_msgs_per_subject}`,
  );
  must(found.no_ack !== true, "it acknowledges nothing");
  must(found.sealed !== true, "it is sealed");
  must(found.mirror === undefined && (found.sources ?? []).length === 0, "it copies another stream");
  must(found.subject_transform === undefined, "it changes subjects");
  if (faults.length === 0) return;
  throw new KeyturnError(
    "app_mismatch",
    `The stream ${found.name} is there, but not as Keyturn makes it: ${faults.join(", ")}. Use another app name, or set it right.`,
  );
}

async function putSentinel(connection: Connection, stream: string, names: Names): Promise<void> {
  const subject = names.key(stream, SENTINEL);
  const task = `write ${subject}`;
  const answer = await patiently(connection.timeout_ms, task, () =>
    publishTo(connection, stream, subject, undefined, expecting(0), task),
  );
  if (isError(answer) && !isConflict(answer)) throw refusalOf(task, answer);
}

function lost(app: string, stream: string): KeyturnError {
  return new KeyturnError(
    "corrupt_record",
    `The app "${app}" exists, but its stream ${stream} is gone, and what was answered with it. Restore it from a backup; or delete all streams of the app, and begin anew without what was in them.`,
  );
}

/** The typed form of a refusal that is known by its kind. */
function refusalIn(cause: unknown): KeyturnError | undefined {
  if (cause instanceof KeyturnError) return cause;
  return deniedBy(cause);
}

function failed(task: string, cause: unknown): KeyturnError {
  const refused = refusalIn(cause);
  if (refused !== undefined) return refused;
  const code = cause instanceof JetStreamApiError ? cause.apiError().err_code : 0;
  const text = `NATS would not ${task}: ${textOf(cause)}.`;
  if (NO_SUCH_CLUSTER.has(code)) {
    return new KeyturnError(
      "server_unsuitable",
      `${text} Ask for fewer replicas, or start as many servers in one cluster.`,
      { cause },
    );
  }
  return new KeyturnError("store_failed", text, { cause });
}
