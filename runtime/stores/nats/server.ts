/**
 * Which servers will do, and how durable one of them is.
 *
 * Owns the version that is needed and the question to the server's monitoring page. JetStream's `sync_interval` decides
 * whether an acknowledged message is on disk; a client cannot read it over the connection. So the operator says it, or
 * the monitoring page, or it is unknown; which of these it was is said to whoever starts a node.
 */
import type { Durability } from "../../ports/index.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import type { NatsOptions } from "./options.ts";

/** Atomic batches, direct gets of many subjects, time-to-live of one message. */
const NEEDED = [2, 12] as const;

/** What is wrong with a server's version, if anything. */
export function versionFault(version: string, at: string): KeyturnError | undefined {
  const [major = 0, minor = 0] = version.split(/[.-]/).map(Number);
  if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) return undefined;
  return new KeyturnError(
    "server_unsuitable",
    `NATS at ${at} is version ${version}; Keyturn needs ${NEEDED.join(".")} or newer (2.14.4 or newer is recommended). Upgrade the server.`,
  );
}

export interface DurabilityFound {
  readonly durability: Durability;
  /** One sentence for people: what commits survive, how that is known, what to set. */
  readonly note: string;
}

const ADVICE =
  'Set "sync_interval: always" in the jetstream block of the server\'s configuration, as nats.conf does';
const MONITOR_MS = 2_000;

/** What commits on this server survive, as far as it can be known. */
export async function findDurability(
  { durability, monitor }: NatsOptions,
  replicas: number,
): Promise<DurabilityFound> {
  const copies = replicas > 1 ? ` on ${replicas} servers` : "";
  if (monitor !== undefined) {
    const config = await jetstreamConfig(monitor);
    if (typeof config === "string") {
      const word = durability === undefined ? `Taken for "process".` : `The operator says "${durability}".`;
      return {
        durability: durability ?? "process",
        note: `The server's monitoring page does not tell whether commits are flushed to disk (${config}). ${word}`,
      };
    }
    if (config.sync_always === true) {
      return {
        durability: "fsync",
        note: `Commits are flushed to disk${copies} before they are answered (fsync): the server's monitoring page says sync_always${replicas > 1 ? "; the other servers were not asked" : ""}.`,
      };
    }
    const seconds = (config.sync_interval ?? 0) / 1e9;
    return {
      durability: "process",
      note: `Commits survive a killed process, not a power loss: the server's monitoring page says that it flushes every ${seconds} s${durability === "fsync" ? ', although the operator said "fsync"' : ""}. ${ADVICE}.`,
    };
  }
  if (durability === "fsync") {
    return {
      durability,
      note: `Commits are flushed to disk${copies} before they are answered (fsync): the operator says so. It was not checked; name the server's monitoring page to have it checked.`,
    };
  }
  if (durability === "process") {
    return { durability, note: "Commits survive a killed process, not a power loss: the operator says so." };
  }
  return {
    durability: "process",
    note: `It is not known whether commits are flushed to disk before they are answered; they are taken to survive a killed process only. ${ADVICE}, and name the server's monitoring page (--monitor http://HOST:8222), or say durability "fsync".`,
  };
}

interface JetStreamConfig {
  readonly sync_always?: boolean;
  /** Nanoseconds. */
  readonly sync_interval?: number;
}

async function jetstreamConfig(monitor: string): Promise<JetStreamConfig | string> {
  try {
    const answer = await fetch(new URL("/jsz", monitor), { signal: AbortSignal.timeout(MONITOR_MS) });
    if (!answer.ok) return `it answers ${answer.status}`;
    const page = (await answer.json()) as { config?: JetStreamConfig };
    return page.config ?? "it shows no JetStream configuration";
  } catch (error) {
    return textOf(error);
  }
}
