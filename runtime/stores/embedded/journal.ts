/**
 * The journal: lanes in one table, one put per batch.
 *
 * Owns the tables `journal` and `stretches`, and in memory the end of the journal and of the lanes in use. Talks to the
 * Writer and the Environment.
 *
 * An entry lies under [lane, sequence], so that a lane is read alone and its last entry is found by a seek. Which lane
 * a sequence belongs to is known from the stretches: a stretch begins where the lane differs from that of the sequence
 * before. A node appends to one lane for as long as it lives, so that an append is a single put almost always.
 *
 * Invariants: see Journal in the ports.
 */
import type { AppendResult, Journal, JournalEnds, JournalEntry, Retention } from "../../ports/index.ts";
import { invariant, isKeyturnError } from "../../words/errors.ts";
import type { Environment } from "./environment.ts";
import type { Group, Writer } from "./writer.ts";

/** What one chunk of a read holds at most, unless its only entry is larger. */
const CHUNK_BYTES = 4 * 1024 * 1024;
const CHUNK_ENTRIES = 4_096;
/** Entries that one transaction removes. */
const TRIM_ENTRIES = 4_096;
/** Lanes whose end is kept in memory. */
const HEADS = 1_024;
/** A lane's name goes into keys. */
const LANE = /^[\x21-\x7e]{1,200}$/;

/** Where the journal ends: its last sequence, and the lane of that. */
interface Tail {
  readonly seq: number;
  readonly lane: string;
}

interface Staged {
  readonly heads: Map<string, number>;
  tail: Tail;
}

export class EmbeddedJournal implements Journal, Retention {
  readonly #environment: Environment;
  readonly #writer: Writer;
  /** Last sequence of lanes, as committed. A lane that is not here is looked up. */
  readonly #heads = new Map<string, number>();
  #tail: Tail;

  constructor(environment: Environment, writer: Writer) {
    this.#environment = environment;
    this.#writer = writer;
    this.#tail = environment.read(() => this.#findTail());
    writer.afterFailure(() => {
      this.#heads.clear();
      this.#tail = environment.read(() => this.#findTail());
    });
  }

  async last(lane: string): Promise<number> {
    return this.#environment.read(() => this.#head(lane));
  }

