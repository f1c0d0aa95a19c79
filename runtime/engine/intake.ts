/**
 * Intake: frames become messages in the queue, each number of each channel once.
 *
 * Talks to the shards' channels, the queue and, for what is refused or repeated, to the answers.
 *
 * Invariants:
 * 1. A channel's messages enter the queue in the order of their numbers, none twice.
 * 2. A repeated request is answered as it was the first time, or not at all while it is on its way.
 * 3. Requests are taken in only from a client that knows this owner: what is refused here stays refused.
 * 4. Over the node's limit, requests are refused by name and told messages are left to be sent again.
 */
import type { Clock } from "../ports/index.ts";
import { KeyturnError } from "../words/errors.ts";
import {
  type Frame,
  Mailbox,
  type Request,
  type RequestFrame,
  Send,
  type ToldFrame,
} from "../words/frames.ts";
import { limits } from "../words/limits.ts";
import { type Job, newJob } from "./activation.ts";
import { type Answers, isWrite } from "./answers.ts";
import type { Lease } from "./parts.ts";
import type { Outbox } from "./outbox.ts";
import type { Queue } from "./queue.ts";
import type { Session, ShardState } from "./shard.ts";
import { asError } from "./faults.ts";
import type { Tally } from "./tally.ts";
import { NOT_DRAWN } from "../words/trace.ts";

export class Intake {
  readonly #clock: Clock;
  readonly #queue: Queue;
  readonly #queueMax: number;
  readonly #answers: Answers;
  readonly #outbox: Outbox;
  readonly #lease: Lease;
  readonly #tally: Tally;
  /** Answers who asks what waits: past the queue, which is what it asks about. */
  readonly #look: (job: Job) => void;
  /** Until then writes are refused: the store had no room. Monotonic. */
  #closedUntil_ms = 0;
  #closedBy: KeyturnError | undefined;

  constructor(
    clock: Clock,
    queue: Queue,
    queueMax: number,
    answers: Answers,
    outbox: Outbox,
    lease: Lease,
    tally: Tally,
    look: (job: Job) => void,
  ) {
    this.#clock = clock;
    this.#queue = queue;
    this.#queueMax = queueMax;
    this.#answers = answers;
    this.#outbox = outbox;
    this.#lease = lease;
    this.#tally = tally;
    this.#look = look;
  }

  hasRoom(): boolean {
    return this.#queue.length < this.#queueMax;
  }

  /** Refuses writes for a while. */
  close(error: KeyturnError, duration_ms: number): void {
    this.#closedBy = error;
    this.#closedUntil_ms = this.#clock.monotonic() + duration_ms;
  }

  receive(shard: ShardState, frame: Frame): void {
    if (frame.kind === "request") this.#requests(shard, frame);
    else if (frame.kind === "told") this.#told(shard, frame);
    else if (frame.kind === "ack") this.#outbox.acknowledged(shard, frame);
  }

