/**
 * Answers: everything that goes back to clients.
 *
 * Owns the replies that wait to be sent, one frame a client or, if they are large, several. Talks to the transport and,
 * for what has to be read again, to the history. Whoever calls has made sure that what is answered is committed.
 *
 * Invariant: every frame can be carried (`limits.frameBytes`); instead of an answer that cannot be, its asker gets
 * `answer_too_large`.
 */
import type { Transport } from "../ports/index.ts";
import { encode } from "../words/codec.ts";
import { type ErrorCode, isKeyturnError, KeyturnError, textOf } from "../words/errors.ts";
import {
  Ask,
  AskBoth,
  CancelTimer,
  Create,
  Delete,
  encodeFrame,
  type RefusalFrame,
  Replace,
  type Reply,
  Send,
} from "../words/frames.ts";
import { limits } from "../words/limits.ts";
import { sizeOf } from "../words/values.ts";
import { type Activation, type Job, linkOf, type Turn } from "./activation.ts";
import { begin } from "./beginning.ts";
import type { ActorState } from "./definition.ts";
import { checkQuery, type HistoryReader } from "./history.ts";
import type { MachineSnapshot } from "./machine.ts";
import { shownState } from "./outgoing.ts";
import { type Link, NoLink } from "./record.ts";
import type { ShardState } from "./shard.ts";
import type { Tally } from "./tally.ts";
import type { Tracing } from "./telemetry.ts";

/** A frame of several replies is at most so large. */
const ANSWER_BYTES = limits.frameBytes / 2;
/** A larger one may be too large for any frame. */
const ALONE_BYTES = limits.stateBytes;
/** What a state takes besides what it holds: names, position. */
const STATE_BYTES = 128;
/** What a reply takes besides its value and its error's text, at most. */
const REPLY_BYTES = 64;

interface Pending {
  readonly replies: Reply[];
  bytes: number;
}

/** Requests that bring an event, or the input that an actor begins with. */
export function isTurn(kind: number): boolean {
  return kind === Ask || kind === Send || kind === AskBoth || kind === Create;
}

export function isWrite(kind: number): boolean {
  return isTurn(kind) || kind === Delete || kind === CancelTimer || kind === Replace;
}

export class Answers {
  readonly #incarnation: string;
  readonly #transport: Transport;
  readonly #history: HistoryReader;
  readonly #tally: Tally;
  readonly #tracing: Tracing | undefined;
  readonly #pending = new Map<string, Pending>();
  #stopped = false;

  constructor(
    incarnation: string,
    transport: Transport,
    history: HistoryReader,
    tally: Tally,
    tracing: Tracing | undefined,
  ) {
    this.#tally = tally;
    this.#tracing = tracing;
    this.#incarnation = incarnation;
    this.#transport = transport;
    this.#history = history;
  }