  async append(lane: string, expectedLast: number, bytes: Uint8Array): Promise<AppendResult> {
    invariant(LANE.test(lane), "a lane's name is 1 to 200 printable ASCII characters");
    try {
      return await this.#writer.write<AppendResult>({
        bytes: bytes.length,
        decide: (group) => this.#decide(group, lane, expectedLast, bytes),
      });
    } catch (cause) {
      return { kind: isKeyturnError(cause, "store_full") ? "full" : "unknown", cause };
    }
  }

  async *read(lane: string, from: number, to: number): AsyncGenerator<readonly JournalEntry[]> {
    const { journal } = this.#environment.tables;
    // A reader does not run after a writer for ever.
    const end = Math.min(to, await this.last(lane));
    let next = Math.max(1, from);
    while (next <= end) {
      const chunk = this.#environment.read(() => {
        const entries: JournalEntry[] = [];
        let bytes = 0;
        // Read in one go: a cursor that is open over an await would hold pages back from reuse.
        const range = { start: [lane, next] as [string, number], end: [lane, end] as [string, number] };
        for (const { key, value } of journal.getRange({ ...range, inclusiveEnd: true })) {
          bytes += value.length;
          if (entries.length > 0 && (bytes > CHUNK_BYTES || entries.length === CHUNK_ENTRIES)) break;
          entries.push({ seq: key[1], bytes: value });
        }
        return entries;
      });
      const last = chunk.at(-1);
      if (last === undefined) return;
      yield chunk;
      next = last.seq + 1;
    }
  }

  async get(seq: number): Promise<Uint8Array | undefined> {
    return this.#environment.read(() => {
      const stretch = this.#stretchAt(seq);
      return stretch === undefined ? undefined : this.#environment.tables.journal.get([stretch, seq]);
    });
  }

  async ends(): Promise<readonly JournalEnds[]> {
    return this.#environment.read(() => {
      const { stretches } = this.#environment.tables;
      for (const first of stretches.getKeys({ limit: 1 })) return [{ first, last: this.#tail.seq }];
      return [{ first: 1, last: 0 }];
    });
  }

  async *scan(from: number, to: number): AsyncGenerator<readonly JournalEntry[]> {
    const end = Math.min(to, this.#tail.seq);
    let next = Math.max(1, from);
    while (next <= end) {
      const chunk = this.#environment.read(() => this.#chunk(next, end));
      const last = chunk.at(-1);
      if (last === undefined) return;
      yield chunk;
      next = last.seq + 1;
    }
  }

  /** Entries of one stretch after another, as many as go into a chunk. */
  #chunk(from: number, to: number): JournalEntry[] {
    const { journal, stretches } = this.#environment.tables;
    const entries: JournalEntry[] = [];
    let bytes = 0;
    for (let next = from; next <= to; ) {
      const lane = this.#stretchAt(next);
      let end = to;
      for (const key of stretches.getKeys({ start: next + 1, limit: 1 })) end = Math.min(to, key - 1);
      if (lane !== undefined) {
        const range = { start: [lane, next] as [string, number], end: [lane, end] as [string, number] };
        for (const { key, value } of journal.getRange({ ...range, inclusiveEnd: true })) {
          bytes += value.length;
          if (entries.length > 0 && (bytes > CHUNK_BYTES || entries.length === CHUNK_ENTRIES)) return entries;
          entries.push({ seq: key[1], bytes: value });
        }
      }
      next = end + 1;
    }
    return entries;
  }

  async lanes(): Promise<readonly string[]> {
    return this.#environment.read(() => {
      const lanes = new Set<string>();
      for (const { value } of this.#environment.tables.stretches.getRange({}))
        lanes.add(Buffer.from(value).toString("latin1"));
      return [...lanes];
    });
  }

  async trim(lane: string, upTo: number): Promise<void> {
    const { journal } = this.#environment.tables;
    while (true) {
      const end = Math.min(upTo, (await this.last(lane)) - 1);
      const keys = this.#environment.read(() => [
        ...journal.getKeys({ start: [lane, 0], end: [lane, end + 1], limit: TRIM_ENTRIES }),
      ]);
      if (keys.length === 0) return;
      await this.#writer.write<void>({
        bytes: 0,
        decide: (group) => {
          for (const key of keys) group.remove(journal, key);
        },
      });
    }
  }

  #decide(group: Group, lane: string, expectedLast: number, bytes: Uint8Array): AppendResult {
    const staged = group.staged<Staged>(this, () => {
      const fresh: Staged = { heads: new Map(), tail: this.#tail };
      group.committed(() => this.#apply(fresh));
      return fresh;
    });
    if ((staged.heads.get(lane) ?? this.#head(lane)) !== expectedLast) return { kind: "conflict" };
    const { journal, stretches } = this.#environment.tables;
    const seq = staged.tail.seq + 1;
    if (staged.tail.lane !== lane) group.put(stretches, seq, Buffer.from(lane, "latin1"));
    group.put(journal, [lane, seq], bytes);
    staged.tail = { seq, lane };
    staged.heads.set(lane, seq);
    return { kind: "committed", seq };
  }

  #apply({ heads, tail }: Staged): void {
    this.#tail = tail;
    if (this.#heads.size + heads.size > HEADS) this.#heads.clear();
    for (const [lane, seq] of heads) this.#heads.set(lane, seq);
  }

  #head(lane: string): number {
    return this.#heads.get(lane) ?? this.#findHead(lane);
  }

  #findHead(lane: string): number {
    const { journal } = this.#environment.tables;
    const backwards = {
      start: [lane, Number.MAX_SAFE_INTEGER] as [string, number],
      end: [lane, 0] as [string, number],
    };
    for (const key of journal.getKeys({ ...backwards, reverse: true, limit: 1 })) return key[1];
    return 0;
  }

  #findTail(): Tail {
    const lane = this.#stretchAt(Number.MAX_SAFE_INTEGER);
    return lane === undefined ? { seq: 0, lane: "" } : { seq: this.#findHead(lane), lane };
  }

  /** The lane of the stretch that a sequence lies in. */
  #stretchAt(seq: number): string | undefined {
    const { stretches } = this.#environment.tables;
    for (const { value } of stretches.getRange({ start: seq, end: 0, reverse: true, limit: 1 })) {
      return Buffer.from(value).toString("latin1");
    }
    return undefined;
  }
}