  /**
   * Tells the clients that the former owner knew who the owner is. Where that one is silent and still connected nobody
   * else does: they would find out with their next repetition, up to seconds later.
   */
  greet(shard: ShardState): void {
    if (!this.#lease.holds()) return;
    for (const session of shard.sessions.values())
      this.#answers.refuse(shard, session.name, "gap", session.last + 1);
  }

  #requests(shard: ShardState, frame: RequestFrame): void {
    if (shard.phase !== "serving") {
      this.#answers.refuse(shard, frame.session, "moved", 0);
      return;
    }
    const now = this.#clock.monotonic();
    let session: Session;
    try {
      session = shard.session(frame.session, frame.base, now);
    } catch (error) {
      this.#refuseAll(shard, frame, asError(error));
      return;
    }
    session.advance(frame.base);
    if (frame.epoch !== shard.epoch) {
      // Meant for another owner. Only one that is surely the owner may say so, or two of them send the client to and fro.
      if (this.#lease.holds()) this.#answers.refuse(shard, frame.session, "gap", session.last + 1);
      return;
    }
    let number = frame.first;
    for (const request of frame.requests) {
      const verdict = session.classify(number);
      if (verdict === "next") {
        // No client of this runtime has so many open.
        if (number - session.base >= limits.sessionInFlight) return;
        session.last = number;
        this.#take(jobOf(shard, session, number, request, now), now);
      } else if (verdict === "gap") {
        this.#answers.refuse(shard, frame.session, "gap", session.last + 1);
        return;
      } else this.#repeated(shard, session, number, request, now);
      number++;
    }
  }

  #take(job: Job, now: number): void {
    job.shard.busy++;
    if (job.kind === Mailbox) this.#look(job);
    else if (!this.hasRoom()) this.#answers.reject(job, this.#overloaded());
    else if (isWrite(job.kind) && job.shard.open.count >= limits.requestsPerShard)
      this.#answers.reject(job, tooManyOpen(job.shard));
    else if (this.#closedBy !== undefined && now < this.#closedUntil_ms && isWrite(job.kind)) {
      this.#answers.reject(job, this.#closedBy);
    } else this.#queue.push(job);
  }

  /** A request that was taken in before: its answer may have been lost. */
  #repeated(shard: ShardState, session: Session, number: number, request: Request, now: number): void {
    this.#tally.repeatedRequests++;
    const reply = session.replyTo(number);
    if (reply !== undefined) {
      this.#answers.add(shard, session.name, reply);
      return;
    }
    const stepped = session.steppedAs(number);
    if (number < session.base || (stepped !== undefined && stepped.at === undefined)) return;
    const job = jobOf(shard, session, number, request, now);
    if (stepped?.at !== undefined) {
      shard.busy++;
      this.#answers.fromJournal(job, stepped.id, stepped.at);
    } else if (!isWrite(request.kind)) {
      shard.busy++;
      if (job.kind === Mailbox) this.#look(job);
      else this.#queue.push(job);
    } else if (number <= session.inherited) {
      shard.busy++;
      const text = "The node that took this message in is gone and did not apply it. Send it again.";
      this.#answers.reject(job, new KeyturnError("superseded", text));
    }
  }

  #told(shard: ShardState, frame: ToldFrame): void {
    if (shard.phase !== "serving") return;
    const { fromShard } = frame;
    const channel = shard.in(fromShard);
    const now = this.#clock.monotonic();
    let number = frame.first;
    for (const message of frame.messages) {
      if (channel.isNext(number) && this.hasRoom()) {
        channel.accepted = number;
        shard.busy++;
        this.#queue.push(newJob(Send, shard, message, undefined, fromShard, number, now));
      } else if (number <= channel.accepted) this.#tally.repeatedTold++;
      number++;
    }
    // Whatever was repeated is acknowledged again: the first acknowledgement may have been lost.
    if (frame.first <= channel.committed) this.#outbox.acknowledge(shard, fromShard, channel.committed);
  }

  #refuseAll(shard: ShardState, frame: RequestFrame, { code, message }: KeyturnError): void {
    frame.requests.forEach((_request, index) => {
      this.#answers.add(shard, frame.session, [
        shard.shard,
        frame.first + index,
        [code, message, shard.epoch],
        undefined,
      ]);
    });
  }

  #overloaded(): KeyturnError {
    const text = `This node has ${this.#queueMax} messages waiting, its limit. Try again later.`;
    return new KeyturnError("overloaded", text);
  }
}

function tooManyOpen({ shard }: ShardState): KeyturnError {
  const text = `Clients have ${limits.requestsPerShard} requests open in shard ${shard}, its limit. Try again later.`;
  return new KeyturnError("overloaded", text);
}

function jobOf(shard: ShardState, session: Session, number: number, request: Request, since_ms: number): Job {
  const job = newJob(request.kind, shard, request, session, -1, number, since_ms);
  if (request.trace === NOT_DRAWN) {
    job.trace = undefined;
    job.traced = true;
  }
  return job;
}