  /**
   * Notes a reply; `flush` sends it.
   * @param valueBytes what its value takes at most when it is encoded, if that is known
   */
  add(shard: ShardState, session: string, reply: Reply, valueBytes = sizeOf(reply[3])): void {
    if (this.#stopped) return;
    const carried = valueBytes > ALONE_BYTES ? carriable(shard, reply) : reply;
    const bytes = REPLY_BYTES + (carried === reply ? valueBytes : 0) + (carried[2]?.[1].length ?? 0);
    const pending = this.#pending.get(session);
    if (pending === undefined) this.#pending.set(session, { replies: [carried], bytes });
    else if (pending.bytes + bytes > ANSWER_BYTES) {
      this.#send(session, pending);
      this.#pending.set(session, { replies: [carried], bytes });
    } else {
      pending.replies.push(carried);
      pending.bytes += bytes;
    }
  }

  flush(): void {
    if (this.#pending.size === 0 || this.#stopped) return;
    for (const [session, pending] of this.#pending) this.#send(session, pending);
    this.#pending.clear();
  }

  #send(session: string, { replies }: Pending): void {
    this.#transport.publish(`client.${session}`, { kind: "reply", from: this.#incarnation, replies });
  }

  /** Answers a request that left no record of its own, and lets go of it. */
  settle(
    job: Job,
    error: readonly [string, string] | undefined,
    value: unknown,
    valueBytes = sizeOf(value),
  ): void {
    job.shard.busy--;
    if (job.session === undefined || job.shard.phase === "gone") return;
    const refused = error === undefined ? undefined : ([...error, job.shard.epoch] as const);
    const reply: Reply = [job.shard.shard, job.number, refused, value];
    if (isWrite(job.kind)) job.session.settle(job.number, reply);
    this.add(job.shard, job.session.name, reply, valueBytes);
  }

  reject(job: Job, error: KeyturnError): void {
    this.#tally.refuse(error.code);
    job.span?.ended(error, this.#tracing?.time.now() ?? 0);
    this.settle(job, [error.code, error.message], undefined);
  }

  /** Nothing of a frame from some number on was taken in. */
  refuse(shard: ShardState, session: string, reason: RefusalFrame["reason"], expected: number): void {
    const from = this.#incarnation;
    this.#transport.publish(`client.${session}`, {
      kind: "refusal",
      shard: shard.shard,
      from,
      reason,
      expected,
      epoch: shard.epoch,
    });
  }

  /**
   * Answers with what a past turn answered.
   * @param check throws if that turn's event is not the one of this request
   */
  fromJournal(job: Job, id: string, at: Link, check?: (event: unknown) => void): void {
    const answer = (error: readonly [string, string] | undefined, value: unknown): void => {
      if (this.#stopped || job.shard.phase === "gone") return;
      job.span?.ended(error && { code: error[0] }, this.#tracing?.time.now() ?? 0);
      this.settle(job, error, value);
      this.flush();
    };
    this.#pastAnswer(job.kind, id, at, check).then(
      (value) => answer(undefined, value),
      (error: unknown) => {
        const { code, message } = isKeyturnError(error, "history_trimmed")
          ? trimmedAnswer(id)
          : asReadError(error);
        answer([code, message], undefined);
      },
    );
  }

  /** What a turn answered to a request of that kind. */
  async #pastAnswer(
    kind: number,
    id: string,
    at: Link,
    check: ((event: unknown) => void) | undefined,
  ): Promise<unknown> {
    if (kind === Replace) return true;
    const { event, replied, reply, state } = await this.#history.turnAt(id, at);
    check?.(event);
    if (kind === Send) return undefined;
    if (kind === Create) return await state();
    if (kind === AskBoth) return { value: replied ? reply : null, replied, state: await state() };
    return replied ? reply : await state();
  }

  /**
   * Answers with a page of an actor's past.
   * @throws KeyturnError `invalid_frame` if that is not what is asked for
   */
  history(a: Activation, job: Job): void {
    // After a deletion there is nothing to be seen; its record links to nothing.
    const last = a.committed.turn === 0 ? NoLink : linkOf(a.committed);
    const keyframe = linkOf(a.committed.keyframe);
    const query = checkQuery(job.message.event);
    const read =
      query.state === undefined
        ? this.#history.page(a.id, last, keyframe, query)
        : this.#history.past(a.id, last, keyframe, query.state);
    read.then(
      (found) => {
        if (this.#stopped) return;
        this.settle(job, undefined, found);
        this.flush();
      },
      (error: unknown) => {
        if (this.#stopped) return;
        this.reject(job, asReadError(error));
        this.flush();
      },
    );
  }

  stop(): void {
    this.#stopped = true;
    this.#pending.clear();
  }
}

/** Whether an answer can be carried is found out by encoding it; what takes its place if it cannot. */
function carriable(shard: ShardState, reply: Reply): Reply {
  const { length } = encodeFrame({ kind: "reply", from: "", replies: [reply] });
  if (length + REPLY_BYTES + limits.nameBytes < limits.frameBytes) return reply;
  const text = `The answer takes ${length} bytes, more than can be carried. What was asked for is done; ask for less, or read the state.`;
  return [reply[0], reply[1], ["answer_too_large", text, shard.epoch], undefined];
}

/** What it asked for is done; only what it was answered cannot be told any more. */
function trimmedAnswer(id: string): KeyturnError {
  return new KeyturnError(
    "answer_too_large",
    `What was asked of ${id} by this request id is done, but its answer cannot be given again: that part of the journal has been trimmed. Read the state.`,
  );
}

/** What says itself what became of the request. */
const AS_THEY_ARE: ReadonlySet<ErrorCode> = new Set([
  "history_trimmed",
  "invalid_options",
  "request_id_reused",
  "request_forgotten",
]);

/** The turn stands, whatever became of reading it: the asker must not take it for refused. */
function asReadError(cause: unknown): KeyturnError {
  if (isKeyturnError(cause) && AS_THEY_ARE.has(cause.code)) return cause;
  return new KeyturnError("store_failed", `The journal cannot be read: ${textOf(cause)}`, { cause });
}

function initialOf(a: Activation, now: number): MachineSnapshot {
  const { snapshot } = begin(a.hosted, a.key, 1, now);
  const { context } = snapshot;
  if (sizeOf(context) <= limits.stateBytes || encode(context).length <= limits.stateBytes) return snapshot;
  throw new KeyturnError(
    "state_too_large",
    `The initial state of ${a.id} takes over ${limits.stateBytes} bytes. Begin with less in one actor.`,
  );
}

/**
 * What `stateOf` takes at most when it is encoded: a turn knows its size from above, but for a state that is just begun.
 */
export function stateBytes(turn: Turn): number | undefined {
  return turn.snapshot === undefined ? undefined : turn.bytes + STATE_BYTES;
}

/** An actor's state as clients see it. An actor that no message has reached shows its machine's initial state. */
export function stateOf(a: Activation, turn: Turn, now: number): ActorState {
  const snapshot = turn.snapshot ?? initialOf(a, now);
  return shownState(snapshot, turn.turn, turn.batch.seq);
}
