/**
 * A replay: the journal's records of one type, in each actor's order, through a new definition.
 *
 * Owns the actors of one part while they are replayed, and the order of their records. Talks to the journal's reading
 * calls only. Several journals are read side by side; their positions say nothing about each other, so each record waits
 * until the one that it links to has been replayed.
 *
 * Invariants:
 * 1. An actor's turns are replayed in their order, each once.
 * 2. An actor of whose past a record is missing is known as such (`Life.whole`); its later turns are replayed only if it
 *    is to begin with a state that the journal still has.
 * 3. What is read twice (`follow` begins where the last reading ended) changes nothing.
 */
import type { Journal, JournalEnds, JournalEntry } from "../ports/index.ts";
import type { HostedType } from "../engine/definition.ts";
import type { EventObject } from "../engine/machine/internals.ts";
import {
  type Batch,
  decodeBatch,
  DeleteTurn,
  FromNowhere,
  FromSession,
  InPreviousBatch,
  InThisBatch,
  KeyframeTurn,
  type Link,
  Refusal,
  resolveLink,
  type TurnRecord,
} from "../engine/record.ts";
import { FORKED, REBUILT } from "../engine/replace.ts";
import { asError } from "../engine/faults.ts";
import { KeyturnError } from "../words/errors.ts";
import { type Findings, Life, Replayer } from "./life.ts";
import type { Part } from "./part.ts";
import { ReplayReader } from "./records.ts";
import type { Sent } from "./tells.ts";

export interface ReplayOptions {
  readonly hosted: HostedType;
  readonly findings: Findings;
  /** Whether messages that the running definition refused are tried. */
  readonly retryRefused: boolean;
  /** Whether actors whose beginning is missing begin with the first whole state that is left. */
  readonly fromSnapshots: boolean;
  /** Whether it will be asked what others have not been told. */
  readonly tell: boolean;
}

/** A record that waits for the one before it. */
interface Waiting {
  readonly record: TurnRecord;
  readonly link: Link;
  readonly previous: Link;
  readonly time: number;
}

/** Records that wait, over all actors. More than clocks that go apart explain. */
const WAITING_MAX = 1_000_000;

/** Counts of what was read, over all passes. */
export interface ReplayCounts {
  /** Batches, and their bytes. */
  batches: number;
  bytes: number;
  /** Records of the type, and turns among them. */
  records: number;
  /** Lives that ended with a deletion. */
  deleted: number;
}

export class Replay {
  readonly lives = new Map<string, Life>();
  readonly counts: ReplayCounts;
  readonly part: Part;
  /** Actors that records were read of, since somebody has put a set here. */
  touched: Set<string> | undefined = undefined;
  readonly #options: ReplayOptions;
  readonly #replayer: Replayer;
  readonly #reader: ReplayReader;
  readonly #waiting = new Map<string, Waiting[]>();
  #waitingCount = 0;
  /** Whether a record may come before the one that it links to. */
  #unordered = false;
  /** True if something that the journal had is not there any more. */
  trimmed = false;
  readonly #lanes = new Set<string>();
  /** Positions up to which each journal has been read. */
  readonly #read: number[] = [];

  constructor(options: ReplayOptions, part: Part, counts: ReplayCounts) {
    this.#options = options;
    this.part = part;
    this.counts = counts;
    this.#replayer = new Replayer(options.hosted, options.findings, options.retryRefused, options.tell);
    this.#reader = new ReplayReader(options.hosted.definition.type);
  }

  /** Other types in the journal, as far as it was read. */
  get others(): ReadonlySet<string> {
    return this.#reader.others;
  }

