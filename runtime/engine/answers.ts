/**
 * Answers: everything that goes back to clients.
 *
 * Owns the replies that wait to be sent, one frame a client. Talks to the transport and, for what has to be read again,
 * to the history. Whoever calls has made sure that what is answered is committed.
 */
import type { Transport } from "../ports/index.ts";
import { KeyturnError, textOf } from "../words/errors.ts";
import { Ask, AskBoth, Delete, type RefusalFrame, type Reply, Send } from "../words/frames.ts";
import { type Activation, type Job, linkOf, type Turn } from "./activation.ts";
import type { ActorState } from "./definition.ts";
import type { HistoryQuery, HistoryReader } from "./history.ts";
import { type Link, NoLink } from "./record.ts";
import type { ShardState } from "./shard.ts";

/** Requests that bring an event. */
export function isTurn(kind: number): boolean {
  return kind === Ask || kind === Send || kind === AskBoth;
}

export function isWrite(kind: number): boolean {
  return isTurn(kind) || kind === Delete;
}

export class Answers {
  readonly #incarnation: string;
  readonly #transport: Transport;
  readonly #history: HistoryReader;
  readonly #replies = new Map<string, Reply[]>();
  #stopped = false;

  constructor(incarnation: string, transport: Transport, history: HistoryReader) {
    this.#incarnation = incarnation;
    this.#transport = transport;
    this.#history = history;
  }

  /** Notes a reply; `flush` sends it. */
  add(session: string, reply: Reply): void {
    const replies = this.#replies.get(session);
    if (replies === undefined) this.#replies.set(session, [reply]);
    else replies.push(reply);
  }

  flush(): void {
    if (this.#replies.size === 0 || this.#stopped) return;
    const from = this.#incarnation;
    for (const [session, replies] of this.#replies) {
      this.#transport.publish(`client.${session}`, { kind: "reply", from, replies });
    }
    this.#replies.clear();
  }

  /** Answers a request that left no record of its own, and lets go of it. */
  settle(job: Job, error: readonly [string, string] | undefined, value: unknown): void {
    job.shard.busy--;
    if (job.session === undefined || job.shard.phase === "gone") return;
    const refused = error === undefined ? undefined : ([...error, job.shard.epoch] as const);
    const reply: Reply = [job.shard.shard, job.number, refused, value];
    if (isWrite(job.kind)) job.session.settle(job.number, reply);
    this.add(job.session.name, reply);
  }

  reject(job: Job, error: KeyturnError): void {
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

  /** Answers with what a past turn answered. */
  fromJournal(job: Job, id: string, at: Link): void {
    const answer = (error: readonly [string, string] | undefined, value: unknown): void => {
      if (this.#stopped || job.shard.phase === "gone") return;
      this.settle(job, error, value);
      this.flush();
    };
    const past = job.kind === AskBoth ? this.#history.answerOf(id, at) : this.#history.replyOf(id, at);
    past.then(
      (value) => answer(undefined, job.kind === Send ? undefined : value),
      (error: unknown) => {
        const { code, message } = asReadError(error);
        answer([code, message], undefined);
      },
    );
  }

  /** Answers with a page of an actor's past. */
  history(a: Activation, job: Job): void {
    // After a deletion there is nothing to be seen; its record links to nothing.
    const last = a.committed.turn === 0 ? NoLink : linkOf(a.committed);
    const keyframe = linkOf(a.committed.keyframe);
    this.#history.page(a.id, last, keyframe, job.message.event as HistoryQuery).then(
      (page) => {
        if (this.#stopped) return;
        this.settle(job, undefined, page);
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
    this.#replies.clear();
  }
}

/** The turn stands, whatever became of reading it: the asker must not take it for refused. */
function asReadError(cause: unknown): KeyturnError {
  if (cause instanceof KeyturnError && cause.code === "history_trimmed") return cause;
  return new KeyturnError("store_failed", `The journal cannot be read: ${textOf(cause)}`, { cause });
}

/** An actor's state as clients see it. An actor that no message has reached shows its machine's initial state. */
export function stateOf(a: Activation, turn: Turn, now: number): ActorState {
  const snapshot = turn.snapshot ?? a.hosted.host.start(a.key, 1, now).snapshot;
  return Object.freeze({
    value: snapshot.value,
    context: snapshot.context,
    status: snapshot.status,
    output: snapshot.output,
    turn: turn.turn,
    position: turn.batch.seq,
  });
}
