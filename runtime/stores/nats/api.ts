/**
 * JetStream's answers: acknowledgements, refusals, stored messages, and many messages to one request.
 *
 * Owns the reading of what the server sends, and the names of its error codes. Talks to the connection, and notes there
 * which of the app's streams does not answer, so that the health of a node shows it.
 * Sources: JetStream's wire API (ADR-1, ADR-8, ADR-31 direct gets, ADR-50 atomic batches) and server/errors.json.
 */
import { headers, type Msg, type MsgHdrs } from "@nats-io/transport-node";
import { isKeyturnError, KeyturnError, textOf } from "../../words/errors.ts";
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
/** No such stream; no JetStream in this account, or on this server. */
const MISSING: ReadonlySet<number> = new Set([10_059, 10_039, 10_076]);
/** Limits of an account, a server's resources, memory, disk, and of one stream. */
const NO_ROOM: ReadonlySet<number> = new Set([10_002, 10_023, 10_028, 10_047, 10_122]);
const STORE_FAILED = 10_077;
/** Of a cluster: incomplete, not active, not assigned, not available, not led, stream offline. */
const ELECTING: ReadonlySet<number> = new Set([10_004, 10_006, 10_007, 10_008, 10_009, 10_118]);
/** An atomic batch that lacks a message, or is one too many at this moment: nothing of it is stored. */
const BATCH_DROPPED: ReadonlySet<number> = new Set([10_176, 10_210]);

/** How long to wait between looks whether a message in flight has come to an end. */
const IN_FLIGHT_MS = 64;

/** A compare-and-set met another sequence than it expected. */
export function isConflict({ err_code }: ApiError): boolean {
  return err_code === WRONG_LAST_SEQUENCE || err_code === WRONG_LAST_SEQUENCE_CONSTANT;
}

/** … or another message on its subject that is in flight in the cluster. */
export function isInFlight({ err_code }: ApiError): boolean {
  return err_code === WRONG_LAST_SEQUENCE_CONSTANT;
}

/** Certainly not stored, because a limit of space is reached. */
export function isFull({ err_code, description }: ApiError): boolean {
  return NO_ROOM.has(err_code) || (err_code === STORE_FAILED && /maximum|exceeded/.test(description));
}

/** The cluster has no leader at this moment, or too few servers for one. */
export function isElecting({ err_code }: ApiError): boolean {
  return ELECTING.has(err_code);
}

export function isNotFound({ err_code }: ApiError): boolean {
  return err_code === NO_MESSAGE;
}

export function isStreamMissing({ err_code }: ApiError): boolean {
  return MISSING.has(err_code);
}

/** Nothing of the batch is stored, through no fault of its own. */
export function isBatchDropped({ err_code }: ApiError): boolean {
  return BATCH_DROPPED.has(err_code);
}

/** The typed form of a refusal that the caller does not handle. */
export function refusalOf(task: string, error: ApiError): KeyturnError {
  if (isFull(error)) {
    return new KeyturnError(
      "store_full",
      `NATS has no room to ${task}: ${error.description}. Free some space or raise its limits.`,
    );
  }
  if (isElecting(error)) {
    return new KeyturnError(
      "unreachable",
      `NATS did not ${task}: ${error.description} (${error.err_code}). Look whether most servers of the cluster are there.`,
    );
  }
  return new KeyturnError(
    "store_failed",
    `NATS refused to ${task}: ${error.description} (${error.err_code}).`,
  );
}

/** The stream does not answer. Noted for whoever asks how the store is. */
function missing(task: string, connection: Connection, stream: string): KeyturnError {
  connection.problem(
    stream,
    `The stream ${stream} does not answer: its servers are choosing who leads it, it is missing, or JetStream is off.`,
  );
  return new KeyturnError(
    "not_provisioned",
    `Nothing on the NATS server answers when asked to ${task}: the servers of the stream ${stream} are choosing who leads it, which takes seconds after one was lost; or it is missing or cannot be read directly, or JetStream is off. If it goes on: "keyturn provision", and start the server with JetStream.`,
  );
}

