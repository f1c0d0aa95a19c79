/**
 * What the actors of a source are sent and what they hold.
 *
 * Owns the types and the bounds. No code but names.
 */
import type { AddressedEvent } from "../../engine/machine.ts";
import { limits } from "../../words/limits.ts";
import type { SourceShare } from "../../words/sources.ts";

/** Where a reader stands in a partition: plain data of the reader's own. */
export type Position = string | number | { readonly [name: string]: string | number } | null;

/** A part of a source, as it is stored in the plan. Its key is its index there, for ever. */
export interface PlannedPartition {
  /** What it is a part of: a file's path, a stream's name, a producer. The parts of one group are planned at once. */
  readonly group: string;
  /** The reader's own description of it. */
  readonly spec: Readonly<Record<string, string | number | null>>;
  /** By which the reader knows that the group is still what it was when it was planned. */
  readonly identity: Readonly<Record<string, string | number | null>>;
}

/**
 * An item that could not be used: its number (line, row, sequence), why, its beginning, and the position before it, from
 * which it can be read again. A batch leaves that out for its first item, since the partition knows it; letters of older
 * versions have none.
 */
export type PackedLetter = readonly [
  number: number,
  reason: string,
  text: string,
  time: number,
  before?: Position,
];

export type PartitionEvent =
  | {
      readonly type: "items";
      /** The revision that this follows; `WHEREVER` if it is told apart by a request id instead. */
      readonly from: number;
      /**
       * The position that it begins behind. Runners cut what they read where they happen to: a batch of one may have the
       * revision that a batch of another led to, and not go on where that ended.
       */
      readonly behind?: Position;
      /** Where the reader stands after it. */
      readonly position: Position;
      readonly items: number;
      readonly skipped: number;
      readonly missed: number;
      readonly letters: readonly PackedLetter[];
      readonly tells: readonly AddressedEvent[];
      /** Nothing came after it. */
      readonly ended: boolean;
      /** Of one that is told apart by a request id: the hash of what was posted. */
      readonly of?: string;
    }
  | FenceEvent
  | { readonly type: "arrived"; readonly fence: number };

/**
 * Asks the gates of the shards that something was told to since the last such question; with `all`, of every shard. Where
 * one turn cannot tell so many, further parts of the same question follow.
 */
export interface FenceEvent {
  readonly type: "fence";
  /** Drawn, so that no answer to another life of the partition fits. */
  readonly fence: number;
  /** Of the app. */
  readonly shards: number;
  readonly all: boolean;
  /** Counts from 0. */
  readonly part: number;
}

export interface PartitionContext {
  /** Batches that it has taken. */
  readonly revision: number;
  readonly position: Position;
  readonly items: number;
  readonly skipped: number;
  /** Also the number of letters that it has written. */
  readonly malformed: number;
  /** How many letters were kept when the last was written: says in which pages they lie. Missing without letters. */
  readonly keep?: number;
  /** Items that were gone before they could be read. */
  readonly missed: number;
  readonly told: number;
  readonly ended: boolean;
  readonly delivered: number;
  /** Items of the batches up to `delivered`. */
  readonly deliveredItems: number;
  /** To whom something was told since the gates were asked last: addresses, or "many". */
  readonly since: readonly string[] | "many";
  readonly fences: readonly Fence[];
}

/** A question to gates that is not wholly answered. */
export interface Fence {
  readonly id: number;
  readonly revision: number;
  readonly items: number;
  /** Every gate was asked: so it speaks for all that was told before, also for questions that nobody answers. */
  readonly all: boolean;
  readonly waiting: number;
}

/** What a partition answers to items. */
export interface PartitionReply {
  readonly applied: boolean;
  readonly revision: number;
  readonly position: Position;
  readonly delivered: number;
}

export interface PlanContext {
  readonly partitions: readonly PlannedPartition[];
  readonly runners: readonly string[];
  /** By runner, what it said last; missing where an older version wrote it. */
  readonly shares?: Readonly<Record<string, SourceShare>>;
}

export type PlanEvent =
  | { readonly type: "plan"; readonly partitions: readonly PlannedPartition[] }
  | {
      readonly type: "here";
      readonly runner: string;
      readonly lease_ms: number;
      readonly share?: SourceShare | undefined;
    }
  | { readonly type: "left"; readonly runner: string };

export type PageEvent =
  | { readonly type: "letters"; readonly first: number; readonly letters: readonly PackedLetter[] }
  /** Those letters are dropped that are there; the answer is how many. */
  | { readonly type: "drop"; readonly letters: readonly number[] }
  /** The letter is dropped and its messages are told, in one turn, if it is there and of that item; the answer says so. */
  | {
      readonly type: "retry";
      readonly letter: number;
      readonly number: number;
      readonly tells: readonly AddressedEvent[];
    };

export interface PageContext {
  /** Number of the first letter in it. */
  readonly first: number;
  /** Null where one was dropped, or taken. */
  readonly letters: readonly (PackedLetter | null)[];
}

/** Follows any revision. */
export const WHEREVER = -1;

/** Letters in one page. */
export const PAGE_LETTERS = 64;
/** Parts of a source; one actor keeps the list of them. */
export const PARTITIONS_MAX = 1_024;
/** Each has a timer in the plan. */
export const RUNNERS_MAX = 200;

/** Questions to gates that may be open. */
export const FENCES_MAX = 16;
/** Addresses that are remembered until the gates are asked. */
export const SINCE_MAX = 32;

/** Gates that one turn asks. */
export const GATES_AT_ONCE = limits.tellsPerTurn - 24;

export type ItemsEvent = Extract<PartitionEvent, { type: "items" }>;

/** Whether two positions are the same. They are flat, and each reader writes its own in one way. */
export function same(a: Position, b: Position): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

/** How many pages a partition's letters lie in: one more than they fill, since the last is being filled. */
export function pagesFor(keep: number): number {
  return Math.ceil(keep / PAGE_LETTERS) + 1;
}

/** Key of the page that holds a partition's letter. */
export function pageKey(partition: string, letter: number, pages: number): string {
  return `${partition}:${Math.floor(letter / PAGE_LETTERS) % pages}`;
}
