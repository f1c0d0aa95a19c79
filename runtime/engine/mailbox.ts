/**
 * What waits for an actor at one moment, as people see it (the form is words/mailbox.ts).
 *
 * The engine shows what it holds, in the order in which that will have its turn, and what it does not say here waits
 * nowhere on this node: a client, or another shard's outbox, may hold more. Questions that only read are left out: they
 * change nothing and hold nothing up. Changes nothing; talks to those who hold messages, and to the answers.
 */
import type { Clock } from "../ports/index.ts";
import { CancelTimer, Create, Delete, Replace } from "../words/frames.ts";
import { limits } from "../words/limits.ts";
import type { Invocation, MailboxState, WaitingMessage } from "../words/mailbox.ts";
import type { Actors } from "./actors.ts";
import { type Activation, ChildJob, type Job, TimerJob } from "./activation.ts";
import { type Answers, isWrite } from "./answers.ts";
import type { Commits } from "./commits.ts";
import type { Registry } from "./definition.ts";
import type { LocalIntake } from "./local-intake.ts";
import { familyOf, isAskTimeout, isWorkTimer, type WorkEvent } from "./machine.ts";
import type { Queue } from "./queue.ts";
import { decodeRecord, typeOfId } from "./record.ts";
import type { ShardState } from "./shard.ts";
import { unknownType } from "./faults.ts";
import type { Taken } from "./taken.ts";
import type { WorkHere, Works } from "./works.ts";

const ASKED: ReadonlyMap<number, string> = new Map([
  [Create, "(create)"],
  [Delete, "(delete)"],
  [CancelTimer, "(cancel timer)"],
  [Replace, "(fork)"],
  [TimerJob, "(due)"],
]);

/** Who holds messages, or what they are for. */
export interface Holders {
  readonly actors: Actors;
  readonly queue: Queue;
  readonly commits: Commits;
  readonly local: LocalIntake;
  readonly works: Works;
}

/** Answers who asks what waits for an actor. Nothing is loaded for it, and nothing is held up. */
export class Mailboxes {
  readonly #clock: Clock;
  readonly #registry: Registry;
  readonly #answers: Answers;
  readonly #holders: Holders;

  constructor(clock: Clock, registry: Registry, answers: Answers, holders: Holders) {
    this.#clock = clock;
    this.#registry = registry;
    this.#answers = answers;
    this.#holders = holders;
  }

  answer(job: Job): void {
    const { shard, message } = job;
    const { id } = message;
    const type = typeOfId(id);
    if (shard.failed !== undefined) this.#answers.reject(job, shard.failed);
    else if (!this.#registry.has(type)) this.#answers.reject(job, unknownType(type));
    else this.#answers.settle(job, undefined, this.#stateOf(id, shard));
  }

  #stateOf(id: string, { ins }: ShardState): MailboxState {
    const { actors, queue, commits, local, works } = this.#holders;
    const look = new Look(id, this.#clock);
    const a = actors.get(id);
    commits.each((taken) => look.stepped(taken));
    const parked = a?.loading === true ? "loading" : "deferred";
    for (const channel of ins.values()) for (const job of channel.parked) look.waits(job, parked);
    for (const job of local.later) look.waits(job, "deferred");
    for (const job of a?.mailbox ?? []) look.waits(job, "loading");
    queue.each((job) => look.waits(job, "queued"));
    return look.state(a, works.of(id));
  }
}

/** Collects what waits for one actor. */
class Look {
  readonly #id: string;
  readonly #now: number;
  /** What the monotonic clock is behind the epoch. */
  readonly #offset: number;
  readonly #waiting: WaitingMessage[] = [];
  #depth = 0;
  #oldest: number | undefined;

  constructor(id: string, clock: Clock) {
    this.#id = id;
    this.#now = clock.now();
    this.#offset = this.#now - clock.monotonic();
  }

  /** A turn that is not committed. */
  stepped({ a, job, record }: Taken): void {
    if (a.id !== this.#id) return;
    const isDue = job.kind === TimerJob;
    this.#add(job, "committing", isDue ? typeIn(decodeRecord(record).event) : undefined);
  }

  /** A message that is not stepped. */
  waits(job: Job, phase: WaitingMessage["phase"]): void {
    if (job.message.id === this.#id) this.#add(job, phase);
  }

  state(a: Activation | undefined, works: readonly WorkHere[]): MailboxState {
    const memory =
      a === undefined ? "absent" : a.loading ? "loading" : a.failed === undefined ? "loaded" : "failed";
    const invocations = [...works.map(workOf), ...(memory === "loaded" ? this.#others(a as Activation) : [])];
    return {
      depth: this.#depth,
      ...(this.#oldest === undefined ? {} : { oldest: this.#oldest }),
      waiting: this.#waiting,
      memory,
      ...(a?.failed === undefined ? {} : { failure: { code: a.failed.code, reason: a.failed.message } }),
      invocations: invocations.slice(0, limits.mailboxShown),
    };
  }

  #add(job: Job, phase: WaitingMessage["phase"], event?: string): void {
    const { kind, session, fromShard, message, since_ms } = job;
    if (session !== undefined && !isWrite(kind)) return;
    this.#depth++;
    const since = since_ms + this.#offset;
    this.#oldest = Math.min(since, this.#oldest ?? since);
    if (this.#waiting.length >= limits.mailboxShown) return;
    const name = event ?? ASKED.get(kind) ?? typeIn(message.event);
    const from = session !== undefined ? "client" : fromShard >= 0 ? "actor" : sourceOf(kind);
    this.#waiting.push({ event: name, from, phase, since });
  }

  /** What is to be tried again, and what others were asked. */
  #others({ committed: { snapshot, timers } }: Activation): Invocation[] {
    const family = familyOf(snapshot);
    const found: Invocation[] = [];
    for (const timer of timers) {
      const member = isWorkTimer(timer) && timer.due > this.#now && family?.bySession(timer.source ?? "");
      if (!member) continue;
      const { path, src, kind } = member;
      const { begun, attempt } = timer.event as WorkEvent;
      found.push({ path, src, kind, phase: "retrying", since: begun, attempt, due: timer.due });
    }
    for (const { path, src, kind, snapshot, session } of family?.members.values() ?? []) {
      if (kind !== "ask" || snapshot.status !== "active") continue;
      const { to } = (snapshot.input ?? {}) as { readonly to?: unknown };
      const due = timers.find((timer) => isAskTimeout(timer) && timer.source === session)?.due;
      const asked = { path, src, kind, phase: "asked" } as const;
      found.push({
        ...asked,
        ...(due === undefined ? {} : { due }),
        ...(typeof to === "string" ? { to } : {}),
      });
    }
    return found;
  }
}

function workOf({ path, src, kind, begun, attempt, isRunning }: WorkHere): Invocation {
  return { path, src, kind, phase: isRunning ? "running" : "queued", since: begun, attempt };
}

function sourceOf(kind: number): WaitingMessage["from"] {
  return kind === ChildJob ? "work" : "timer";
}

function typeIn(event: unknown): string {
  const type = (event as { readonly type?: unknown } | null | undefined)?.type;
  return typeof type === "string" ? type : "";
}
