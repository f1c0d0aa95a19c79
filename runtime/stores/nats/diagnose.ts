/**
 * Looks at a server and an app on it: whether they are as a node needs them, and what to do where they are not.
 *
 * Owns the questions. Changes nothing: whether something may be written is asked by a message whose expectation cannot
 * hold, so that the server refuses it for that and not for who asks.
 */
import { jetstreamManager, type JetStreamManager } from "@nats-io/jetstream";
import { isKeyturnError, textOf } from "../../words/errors.ts";
import { failure, fine, type Finding, warning } from "../../words/findings.ts";
import { limits } from "../../words/limits.ts";
import { expecting, isConflict, isError, publishTo } from "./api.ts";
import { Connection } from "./connection.ts";
import { NatsDirectory } from "./directory.ts";
import { deniedBy } from "./faults.ts";
import { UNSPREAD } from "./layout.ts";
import { Names } from "./names.ts";
import { checkOptions, type NatsOptions } from "./options.ts";
import { provisionStreams } from "./provision.ts";
import { findDurability } from "./server.ts";

/** Below it are faults that this runtime has met; see SECURITY.md and the research behind it. */
const RECOMMENDED = [2, 14, 4] as const;
const HEADERS_BYTES = 32 * 1024;
const SLOW_MS = 50;
/** Clocks that differ by more are wrong: timers are due by the clocks of nodes. */
const CLOCK_WARN_MS = 1_000;
const CLOCK_FAIL_MS = 30_000;
const NEARLY_FULL = 0.8;
/** No subject ever has such a sequence. */
const NEVER = 2 ** 50;

/** @throws KeyturnError `invalid_options` */
export async function diagnoseNats(options: NatsOptions): Promise<readonly Finding[]> {
  checkOptions(options);
  const names = new Names(options.app ?? "keyturn");
  let connection: Connection;
  try {
    connection = await Connection.open(options);
  } catch (error) {
    if (isKeyturnError(error, "invalid_options")) throw error;
    return [
      failure(
        "connection",
        textOf(error),
        "Look whether the server runs there, and at --creds, --user, --tls-ca.",
      ),
    ];
  }
  try {
    return await lookAt(connection, names, options);
  } finally {
    await connection.close();
  }
}

async function lookAt(connection: Connection, names: Names, options: NatsOptions): Promise<Finding[]> {
  const findings = [...serverFindings(connection), await roundTrip(connection)];
  let manager: JetStreamManager;
  try {
    manager = await jetstreamManager(connection.nc, { timeout: connection.timeout_ms });
    findings.push(...(await accountFindings(manager)));
  } catch (error) {
    if (deniedBy(error) !== undefined) return [...findings, clientFinding()];
    const remedy = `Turn JetStream on in the server's configuration (jetstream { store_dir: … }), as nats.conf does; or let this user publish to $JS.API.>.`;
    findings.push(failure("jetstream", `JetStream does not answer: ${textOf(error)}.`, remedy));
    return findings;
  }
  let replicas = 1;
  try {
    const { streams } = await provisionStreams(connection, names, options, false);
    replicas = Math.min(...streams.map((stream) => stream.replicas));
    const what = `The app "${names.app}" has its ${streams.length} streams, with ${replicas} replica${replicas === 1 ? "" : "s"}.`;
    findings.push(fine("streams", what));
  } catch (error) {
    const remedy = isKeyturnError(error, "not_provisioned")
      ? `keyturn provision --nats … --app ${names.app}, or start a node.`
      : "Look at the stream's configuration; an app name of its own avoids what others have made.";
    findings.push(failure("streams", textOf(error), remedy));
    return [...findings, await durabilityFinding(options, replicas)];
  }
  findings.push(await clockFinding(manager, names));
  findings.push(await durabilityFinding(options, replicas));
  findings.push(await permissionFinding(connection, names));
  return findings;
}

/** Who may not ask JetStream is no node; what the app says to clients is looked at by whoever called. */
function clientFinding(): Finding {
  return warning(
    "permissions",
    "This user may not ask JetStream: it is a client's, and sees neither streams nor nodes.",
    "For a client that is as it should be. To look at all of it, take the user of the nodes (examples/nats/accounts).",
  );
}

function serverFindings({ nc }: Connection): Finding[] {
  const info = nc.info;
  const version = info?.version ?? "?";
  const parts = version.split(/[.-]/).map(Number);
  const behind = RECOMMENDED.findIndex((wanted, at) => (parts[at] ?? 0) !== wanted);
  const older = behind >= 0 && (parts[behind] ?? 0) < (RECOMMENDED[behind] as number);
  const at = `nats-server ${version} at ${nc.getServer()}`;
  const findings = [
    older
      ? warning("server", `${at} will do.`, `${RECOMMENDED.join(".")} or newer is recommended.`)
      : fine("server", `${at}.`),
  ];
  const needed = limits.frameBytes + HEADERS_BYTES;
  const most = info?.max_payload ?? 0;
  findings.push(
    most < needed
      ? failure(
          "max_payload",
          `Messages may have ${most} bytes; a frame may need ${needed}.`,
          "Set max_payload: 1MB in the server's configuration.",
        )
      : fine("max_payload", `Messages may have ${most} bytes.`),
  );
  return findings;
}

