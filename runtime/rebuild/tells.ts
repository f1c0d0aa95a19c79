/**
 * What two definitions tell others: the messages in the journal beside those that a replay would have sent.
 *
 * Owns the pairing of the two. Talks to its findings, which count. Nothing is sent here: the actors that were told have what
 * they were told in their own journals, and a rebuild of one type does not reach into the past of another. A promotion that
 * is to tell asks what is missing (promote.ts). What it has told is in the record of the actor's promotion, and so is the
 * counterpart of what was missing: whoever looks again misses nothing.
 *
 * Within a turn messages are paired by their address and content, then by address and event type: those are told
 * otherwise. What is left waits for its counterpart in another turn of the actor, since the new definition may tell the
 * same earlier or later. At the end of the replay, or of the actor's life, it is told by one of the two only.
 *
 * Invariant: memory is bounded. Over `OPEN_MAX` and `OPEN_CHARS`, further messages count at once as told by one only.
 */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { Effects, MachineSnapshot } from "../engine/machine.ts";
import { plainError } from "../engine/machine.ts";
import { type EventObject, PROMISE_REJECT, PROMISE_RESOLVE } from "../engine/machine/internals.ts";
import { shownState } from "../engine/outgoing.ts";
import { FromShard, type TurnRecord } from "../engine/record.ts";
import { decodeKey } from "../words/address.ts";
import { encode } from "../words/codec.ts";
import { laneOfChannel } from "../words/lanes.ts";
import type { Life } from "./life.ts";

/** Messages of all actors that wait for a counterpart in another turn, and about how many characters they have. */
const OPEN_MAX = 65_536;
const OPEN_CHARS = 32 * 1024 * 1024;
/** Contents that are longer are told apart by their hash. */
const NAME_CHARS = 256;

export type Way = "told" | "asked" | "answered" | "emitted";

/** One message. */
export interface Sent {
  readonly way: Way;
  /** Address, `type/key`; empty for what is emitted. */
  readonly to: string;
  readonly event: unknown;
  /** Of a question or an answer. */
  readonly session?: string | undefined;
}

/** One that has no counterpart yet. */
interface Open {
  readonly sent: Sent;
  readonly by: "running" | "rebuilt";
  readonly turn: number;
  readonly time: number;
  readonly chars: number;
  /** In which order they came. */
  readonly number: number;
}

/** Hears of every message that is not told as it was. */
export interface TellFindings {
  /** Messages that were compared. */
  counted(running: number, rebuilt: number): void;
  /** Told by both in one turn, with other contents; or by one of them only. */
  otherwise(
    life: Life,
    running: Sent | undefined,
    rebuilt: Sent | undefined,
    turn: number,
    time: number,
  ): void;
  /** More messages wait than are kept: some that are told in another turn may count as told by one only. */
  overflowed(): void;
}

export class Tells {
  readonly #findings: TellFindings;
  /** What the turn that is being replayed sends. */
  #now: Sent[] = [];
  readonly #open = new Map<Life, Map<string, Open[]>>();
  #count = 0;
  #chars = 0;
  #number = 0;
  #exact = true;
  readonly #keeps: boolean;

  /** @param keeps whether what has no counterpart is still known when that was said, to be asked for by `missing` */
  constructor(findings: TellFindings, keeps = false) {
    this.#findings = findings;
    this.#keeps = keeps;
  }

  /** False if more waited than is kept: then it is not known what is missing. */
  get exact(): boolean {
    return this.#exact;
  }

  /** What an actor would have told others, and nobody was told by it up to here; in order. Questions are not among it. */
  missing(life: Life): readonly Sent[] {
    const open = [...(this.#open.get(life)?.values() ?? [])].flat();
    return open
      .filter(({ by, sent }) => by === "rebuilt" && sent.way === "told")
      .sort((a, b) => a.number - b.number)
      .map(({ sent }) => sent);
  }

  /** Takes what a step of the new definition would have sent. */
  note(effects: Effects): void {
    for (const { to, event, asker } of effects.tells)
      this.#now.push({
        way: asker === undefined ? "told" : "asked",
        to: String(to),
        event,
        session: asker,
      });
    for (const event of effects.emitted) this.#now.push({ way: "emitted", to: "", event });
  }

  /** Takes what it answers: who asks, and what, only the record says. */
  noteAnswers(effects: Effects, record: TurnRecord, snapshot: MachineSnapshot): void {
    if (effects.answers.length === 0 && record.out.length === 0) return;
    const given = new Map(effects.answers.map((answer) => [answer.to.session, answer]));
    const asked = answersIn(record);
    for (const { to, value, error } of given.values())
      this.#now.push(answer(addressOf(to.from), to.session, error, value));
    const last = asked.at(-1);
    if (last === undefined || given.has(last.session as string)) return;
    if (record.source !== FromShard || effects.deferred) return;
    const value = effects.replied ? effects.reply : shownState(snapshot, record.turn, 0);
    this.#now.push(answer(last.to, last.session, undefined, value));
  }

  /** Compares with what the record says; `undefined` where there is none. */
  compare(life: Life, record: TurnRecord | undefined, turn: number, time: number): void {
    const rebuilt = this.#now;
    const running = record === undefined ? none : sentIn(record);
    if (rebuilt.length === 0 && running.length === 0) return;
    this.#now = [];
    this.#findings.counted(running.length, rebuilt.length);
    if (running.length === rebuilt.length && running.every((sent, at) => isSame(sent, rebuilt[at] as Sent)))
      return;
    const left = new Groups(running, contentOf);
    const without = rebuilt.filter((sent) => left.take(sent) === undefined);
    const others = new Groups(left.rest(), kindOf);
    for (const sent of without) {
      const other = others.take(sent);
      if (other !== undefined) this.#findings.otherwise(life, other, sent, turn, time);
      else this.#wait(life, sent, "rebuilt", turn, time);
    }
    for (const sent of others.rest()) this.#wait(life, sent, "running", turn, time);
  }

