/**
 * Options that several commands have, and how values of options are read.
 *
 * Owns the words for NATS on the command line and in the environment. A secret is never an argument: others see
 * arguments in the list of processes.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Durability } from "../ports/index.ts";
import { LAYOUT_MAX } from "../stores/nats/layout.ts";
import type { NatsOptions } from "../stores/nats/options.ts";
import { type Keep, policyOf } from "../engine/keep.ts";
import { isBytes } from "../words/bytes.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { limits } from "../words/limits.ts";

/** Reads whole numbers. */
export function whole(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== "" && Number.isSafeInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It is a whole number from ${min} to ${max}.`);
  };
}

/** Reads numbers above 0; with `zero`, from 0. */
export function positive(zero = false): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== "" && Number.isFinite(value) && (value > 0 || (zero && value === 0))) return value;
    throw new InvalidArgumentError(zero ? "It is a number from 0 on." : "It is a number above 0.");
  };
}

/** Gathers what is given several times, or with commas between. */
export function gather(text: string, before: readonly string[] | undefined): readonly string[] {
  const parts = text.split(",").map((part) => part.trim());
  if (parts.includes("")) throw new InvalidArgumentError("A part of it is empty.");
  return [...(before ?? []), ...parts];
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Reads `host:port`, `:port` and `[::1]:port`. */
export function hostPort(text: string): HostPort {
  const [, host, digits] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (host === undefined || port > 65_535) throw new InvalidArgumentError("It is HOST:PORT.");
  return { host: host.replace(/^\[(.*)\]$/, "$1"), port };
}

/** Reads what is to be kept of the journal: `forever`, `30 days`, `10GB`, or an age and a size with a comma between. */
export function keepOf(text: string): Keep {
  if (text.trim() === "forever") return "forever";
  const keep: { age?: string; bytes?: string } = {};
  for (const part of text.split(",").map((one) => one.trim())) {
    const name = isBytes(part) ? "bytes" : "age";
    if (keep[name] !== undefined)
      throw new InvalidArgumentError('It is "forever", an age, a size, or one of each: "30 days,10GB".');
    keep[name] = part;
  }
  try {
    policyOf(keep);
    return keep as Keep;
  } catch (error) {
    throw new InvalidArgumentError(textOf(error));
  }
}

export const jsonOption = new Option("--json", "print one JSON object a line on standard output");

/** For commands that go to a store themselves. */
export const waitOption = new Option("--wait <seconds>", "how long to wait for the server")
  .argParser(positive(true))
  .default(30);

export interface NatsFlags {
  readonly nats?: readonly string[];
  readonly app: string;
  readonly creds?: string;
  readonly user?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly inbox?: string;
  readonly replicas?: 1 | 3 | 5;
  readonly snapshotBuckets?: number;
  readonly journals?: number;
  readonly durability?: Durability;
  readonly monitor?: string;
}

const REPLICAS = { 1: 1, 3: 3, 5: 5 } as const;

/** Where the app is on NATS, and who asks. */
export function addNatsOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--nats <host:port>", "a NATS server; repeat it for the others of a cluster")
        .argParser(gather)
        .env("KEYTURN_NATS"),
    )
    .addOption(
      new Option("--app <name>", "name of the app on the server").default("keyturn").env("KEYTURN_APP"),
    )
    .addOption(new Option("--creds <file>", "credentials file").env("KEYTURN_NATS_CREDS").conflicts("user"))
    .addOption(
      new Option(
        "--user <name>",
        "user; the password is in KEYTURN_NATS_PASSWORD, or instead a token in KEYTURN_NATS_TOKEN",
      ).env("KEYTURN_NATS_USER"),
    )
    .option("--tls-ca <file>", "PEM file of who vouches for the server")
    .option("--tls-cert <file>", "PEM file of this client's certificate")
    .option("--tls-key <file>", "PEM file of its key")
    .option("--inbox <subject>", "prefix of the subjects on which answers come; _INBOX by default");
}

/** How the app's streams are made. */
export function addStreamOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--replicas <1|3|5>", "copies of each stream, when it is made; 1 by default").argParser(
        (text) => {
          if (Object.hasOwn(REPLICAS, text)) return REPLICAS[text as "1" | "3" | "5"];
          throw new InvalidArgumentError("It is 1, 3 or 5.");
        },
      ),
    )
    .addOption(
      new Option("--shards <number>", "shards of the app, when it is made; 64 by default").argParser(
        whole(1, limits.shards),
      ),
    )
    .addOption(
      new Option(
        "--snapshot-buckets <number>",
        "buckets among which snapshots are spread, when the app is made; 1 by default",
      ).argParser(whole(1, LAYOUT_MAX.snapshotBuckets)),
    )
    .addOption(
      new Option(
        "--journals <number>",
        "streams among which the journal is spread, when the app is made; 1 by default",
      ).argParser(whole(1, LAYOUT_MAX.journals)),
    );
}

/**
 * What the NATS store is told.
 * @throws KeyturnError `invalid_options`
 */
export function natsOptionsOf(flags: NatsFlags, env: NodeJS.ProcessEnv): NatsOptions {
  const { nats, app, creds, user, tlsCa, tlsCert, tlsKey, inbox, replicas, durability, monitor } = flags;
  const { snapshotBuckets, journals } = flags;
  if (nats === undefined || nats.length === 0) {
    throw new KeyturnError("invalid_options", "Say where NATS is: --nats HOST:PORT.");
  }
  const { KEYTURN_NATS_PASSWORD: pass, KEYTURN_NATS_TOKEN: token } = env;
  if (user !== undefined && pass === undefined) {
    throw new KeyturnError(
      "invalid_options",
      `The password of the user ${user} is missing: put it into the environment, as KEYTURN_NATS_PASSWORD.`,
    );
  }
  const tls = { caFile: tlsCa, certFile: tlsCert, keyFile: tlsKey };
  return {
    servers: nats,
    app,
    creds,
    user,
    pass: user === undefined ? undefined : pass,
    token: user === undefined && creds === undefined ? token : undefined,
    tls: Object.values(tls).some((file) => file !== undefined) ? tls : undefined,
    inboxPrefix: inbox,
    replicas,
    snapshotBuckets,
    journals,
    durability,
    monitor,
  };
}