  /**
   * Reads what lies between where the last reading ended and these ends.
   * @param goesOn asked after each chunk, with its last position
   * @returns false if it was left early
   */
  async follow(
    journal: Journal,
    ends: readonly JournalEnds[],
    goesOn: (seq: number) => boolean = () => true,
  ): Promise<boolean> {
    this.#unordered = ends.length > 1;
    const streams = ends.map(({ first, last }, number) => {
      const from = Math.max(first, (this.#read[number] ?? 0) + 1);
      this.#read[number] = Math.max(last, this.#read[number] ?? 0);
      return last < from ? undefined : journal.scan(from, last);
    });
    for await (const entries of merged(streams)) {
      for (const { seq, bytes } of entries) this.#batch(decodeBatch(bytes, seq), bytes.length);
      if (!goesOn((entries.at(-1) as JournalEntry).seq)) return false;
    }
    return true;
  }

  /**
   * What an actor would have told others and has not, up to where it was replayed; nothing if its past is not whole.
   * @throws KeyturnError `invalid_options` if that is too much to be known
   */
  untold(life: Life): readonly Sent[] {
    const untold = this.#replayer.untold(life);
    if (untold !== undefined) return untold;
    throw new KeyturnError(
      "invalid_options",
      "More is told otherwise than fits into memory, so it is not known what others have not been told. Take fewer actors at once: keysMax, --keys-max.",
    );
  }

  /** What waits for records that do not come: its actors are not whole. */
  settle(): void {
    for (const [id, waiting] of this.#waiting) {
      const life = this.#lifeOf(id);
      life.whole = false;
      life.snapshot = undefined;
      waiting.sort((a, b) => a.record.turn - b.record.turn);
      for (const { record, link, time } of waiting) this.#take(life, record, link, time);
    }
    this.#waiting.clear();
    this.#waitingCount = 0;
    this.#replayer.settle();
  }

  get waiting(): number {
    return this.#waitingCount;
  }

  #batch(batch: Batch, bytes: number): void {
    const { shards, divisor } = this.part;
    const reader = this.#reader;
    const { counts } = this;
    counts.batches++;
    counts.bytes += bytes;
    const { incarnation, number } = batch.header;
    if (!this.#lanes.has(incarnation)) {
      this.#lanes.add(incarnation);
      if (number > 1) this.trimmed = true;
    }
    if (batch.count === 0) return;
    reader.open(batch.bytes);
    for (let index = 0; index < batch.count; index++) {
      if (shards[batch.shardAt(index)] !== 1) continue;
      if (!reader.find(batch.offsetAt(index), batch.offsetAt(index + 1))) continue;
      if (divisor > 1 && !this.part.hasHash(reader.hash)) continue;
      counts.records++;
      reader.read();
      this.#record(batch, index);
    }
  }

  #record(batch: Batch, index: number): void {
    const reader = this.#reader;
    const { kind, turn, source } = reader;
    if (kind === Refusal && !this.#options.retryRefused) return;
    const time = batch.header.time + reader.delay;
    this.touched?.add(reader.id);
    const life = this.lives.get(reader.id);
    if (life?.snapshot !== undefined && kind < DeleteTurn && turn === life.turn + 1) {
      const { previousSeq: before } = reader;
      const seq =
        before === InThisBatch ? batch.seq : before === InPreviousBatch ? batch.header.previousSeq : before;
      // The common case: the next turn of an actor that is being replayed, about which there is nothing particular.
      if (seq === life.seq && reader.previousIndex === life.index && !reader.isRare) {
        const event = reader.event() as EventObject;
        if (event.type !== REBUILT && (source === FromSession || source === FromNowhere)) {
          this.#replayer.plain(life, event, turn, time, kind === KeyframeTurn);
          life.turn = turn;
          life.seq = batch.seq;
          life.index = index;
          life.version = reader.version;
          return;
        }
      }
    }
    const record = reader.whole();
    const link = [batch.seq, index] as const;
    const previous = resolveLink(record.previous, batch);
    if (this.#comesNext(life, record, previous)) {
      this.#take(life ?? this.#lifeOf(record.id), record, link, time);
      if (this.#waitingCount > 0) this.#release(record.id);
    } else if (this.#unordered) this.#wait({ record, link, previous, time });
    else this.#gap(life, record, link, time);
  }

  /** Whether a record is the next of its actor. */
  #comesNext(life: Life | undefined, { kind, turn }: TurnRecord, previous: Link): boolean {
    const stands = life?.turn ?? 0;
    if (kind === Refusal) return turn === stands;
    if (turn !== stands + 1) return false;
    // A deletion does not link; a beginning links to nothing.
    if (kind === DeleteTurn || turn === 1) return true;
    return previous[0] === life?.seq && previous[1] === life.index;
  }

  /** A record of an actor of which what comes before it is not in the journal any more. */
  #gap(before: Life | undefined, record: TurnRecord, link: Link, time: number): void {
    if (record.kind === Refusal || (record.kind === DeleteTurn && before === undefined)) return;
    // Read before.
    if (before !== undefined && record.turn <= before.turn && link[0] <= before.seq) return;
    const life = before ?? this.#lifeOf(record.id);
    life.whole = false;
    life.snapshot = undefined;
    this.#take(life, record, link, time);
  }

  #take(life: Life, record: TurnRecord, link: Link, time: number): void {
    const { kind, event, turn } = record;
    if (kind === DeleteTurn) {
      this.#replayer.ended(life);
      this.lives.delete(life.id);
      this.counts.deleted++;
      return;
    }
    if (kind === Refusal) {
      if (life.snapshot !== undefined || life.whole) this.#replayer.refused(life, event as EventObject, time);
      if (life.turn === 0 && life.snapshot === undefined) this.lives.delete(life.id);
      return;
    }
    const { type } = event as EventObject;
    if (type === FORKED || (!life.whole && life.snapshot === undefined))
      this.#restore(life, record, link, time);
    else if (type === REBUILT) this.#replayer.promoted(life, record, time);
    else this.#replayer.turn(life, record, time);
    life.turn = turn;
    life.version = record.version;
    [life.seq, life.index] = link;
  }