/** The status of an answer without content; 0 for an ordinary message. */
export function statusOf(message: Msg): number {
  return message.headers?.code ?? 0;
}

/**
 * Reads what a stream answered to a publish: the acknowledgement, or why there is none.
 * @throws KeyturnError `not_provisioned` if the stream does not answer, `store_failed` if it makes no sense
 */
export function ackOf(connection: Connection, stream: string, message: Msg, task: string): Ack | ApiError {
  if (message.data.length === 0) {
    throw statusOf(message) === 503
      ? missing(task, connection, stream)
      : new KeyturnError("store_failed", `NATS answered ${statusOf(message)} when asked to ${task}.`);
  }
  const answer = fromJson(message.data) as Ack & { readonly error?: ApiError };
  if (answer.error === undefined) {
    connection.well(stream);
    return answer;
  }
  if (isStreamMissing(answer.error)) throw missing(task, connection, stream);
  return answer.error;
}

/**
 * Publishes to a stream, and waits for what it answers. Where another message of the subject is in flight in the
 * cluster, which may be an earlier try of this very one, waits for its end: then it is known who came first.
 */
export async function publishTo(
  connection: Connection,
  stream: string,
  subject: string,
  payload: Uint8Array | undefined,
  set: MsgHdrs | undefined,
  task: string,
): Promise<Ack | ApiError> {
  const until_ms = performance.now() + connection.timeout_ms;
  for (let wait_ms = 1; ; wait_ms = Math.min(2 * wait_ms, IN_FLIGHT_MS)) {
    const asked = connection.request(subject, payload, { headers: set });
    const message = await asked.catch((error: unknown) => {
      noteSilence(connection, stream, error);
      throw error;
    });
    const answer = ackOf(connection, stream, message, task);
    if (!isError(answer) || !isInFlight(answer)) return answer;
    if (performance.now() > until_ms) {
      throw new KeyturnError(
        "unreachable",
        `NATS did not ${task}: another message to ${subject} has been in flight for ${connection.timeout_ms} ms. Look whether most servers of the cluster are there.`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, wait_ms));
  }
}

/** A stream that answers nothing although the server is reached: noted for whoever asks how the store is. */
export function noteSilence(connection: Connection, stream: string, error: unknown): void {
  if (!connection.connected || !isKeyturnError(error, "unreachable")) return;
  connection.problem(
    stream,
    `The stream ${stream} takes nothing in: the server gave no answer in time. Look at its log: the disk may be full, which takes a restart when there is room again, or most servers of the cluster may be away.`,
  );
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
  if (answer.data.length === 0) throw missing(task, connection, stream);
  const { error, message } = fromJson(answer.data) as StoredJson;
  if (error !== undefined) {
    if (isStreamMissing(error)) throw missing(task, connection, stream);
    if (!isNotFound(error)) throw refusalOf(task, error);
  }
  connection.well(stream);
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
  if (status === 503) throw missing(`read from ${stream}`, connection, stream);
  if (status === 404) return undefined;
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
  /** A message that is asked for could not be read; another write may just have replaced it. */
  readonly unreadable: boolean;
}

