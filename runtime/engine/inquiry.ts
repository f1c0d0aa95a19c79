/**
 * Requests that ask a shard about its actors of one type.
 *
 * Owns their way from the queue to an answer: the catalog, which may have to be built first, then the proof that this
 * node still owns the shard, then the rows. Talks to catalogs, queries and answers. Nothing of it holds up turns, nor
 * the shard's hand-over: who asked a shard that is gone asks its next owner.
 *
 * Whoever asks all shards asks them at once. So many rows are looked at for all of them together, then turns go on.
 */
import type { Clock } from "../ports/index.ts";
import { laneOfChannel } from "../words/lanes.ts";
import { journalAt } from "../words/position.ts";
import { checkShardQuery, type ShardAnswer, type ShardQuery } from "../words/queries.ts";
import type { Job } from "./activation.ts";
import type { Answers } from "./answers.ts";
import type { Catalogs } from "./catalog/catalogs.ts";
import type { ShardRows } from "./catalog/rows.ts";
import type { HostedType } from "./definition.ts";
import { asError } from "./faults.ts";
import { answerChanges, answerQuery, canAnswer, startOf } from "./queries.ts";
import type { ShardState } from "./shard.ts";
import { statesBeside } from "./states.ts";
import { Stint } from "./stint.ts";

/** The longest that a question for changes waits. */
const HOLD_MS = 60_000;
/** How long one waits for the actors of a type to be found, where who asks goes on asking. */
const FINDING_MS = 10_000;

export class Inquiry {
  /** Questions that wait for a change, by session and number: they are repeated meanwhile. */
  readonly #held = new Set<string>();
  readonly #clock: Clock;
  readonly #catalogs: Catalogs;
  readonly #answers: Answers;
  /** Resolves when it is sure that all that is committed is known here. */
  readonly #current: () => Promise<void>;
  /** Position of what is committed. */
  readonly #position: () => number;
  /** Of all who ask together. */
  readonly #stint: Stint;
  /** Until the next question is answered, if enough were for now. */
  #pause: Promise<void> | undefined;

  constructor(
    clock: Clock,
    catalogs: Catalogs,
    answers: Answers,
    current: () => Promise<void>,
    position: () => number,
    breathe: () => Promise<void>,
  ) {
    this.#stint = new Stint(breathe);
    this.#position = position;
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
    const name = `${job.session?.name}:${shard.shard}:${job.number}`;
    if (this.#held.has(name)) return;
    this.#held.add(name);
    const settle = (answer: () => void): void => {
      this.#held.delete(name);
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
    if (query.ask === "delivered") return { delivered: await this.#delivered(job.shard, query) };
    const isEnough = (rows: ShardRows): boolean => canAnswer(rows, query);
    const start = startOf(query);
    let rows: ShardRows;
    do {
      const found = await this.#inTime(this.#catalogs.of(job.shard, hosted, start, isEnough), query);
      if (found === undefined)
        return { finding: this.#catalogs.known(job.shard, hosted.definition.type)?.size ?? 0 };
      rows = found;
      if (query.ask === "changes") await this.#change(rows, query);
      await this.#current();
      // The first of those who wait may use it up again.
      while (this.#pause !== undefined) await this.#pause;
      // What was enough may be gone meanwhile.
    } while (!canAnswer(rows, query) && job.shard.phase !== "gone");
    const { definition } = hosted;
    const now = this.#clock.now();
    if (query.ask === "changes") return answerChanges(rows, definition, query, now);
    const looks = { done: 0 };
    const answer = answerQuery(rows, definition, query, now, looks);
    this.#spend(looks.done);
    const unknown =
      isEmpty(answer) && query.state ? statesBeside(definition.machine, query.state) : undefined;
    const position = this.#newest(rows);
    return unknown === undefined ? { ...answer, position } : { ...answer, position, unknown };
  }

  #spend(looks: number): void {
    this.#pause = this.#stint.spend(looks)?.then(() => {
      this.#pause = undefined;
    });
  }

  /** Whether all that is committed now was taken over a lane, once it was or some time has passed. */
  async #delivered(shard: ShardState, { lane, hold_ms }: ShardQuery): Promise<boolean> {
    // What a former owner has answered is known here.
    await this.#current();
    const open = [...shard.outs].filter(
      ([channel, { waiting }]) => laneOfChannel(channel) === lane && waiting.length > 0,
    );
    if (open.length === 0) return true;
    const taken = Promise.all(open.map(([, channel]) => channel.taken())).then(() => true);
    const late = new Promise<boolean>((resolve) => {
      const cancel = this.#clock.after(Math.min(Math.max(hold_ms ?? 0, 0), HOLD_MS), () => resolve(false));
      void taken.then(cancel);
    });
    return await Promise.race([taken, late]);
  }

  /** What is found, or undefined if that takes long and whoever asks will ask again. */
  #inTime(
    found: ShardRows | Promise<ShardRows>,
    { waits }: ShardQuery,
  ): ShardRows | Promise<ShardRows | undefined> {
    if (!(found instanceof Promise) || waits !== true) return found;
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(FINDING_MS, () => resolve(undefined));
      found.then(resolve, reject).finally(cancel);
    });
  }

  /** A place in the journal behind everything that is committed of these actors, and before all that will be. */
  #newest(rows: ShardRows): number {
    const own = this.#position();
    // What a former owner committed may lie behind this one's last batch. Places in different journals say nothing.
    return Math.max(rows.lastIn(journalAt(own)), own);
  }

  /** Resolves when there is a change behind what was answered, or after a while. */
  async #change(rows: ShardRows, { since, hold_ms }: ShardQuery): Promise<void> {
    if (since?.log !== rows.log || since.number !== rows.number) return;
    await new Promise<void>((resolve) => {
      const forget = rows.onChange(() => {
        cancel();
        resolve();
      });
      const cancel = this.#clock.after(Math.min(Math.max(hold_ms ?? 0, 0), HOLD_MS), () => {
        forget();
        resolve();
      });
    });
  }
}

function isEmpty({ found = [], timers = [], counts = {} }: ShardAnswer): boolean {
  return found.length === 0 && timers.length === 0 && Object.keys(counts).length === 0;
}
