/** One of everything that is stored, for the tests of the formats. */
import {
  DeleteTurn,
  DeltaTurn,
  encodeBatch,
  encodeRecord,
  FromNowhere,
  FromSession,
  FromShard,
  FromTimer,
  InPreviousBatch,
  InThisBatch,
  KeyframeTurn,
  NoLink,
  Refusal,
  type TurnRecord,
} from "../../runtime/engine/record.ts";
import { bodyOf, encodeEntry, type Entry, piecesOf } from "../../runtime/engine/shard-entry.ts";
import { ShardState } from "../../runtime/engine/shard.ts";
import { type ActorData, encodeSnapshot } from "../../runtime/engine/state.ts";
import { KeyturnError } from "../../runtime/words/errors.ts";

export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof KeyturnError) return error.code;
    throw error;
  }
  return "none";
}

const event = {
  type: "add",
  by: 2,
  at: new Date(1_700_000_000_123),
  big: 2n ** 60n,
  bytes: new Uint8Array([1, 2]),
  "": null,
};
const timer = { id: "~1.0", due: 1_900_000_000_000, generation: 1, event: { type: "tick" } };
const told = {
  toShard: 3,
  number: 17,
  id: "other.k=2F1",
  type: "other",
  key: "k/1",
  event: { type: "hi" },
  trace: undefined,
};

export const blank: TurnRecord = {
  kind: DeltaTurn,
  id: "probe.a",
  turn: 1,
  previous: NoLink,
  keyframe: NoLink,
  source: FromNowhere,
  sourceName: 0,
  sourceNumber: 0,
  delay: 0,
  version: 1,
  event: { type: "plain" },
  change: { context: null, removed: null, value: null, rest: null, timers: null },
  out: [],
  emitted: [],
  replied: false,
  reply: undefined,
  requestId: undefined,
  trace: undefined,
  refusal: undefined,
};

export const records: readonly TurnRecord[] = [
  {
    ...blank,
    kind: KeyframeTurn,
    source: FromSession,
    sourceName: "session1",
    sourceNumber: 42,
    event,
    change: {
      context: { count: 2, list: [1, "zwei", { drei: 3 }] },
      removed: null,
      value: { on: "hot" },
      rest: null,
      timers: [timer],
    },
    replied: true,
    reply: { count: 2 },
  },
  {
    ...blank,
    turn: 2,
    previous: [InThisBatch, 0],
    keyframe: [InThisBatch, 0],
    source: FromShard,
    sourceName: 7,
    sourceNumber: 99,
    delay: 3,
    version: 2,
    change: {
      context: { count: 3 },
      removed: ["list"],
      value: "off",
      rest: ["done", { total: 3 }, { "m.h": ["m.a", "m.b"] }],
      timers: [],
    },
    out: [told, { ...told, number: 18, trace: "00-1-2-01" }],
    emitted: [{ type: "shouted" }],
    requestId: "order-1",
    trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
  },
  {
    ...blank,
    turn: 3,
    previous: [InPreviousBatch, 5],
    keyframe: [12, 1],
    source: FromTimer,
    sourceName: "~1.0",
    sourceNumber: 1,
    refusal: ["machine_failed", "no such luck"],
  },
  { ...blank, kind: DeleteTurn, turn: 4, event: null, change: null },
  {
    ...blank,
    kind: Refusal,
    turn: 0,
    source: FromShard,
    sourceName: 1,
    sourceNumber: 2,
    change: null,
    refusal: ["unknown_type", "No."],
  },
  { ...blank, turn: 5, replied: true, reply: undefined },
];

export const header = {
  incarnation: "node-1-abc",
  number: 7,
  previousSeq: 41,
  previousCrc: 0xdeadbeef,
  time: 1_800_000_000_000,
  sealedBy: undefined,
};
export const shards = [5, 5, 16_383, 0, 1, 5];
export const parts = records.map(encodeRecord);
export const batchBytes = encodeBatch(
  header,
  parts,
  shards,
  parts.reduce((sum, part) => sum + part.length, 0),
);
export const seal = encodeBatch({ ...header, number: 8, sealedBy: "node-2-def" }, [], [], 0);

export const snapshot: ActorData = {
  machine: {
    value: { on: "hot" },
    context: { count: 2, event },
    status: "active",
    output: undefined,
    history: { "m.h": ["m.a"] },
  },
  timers: [timer],
  requests: [{ requestId: "order-1", at: [40, 2] }],
  turn: 65,
  version: 3,
  last: [41, 0],
  keyframe: [41, 0],
};
export const snapshotBytes = encodeSnapshot("probe.a", snapshot);

function filledShard(): ShardState {
  const shard = new ShardState(5);
  for (const [index, record] of records.entries()) shard.replay(record, [42, index], 0);
  shard.replay({ ...blank, source: FromSession, sourceName: "session1", sourceNumber: 44 }, [43, 0], 0);
  return shard;
}
export const entry: Entry = {
  claimed: 4,
  generation: 0,
  checksums: [],
  leftovers: [[3, 2]],
  dueFrom: 1_900_000_000_000,
  body: Uint8Array.from(bodyOf(filledShard())),
};
export const shardBytes = encodeEntry(5, entry);
export const pieces = piecesOf(5, 4, new Uint8Array([1, 2, 3]), 10);