/** Several messages in one request, by any replica: may be behind. Source: ADR-31. */
export function directGet(connection: Connection, stream: string, query: object): Promise<DirectPage> {
  const subject = `$JS.API.DIRECT.GET.${stream}`;
  return new Promise((resolve, reject) => {
    const messages: StoredMessage[] = [];
    const end = (page: Partial<DirectPage> = {}): true => {
      connection.well(stream);
      resolve({ messages, pending: 0, upTo: 0, tooMany: false, unreadable: false, ...page });
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
            return end({
              pending: Number(set?.get("Nats-Num-Pending") ?? 0),
              upTo: Number(set?.get("Nats-UpTo-Sequence") ?? 0),
            });
          case 404:
            // To whoever asks for many this is "No Results" if there are none.
            return end({ unreadable: "multi_last" in query && /not found/i.test(set?.description ?? "") });
          case 413:
            return end({ tooMany: true });
          case 503:
            reject(missing(`read from ${stream}`, connection, stream));
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
    if (reply !== undefined) connection.ask(subject, json(query), reply);
  });
}

/** Bytes asked for at once, far below what a server lets wait for one connection. */
const LAST_BYTES = 8 * 1024 * 1024;
const UNREADABLE_TRIES = 20;
const UNREADABLE_MS = 5;

export interface LastMessages {
  readonly messages: readonly StoredMessage[];
  /** Up to which sequence of the stream all of the answer had looked; 0 if there is none of these messages. */
  readonly upTo: number;
  /** One of them cannot be read, however often it is tried. */
  readonly unreadable: boolean;
  readonly tooMany: boolean;
}

/** The last messages of at most 1,024 subjects, by any replica: may be behind. In as many answers as they take. */
export async function lastMessages(
  connection: Connection,
  stream: string,
  subjects: readonly string[],
): Promise<LastMessages> {
  const messages: StoredMessage[] = [];
  let upTo = Number.POSITIVE_INFINITY;
  for (let from = 0, tries = 0; ; ) {
    const query = { multi_last: subjects, max_bytes: LAST_BYTES, ...(from > 0 ? { seq: from } : {}) };
    const page = await directGet(connection, stream, query);
    if (page.unreadable && ++tries <= UNREADABLE_TRIES) {
      await new Promise((resolve) => setTimeout(resolve, UNREADABLE_MS));
      continue;
    }
    messages.push(...page.messages);
    upTo = Math.min(upTo, page.upTo);
    const last = page.messages.at(-1);
    if (page.pending === 0 || last === undefined || page.unreadable)
      return { messages, upTo, unreadable: page.unreadable, tooMany: page.tooMany };
    // One that is replaced meanwhile comes again, with a higher sequence.
    from = last.seq + 1;
  }
}

interface InfoJson {
  readonly error?: ApiError;
  readonly total?: number;
  readonly state?: { readonly subjects?: Readonly<Record<string, number>> | null };
}

/** Every subject of a stream that fits a pattern, by its leader. */
export async function subjectsOf(
  connection: Connection,
  stream: string,
  pattern: string,
): Promise<readonly string[]> {
  const task = `look at the stream ${stream}`;
  const subjects: string[] = [];
  while (true) {
    const query = { subjects_filter: pattern, offset: subjects.length };
    const answer = await connection.request(`$JS.API.STREAM.INFO.${stream}`, json(query));
    if (answer.data.length === 0) throw missing(task, connection, stream);
    const { error, total = 0, state } = fromJson(answer.data) as InfoJson;
    if (error !== undefined) {
      if (isStreamMissing(error)) throw missing(task, connection, stream);
      throw refusalOf(task, error);
    }
    const page = Object.keys(state?.subjects ?? {});
    subjects.push(...page);
    if (page.length === 0 || subjects.length >= total) return subjects;
  }
}

/**
 * Removes the messages of a subject below a sequence.
 * @throws KeyturnError `access_denied` or `store_failed`
 */
export async function purge(
  connection: Connection,
  stream: string,
  query: { readonly filter: string; readonly seq: number },
): Promise<void> {
  const task = `trim the stream ${stream}`;
  const answer = await connection.request(`$JS.API.STREAM.PURGE.${stream}`, json(query));
  if (answer.data.length === 0) throw missing(task, connection, stream);
  const { error } = fromJson(answer.data) as StoredJson;
  if (error === undefined) return;
  if (isStreamMissing(error)) throw missing(task, connection, stream);
  throw refusalOf(task, error);
}

export function json(value: unknown): Uint8Array {
  return toUtf8.encode(JSON.stringify(value));
}

/** @throws KeyturnError `store_failed` */
export function fromJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8.decode(bytes));
  } catch (cause) {
    throw new KeyturnError("store_failed", `NATS gave what is not JSON: ${textOf(cause)}.`, { cause });
  }
}
