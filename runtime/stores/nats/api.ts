/**
 * JetStream's answers: acknowledgements, refusals, stored messages, and many messages to one request.
 *
 * Owns the reading of what the server sends, and the names of its error codes. Talks to the connection.
 * Sources: JetStream's wire API (ADR-1, ADR-8, ADR-31 direct gets, ADR-50 atomic batches) and server/errors.json.
 */
import { headers, type Msg, type MsgHdrs } from "@nats-io/transport-node";
import { KeyturnError } from "../../words/errors.ts";
import type { Connection } from "./connection.ts";

const utf8 = new TextDecoder();
const toUtf8 = new TextEncoder();

export interface ApiError {
  readonly code: number;
  readonly err_code: number;
  readonly description: string;
}

export interface Ack {
  readonly seq: number;
  /** Messages of the batch. */
  readonly count?: number;
}

const WRONG_LAST_SEQUENCE = 10_071;
/** Another message on this subject is in flight in the cluster. */
const WRONG_LAST_SEQUENCE_CONSTANT = 10_164;
const NO_MESSAGE = 10_037;
const STREAM_NOT_FOUND = 10_059;
const NO_ROOM: ReadonlySet<number> = new Set([10_023, 10_028, 10_047, 10_122]);
const STORE_FAILED = 10_077;

/** A compare-and-set met another sequence than it expected. */
export function isConflict({ err_code }: ApiError): boolean {
  return err_code === WRONG_LAST_SEQUENCE || err_code === WRONG_LAST_SEQUENCE_CONSTANT;
}

/** Certainly not stored, because a limit of space is reached. */
export function isFull({ err_code, description }: ApiError): boolean {
  return NO_ROOM.has(err_code) || (err_code === STORE_FAILED && /maximum|exceeded/.test(description));
}

export function isNotFound({ err_code }: ApiError): boolean {
  return err_code === NO_MESSAGE;
}

export function isStreamMissing({ err_code }: ApiError): boolean {
  return err_code === STREAM_NOT_FOUND;
}

/** The typed form of a refusal that the caller does not handle. */
export function refusalOf(task: string, error: ApiError): KeyturnError {
  if (isFull(error)) {
    return new KeyturnError(
      "store_full",
      `NATS has no room to ${task}: ${error.description}. Free some space or raise its limits.`,
    );
  }
  if (isStreamMissing(error)) return missing(task);
  return new KeyturnError(
    "store_failed",
    `NATS refused to ${task}: ${error.description} (${error.err_code}).`,
  );
}

export function missing(task: string): KeyturnError {
  return new KeyturnError(
    "not_provisioned",
    `Nothing on the NATS server answers when asked to ${task}: the app's stream is missing, or JetStream is off. Run "keyturn provision", and start the server with JetStream.`,
  );
}

/** The status of an answer without content; 0 for an ordinary message. */
export function statusOf(message: Msg): number {
  return message.headers?.code ?? 0;
}

/** A publish acknowledgement, or why there is none. */
export function ackOf(message: Msg, task: string): Ack | ApiError {
  if (message.data.length === 0) {
    throw statusOf(message) === 503
      ? missing(task)
      : new KeyturnError("store_failed", `NATS answered ${statusOf(message)} when asked to ${task}.`);
  }
  const answer = JSON.parse(utf8.decode(message.data)) as Ack & { readonly error?: ApiError };
  return answer.error ?? answer;
}

export function isError(answer: Ack | ApiError): answer is ApiError {
  return "err_code" in answer;
}

/** Headers of a publish that expects the subject's last sequence. */
export function expecting(lastSequence: number): MsgHdrs {
  const set = headers();
  set.set("Nats-Expected-Last-Subject-Sequence", String(lastSequence));
  return set;
}

export interface StoredMessage {
  readonly subject: string;
  readonly seq: number;
  readonly data: Uint8Array;
}

interface StoredJson {
  readonly error?: ApiError;
  readonly message?: {
    readonly subject: string;
    readonly seq: number;
    readonly data?: string;
    readonly hdrs?: string;
  };
}

/** One message, by the stream's leader: never older than what was acknowledged. */
export async function leaderGet(
  connection: Connection,
  stream: string,
  query: { readonly seq: number } | { readonly last_by_subj: string },
): Promise<(StoredMessage & { readonly headers: string }) | undefined> {
  const task = `read from ${stream}`;
  const answer = await connection.request(`$JS.API.STREAM.MSG.GET.${stream}`, json(query));
  if (answer.data.length === 0) throw missing(task);
  const { error, message } = JSON.parse(utf8.decode(answer.data)) as StoredJson;
  if (error !== undefined) {
    if (isNotFound(error)) return undefined;
    throw refusalOf(task, error);
  }
  if (message === undefined) return undefined;
  return {
    subject: message.subject,
    seq: message.seq,
    data: Buffer.from(message.data ?? "", "base64"),
    headers: Buffer.from(message.hdrs ?? "", "base64").toString("latin1"),
  };
}

/** The bytes of one message, by any replica: undefined if that one does not have it. */
export async function directOne(
  connection: Connection,
  stream: string,
  query: { readonly seq: number },
): Promise<Uint8Array | undefined> {
  const answer = await connection.request(`$JS.API.DIRECT.GET.${stream}`, json(query));
  const status = statusOf(answer);
  if (status === 404) return undefined;
  if (status === 503) throw missing(`read from ${stream}`);
  if (status !== 0) throw new KeyturnError("store_failed", `NATS cannot read from ${stream}: ${status}.`);
  return answer.data;
}

export interface DirectPage {
  readonly messages: readonly StoredMessage[];
  /** Matching messages behind the page. */
  readonly pending: number;
  /** Up to which sequence of the stream the answer looked; 0 where it does not say. */
  readonly upTo: number;
  /** More subjects match than one answer may hold. */
  readonly tooMany: boolean;
}

/** Several messages in one request, by any replica: may be behind. Source: ADR-31. */
export function directGet(connection: Connection, stream: string, query: object): Promise<DirectPage> {
  const subject = `$JS.API.DIRECT.GET.${stream}`;
  return new Promise((resolve, reject) => {
    const messages: StoredMessage[] = [];
    const end = (pending: number, upTo: number, tooMany = false): boolean => {
      resolve({ messages, pending, upTo, tooMany });
      return true;
    };
    const reply = connection.expect(
      subject,
      (message) => {
        const set = message.headers;
        switch (set?.code ?? 0) {
          case 0:
            messages.push({
              subject: set?.get("Nats-Subject") ?? "",
              seq: Number(set?.get("Nats-Sequence")),
              data: message.data,
            });
            return false;
          case 204:
            return end(
              Number(set?.get("Nats-Num-Pending") ?? 0),
              Number(set?.get("Nats-UpTo-Sequence") ?? 0),
            );
          case 404:
            return end(0, 0);
          case 413:
            return end(0, 0, true);
          case 503:
            reject(missing(`read from ${stream}`));
            return true;
          default:
            reject(
              new KeyturnError(
                "store_failed",
                `NATS cannot read from ${stream}: ${set?.code} ${set?.description}.`,
              ),
            );
            return true;
        }
      },
      reject,
    );
    if (reply !== undefined) connection.publish(subject, json(query), reply);
  });
}

export function json(value: unknown): Uint8Array {
  return toUtf8.encode(JSON.stringify(value));
}

export function fromJson(bytes: Uint8Array): unknown {
  return JSON.parse(utf8.decode(bytes));
}