async function roundTrip({ nc }: Connection): Promise<Finding> {
  const ms = Math.round((await nc.rtt()) * 10) / 10;
  if (ms < SLOW_MS) return fine("round trip", `The server answers within ${ms} ms.`);
  return warning(
    "round trip",
    `The server answers after ${ms} ms: every turn waits for that.`,
    "Run nodes near the server.",
  );
}

async function accountFindings(manager: JetStreamManager): Promise<Finding[]> {
  const { storage, limits: of, streams } = await manager.getAccountInfo();
  const { max_storage, max_streams } = of;
  const findings: Finding[] = [];
  const bounded = max_storage !== undefined && max_storage > 0;
  const used = bounded
    ? `${mebibytes(storage)} of ${mebibytes(max_storage)}`
    : `${mebibytes(storage)}, without a limit of the account`;
  findings.push(
    bounded && storage > max_storage * NEARLY_FULL
      ? warning(
          "storage",
          `The account uses ${used}.`,
          "Raise the account's max_file, or the server's max_file_store; when it is full, turns are refused (store_full).",
        )
      : fine("storage", `The account uses ${used}.`),
  );
  if (max_streams !== undefined && max_streams > 0 && streams >= max_streams)
    findings.push(
      warning(
        "streams of the account",
        `All ${max_streams} streams of the account are in use.`,
        "Raise max_streams before another app is made.",
      ),
    );
  return findings;
}

async function clockFinding(manager: JetStreamManager, names: Names): Promise<Finding> {
  const before = Date.now();
  const info = (await manager.streams.info(names.shards)) as unknown as { readonly ts?: string };
  const after = Date.now();
  const server = Date.parse(info.ts ?? "");
  if (Number.isNaN(server)) return warning("clock", "The server does not tell its time.");
  // Anything within the exchange is no difference that can be seen.
  const off_ms = server < before ? server - before : server > after ? server - after : 0;
  const text = `The server's clock and this machine's differ by ${Math.abs(off_ms)} ms${off_ms === 0 ? " or less than can be seen" : ""}.`;
  const remedy = "Let both machines follow a time server (chrony, systemd-timesyncd).";
  if (Math.abs(off_ms) >= CLOCK_FAIL_MS) return failure("clock", text, remedy);
  return Math.abs(off_ms) >= CLOCK_WARN_MS ? warning("clock", text, remedy) : fine("clock", text);
}

async function durabilityFinding(options: NatsOptions, replicas: number): Promise<Finding> {
  const { durability, note } = await findDurability(options, replicas);
  if (durability === "fsync") return fine("durability", note);
  const remedy =
    options.monitor === undefined
      ? "Name the monitoring page to have it looked up: --monitor http://HOST:8222."
      : 'Set "sync_interval: always" in the jetstream block of the server\'s configuration, as nats.conf does.';
  return warning("durability", note, remedy);
}

/** Whether this user may write what a node writes. */
async function permissionFinding(connection: Connection, names: Names): Promise<Finding> {
  const directory = new NatsDirectory(connection, names, UNSPREAD);
  await directory.settings();
  const subjects: [stream: string, subject: string][] = [
    [names.journalStream(0), names.lane("doctor", { ...directory.layout, journals: 1 })],
    [names.snapshots, names.key(names.snapshots, "doctor.doctor")],
    [names.shards, names.key(names.shards, "doctor")],
    [names.nodes, names.key(names.nodes, "member.doctor")],
    [names.dead, names.deadLetter({ position: 0, index: 0 })],
  ];
  // In an app of several journals a lane's subject names its own.
  if (directory.layout.journals > 1) subjects.shift();
  const denied: string[] = [];
  for (const [stream, subject] of subjects) {
    try {
      const answer = await publishTo(
        connection,
        stream,
        subject,
        undefined,
        expecting(NEVER),
        "ask whether it may be written",
      );
      if (isError(answer) && !isConflict(answer)) denied.push(`${subject} (${answer.description})`);
    } catch (error) {
      denied.push(`${subject} (${textOf(error)})`);
    }
  }
  directory.close();
  if (denied.length === 0) return fine("permissions", "This user may write what a node writes.");
  return warning(
    "permissions",
    `This user may not be a node: it cannot write ${denied.join(", ")}.`,
    "For a client that is as it should be. For nodes see the users in examples/nats/accounts.",
  );
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024).toLocaleString("en")} MiB`;
}
