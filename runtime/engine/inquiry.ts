/**
 * Requests that ask a shard about its actors of one type.
 *
 * Owns their way from the queue to an answer: the catalog, which may have to be built first, then the proof that this
 * node still owns the shard, then the rows. Talks to catalogs, queries and answers. Nothing of it holds up turns, nor
 * the shard's hand-over: who asked a shard that is gone asks its next owner.
 */
import { checkShardQuery } from "../words/queries.ts";
import type { Clock } from "../ports/index.ts";
import type { Job } from "./activation.ts";
import type { Answers } from "./answers.ts";
import type { Catalogs } from "./catalog.ts";
import type { HostedType } from "./definition.ts";
import { answerQuery } from "./queries.ts";
import { asError } from "./step.ts";

export class Inquiry {
  readonly #clock: Clock;
  readonly #catalogs: Catalogs;
  readonly #answers: Answers;
  /** Resolves when it is sure that all that is committed is known here. */
  readonly #current: () => Promise<void>;

  constructor(clock: Clock, catalogs: Catalogs, answers: Answers, current: () => Promise<void>) {
    this.#clock = clock;
    this.#catalogs = catalogs;
    this.#answers = answers;
    this.#current = current;
  }

  /** Answers a Query, some time. */
  take(job: Job, hosted: HostedType): void {
    const { shard } = job;
    // Not counted while it waits.
    shard.busy--;
    const settle = (answer: () => void): void => {
      if (shard.phase === "gone") return;
      shard.busy++;
      answer();
      this.#answers.flush();
    };
    this.#answer(job, hosted).then(
      (value) => settle(() => this.#answers.settle(job, undefined, value)),
      (error: unknown) => settle(() => this.#answers.reject(job, asError(error))),
    );
  }

  async #answer(job: Job, hosted: HostedType): Promise<unknown> {
    const query = checkShardQuery(job.message.event);
    const rows = await this.#catalogs.of(job.shard, hosted);
    await this.#current();
    return answerQuery(rows, hosted.definition, query, this.#clock.now());
  }
}