  #restore(life: Life, record: TurnRecord, link: Link, time: number): void {
    if (record.kind !== KeyframeTurn) return;
    if (!life.whole && !this.#options.fromSnapshots) return;
    try {
      this.#replayer.restore(life, record, link, time);
    } catch (error) {
      life.whole = false;
      this.#options.findings.rejected(life, record.event as EventObject, time, asError(error));
    }
  }

  #wait(waiting: Waiting): void {
    const { id } = waiting.record;
    if (++this.#waitingCount > WAITING_MAX)
      throw new Error(`More than ${WAITING_MAX} records wait for others: the journals do not fit together.`);
    const others = this.#waiting.get(id);
    if (others === undefined) this.#waiting.set(id, [waiting]);
    else others.push(waiting);
  }

  /** Replays what waited for the record that was just replayed, and so on. */
  #release(id: string): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    for (let found = true; found; ) {
      found = false;
      for (const [at, { record, link, previous, time }] of waiting.entries()) {
        const life = this.lives.get(id);
        if (!this.#comesNext(life, record, previous)) continue;
        waiting.splice(at, 1);
        this.#waitingCount--;
        this.#take(life ?? this.#lifeOf(id), record, link, time);
        found = true;
        break;
      }
    }
    if (waiting.length === 0) this.#waiting.delete(id);
  }

  #lifeOf(id: string): Life {
    let life = this.lives.get(id);
    if (life === undefined) this.lives.set(id, (life = new Life(id)));
    return life;
  }
}

/** Batches of several journals, about in the order of their times; of each in its own order. */
async function* merged(
  streams: readonly (AsyncIterable<readonly JournalEntry[]> | undefined)[],
): AsyncGenerator<readonly JournalEntry[]> {
  const given = streams.filter((stream) => stream !== undefined);
  if (given.length === 1) {
    yield* given[0] as AsyncIterable<readonly JournalEntry[]>;
    return;
  }
  const heads = given.map((stream) => new Head(stream));
  await Promise.all(heads.map((head) => head.advance()));
  while (true) {
    let first: Head | undefined;
    for (const head of heads)
      if (head.entry !== undefined && (first === undefined || head.time < first.time)) first = head;
    if (first?.entry === undefined) return;
    yield [first.entry];
    await first.advance();
  }
}

/** Where the reading of one journal of several stands. */
class Head {
  entry: JournalEntry | undefined = undefined;
  /** When its batch was written, milliseconds since the epoch. */
  time = 0;
  readonly #chunks: AsyncIterator<readonly JournalEntry[]>;
  #chunk: readonly JournalEntry[] = [];
  #at = 0;

  constructor(stream: AsyncIterable<readonly JournalEntry[]>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  async advance(): Promise<void> {
    while (this.#at === this.#chunk.length) {
      const next = await this.#chunks.next();
      this.entry = undefined;
      if (next.done) return;
      this.#chunk = next.value;
      this.#at = 0;
    }
    this.entry = this.#chunk[this.#at++] as JournalEntry;
    this.time = decodeBatch(this.entry.bytes, this.entry.seq).header.time;
  }
}
