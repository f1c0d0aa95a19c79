/**
 * Requests that change nothing: states, timers, histories, watches.
 *
 * Owns no state. Answers when what is read is committed and surely current (commits.ts). Talks to answers and watches.
 */
import { KeyturnError } from "../words/errors.ts";
import { Get, History, Timers, Unwatch, Watch } from "../words/frames.ts";
import type { Activation, Job, Turn } from "./activation.ts";
import { type Answers, stateBytes, stateOf } from "./answers.ts";
import type { Commits } from "./commits.ts";
import { familyOf } from "./machine.ts";
import { type PathOf, type PendingTimer, pendingTimers } from "./pending.ts";
import type { Session } from "./shard.ts";
import { asError } from "./faults.ts";
import type { Watches } from "./watches.ts";

export class Reads {
  readonly #commits: Commits;
  readonly #answers: Answers;
  readonly #watches: Watches;

  constructor(commits: Commits, answers: Answers, watches: Watches) {
    this.#commits = commits;
    this.#answers = answers;
    this.#watches = watches;
  }

  /** Answers a request that only reads. */
  take(a: Activation, job: Job, now: number): void {
    switch (job.kind) {
      case Get:
        this.whenCommitted(a, job, () => this.#answerState(a, job, now));
        return;
      case Timers:
        this.whenCommitted(a, job, () => this.#answers.settle(job, undefined, delaysOf(a.committed)));
        return;
      case History:
        this.whenCommitted(a, job, () => this.#answers.history(a, job));
        return;
      case Watch:
        this.whenCommitted(a, job, () => {
          const state = stateOf(a, a.committed, now);
          this.#watches.add(a, (job.session as Session).name, String(job.message.event));
          this.#answers.settle(job, undefined, state, stateBytes(a.committed));
        });
        return;
      case Unwatch:
        this.#watches.remove(a.id, String(job.message.event));
        this.#answers.settle(job, undefined, undefined);
        return;
      default:
        this.#answers.reject(
          job,
          new KeyturnError("invalid_frame", `A request of kind ${job.kind} is not known here.`),
        );
    }
  }

  /**
   * Answers when what the actor's latest state is, is committed and surely still current. Also for errors: one that
   * follows from a state that is still in flight waits for the gate as a reply does.
   * @param answer may throw: the asker is told why
   */
  whenCommitted(a: Activation, job: Job, answer: () => void): void {
    this.#commits.read(a, (failed) => {
      if (failed !== undefined) {
        this.#answers.reject(job, failed);
        return;
      }
      try {
        answer();
      } catch (error) {
        // The initial state of an actor that nobody has sent anything is the machine's to make; it may throw.
        this.#answers.reject(job, asError(error));
      }
    });
  }

  #answerState(a: Activation, job: Job, now: number): void {
    this.#answers.settle(job, undefined, stateOf(a, a.committed, now), stateBytes(a.committed));
  }
}

/** Paths of an actor's children by their sessions. */
export function pathIn({ snapshot }: Turn): PathOf {
  const family = familyOf(snapshot);
  return (session) => family?.bySession(session)?.path;
}

function delaysOf(turn: Turn): readonly PendingTimer[] {
  return pendingTimers(turn.timers, pathIn(turn));
}