  /** What an actor's messages have waited for does not come. */
  settle(life: Life): void {
    const waiting = this.#open.get(life);
    if (waiting === undefined) return;
    this.#open.delete(life);
    for (const some of waiting.values())
      for (const open of some) {
        this.#free(open);
        this.#alone(life, open);
      }
  }

  settleAll(): void {
    for (const [life, waiting] of [...this.#open])
      if (!this.#keeps) this.settle(life);
      else for (const open of [...waiting.values()].flat()) this.#alone(life, open);
  }

  #wait(life: Life, sent: Sent, by: Open["by"], turn: number, time: number): void {
    const text = contentOf(sent);
    const open: Open = { sent, by, turn, time, chars: text.length, number: this.#number++ };
    const name = text.length > NAME_CHARS ? createHash("sha1").update(text).digest("hex") : text;
    let waiting = this.#open.get(life);
    const others = waiting?.get(name);
    if (others !== undefined && others[0]?.by !== by) {
      this.#free(others.shift() as Open);
      if (others.length === 0) waiting?.delete(name);
      if (waiting?.size === 0) this.#open.delete(life);
    } else if (this.#count >= OPEN_MAX || this.#chars >= OPEN_CHARS) {
      this.#exact = false;
      this.#findings.overflowed();
      this.#alone(life, open);
    } else {
      this.#count++;
      this.#chars += open.chars;
      if (waiting === undefined) this.#open.set(life, (waiting = new Map()));
      if (others === undefined) waiting.set(name, [open]);
      else others.push(open);
    }
  }

  #free({ chars }: Open): void {
    this.#count--;
    this.#chars -= chars;
  }

  #alone(life: Life, { sent, by, turn, time }: Open): void {
    if (by === "running") this.#findings.otherwise(life, sent, undefined, turn, time);
    else this.#findings.otherwise(life, undefined, sent, turn, time);
  }
}

const none: readonly Sent[] = [];

/** What a record says was sent. Messages that its routes made are left out: what they were made of is there. */
function sentIn(record: TurnRecord): readonly Sent[] {
  const { out, emitted } = record;
  if (out.length === 0 && emitted.length === 0) return none;
  const sent: Sent[] = [];
  for (const { id, event, link, toShard } of out) {
    if (laneOfChannel(toShard) !== 0) continue;
    const way = link === undefined ? "told" : link.from === undefined ? "answered" : "asked";
    sent.push({ way, to: addressOf(id), event, session: link?.session });
  }
  for (const event of emitted) sent.push({ way: "emitted", to: "", event });
  return sent;
}

function answersIn(record: TurnRecord): readonly Sent[] {
  return sentIn(record).filter(({ way }) => way === "answered");
}

function answer(to: string, session: string | undefined, error: unknown, value: unknown): Sent {
  const event =
    error === undefined
      ? { type: PROMISE_RESOLVE, data: value }
      : { type: PROMISE_REJECT, data: plainError(error) };
  return { way: "answered", to, event, session };
}

/** Messages by what they are told apart by, each to be taken once, in their order. */
class Groups {
  readonly #groups = new Map<string, Sent[]>();
  readonly #nameOf: (sent: Sent) => string;

  constructor(all: readonly Sent[], nameOf: (sent: Sent) => string) {
    this.#nameOf = nameOf;
    for (const sent of all) {
      const name = nameOf(sent);
      const group = this.#groups.get(name);
      if (group === undefined) this.#groups.set(name, [sent]);
      else group.push(sent);
    }
  }

  take(sent: Sent): Sent | undefined {
    return this.#groups.get(this.#nameOf(sent))?.shift();
  }

  rest(): readonly Sent[] {
    return [...this.#groups.values()].flat();
  }
}

function isSame(one: Sent, other: Sent): boolean {
  return whereOf(one) === whereOf(other) && isDeepStrictEqual(compared(one), compared(other));
}

/** The runtime's own errors are Errors in newer records, and plain objects in older ones. */
function compared({ event }: Sent): unknown {
  const { type, data } = (event ?? {}) as { readonly type?: unknown; readonly data?: unknown };
  if (type !== PROMISE_REJECT || !(data instanceof Error) || data.name !== "KeyturnError") return event;
  return { type, data: { ...data, name: data.name, message: data.message } };
}

/** An answer is for the child that has asked; of questions the name of the child may differ. */
function whereOf({ way, to, session = "" }: Sent): string {
  return way === "answered" ? `${way} ${to} ${session}` : `${way} ${to}`;
}

function kindOf(sent: Sent): string {
  return `${whereOf(sent)} ${String((sent.event as Partial<EventObject> | null)?.type)}`;
}

function contentOf(sent: Sent): string {
  return `${whereOf(sent)} ${canonical(compared(sent))}`;
}

/** The same text for the same content, in whatever order its properties are. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  const prototype: unknown =
    value === null || typeof value !== "object" ? undefined : Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) {
    const entries = Object.entries(value as object).filter(([, inner]) => inner !== undefined);
    return `{${entries
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, inner]) => `${JSON.stringify(name)}:${canonical(inner)}`)
      .join()}}`;
  }
  return Buffer.from(encode(value)).toString("latin1");
}

function addressOf(id: string): string {
  const dot = id.indexOf(".");
  return `${id.slice(0, dot)}/${decodeKey(id.slice(dot + 1))}`;
}
