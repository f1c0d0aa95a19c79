/**
 * What is written into stores and onto wires, held by golden files: decoding them gives what is expected, and encoding
 * that gives them again, byte for byte. A change here is a change of format and needs a new version.
 *
 * UPDATE_GOLDEN=1 writes the files anew.
 */
import { readFileSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeBatch,
  decodeRecord,
  encodeBatch,
  encodeRecord,
  InPreviousBatch,
  InThisBatch,
  packTimers,
  resolveLink,
  type TurnRecord,
  unpackTimer,
} from "../runtime/engine/record.ts";
import { bodyOf, checksumsOf, decodeEntry, fillFrom, joinPieces } from "../runtime/engine/shard-entry.ts";
import { ShardState } from "../runtime/engine/shard.ts";
import { decodeSnapshot, encodeSnapshot } from "../runtime/engine/state.ts";
import { decodeFrame, decodeFrames, encodeFrame, encodeFrames, type Frame } from "../runtime/words/frames.ts";
import {
  batchBytes,
  blank,
  entry,
  header,
  pieces,
  records,
  seal,
  shardBytes,
  shards,
  snapshot,
  snapshotBytes,
} from "./support/formats.ts";
import { storable } from "./support/values.ts";

const pathOf = (name: string): URL => new URL(`golden/${name}.hex`, import.meta.url);

/** A golden file of a format that is not written any more. */
function stored(name: string): Uint8Array {
  return new Uint8Array(Buffer.from(readFileSync(pathOf(name), "utf8").replace(/\s/g, ""), "hex"));
}

function golden(name: string, made: Uint8Array): Uint8Array {
  const path = pathOf(name);
  if (process.env.UPDATE_GOLDEN === "1") {
    const lines =
      Buffer.from(made)
        .toString("hex")
        .match(/.{1,64}/g) ?? [];
    writeFileSync(path, `${lines.join("\n")}\n`);
  }
  return stored(name);
}

describe("batches", () => {
  it("golden: a batch with every kind of record", () => {
    const bytes = golden("batch", batchBytes);
    const batch = decodeBatch(bytes, 42);
    expect(batch.header).toStrictEqual(header);
    expect([batch.seq, batch.count, batch.crc]).toEqual([
      42,
      records.length,
      Buffer.from(bytes).readUInt32BE(2),
    ]);
    expect(records.map((_, index) => batch.shardAt(index))).toEqual(shards);
    expect(records.map((_, index) => decodeRecord(batch.recordAt(index)))).toStrictEqual(records);
    expect(Buffer.compare(batchBytes, bytes)).toBe(0);
  });

  it("timers keep what they have, and no more is stored of those that have little", () => {
    const least = { id: "t", due: 5, generation: 2, event: { type: "tick" } };
    const whose = { ...least, source: "x:1", target: undefined };
    const all = [
      least,
      whose,
      { ...whose, delay: 1_000 },
      { ...whose, trace: "00-a" },
      { ...whose, delay: 0, trace: "00-a b=1" },
    ];
    expect(packTimers(all).map(unpackTimer)).toEqual(all);
    expect(packTimers(all).map(({ length }) => length)).toEqual([4, 6, 7, 8, 8]);
  });

  it("golden: a seal", () => {
    const bytes = golden("seal", seal);
    expect(decodeBatch(bytes, 43)).toMatchObject({ count: 0, header: { number: 8, sealedBy: "node-2-def" } });
    expect(Buffer.compare(seal, bytes)).toBe(0);
  });

  it("links are made absolute with the batch they stand in", () => {
    const batch = decodeBatch(batchBytes, 42);
    expect(resolveLink([InThisBatch, 3], batch)).toEqual([42, 3]);
    expect(resolveLink([InPreviousBatch, 5], batch)).toEqual([41, 5]);
    expect(resolveLink([12, 1], batch)).toEqual([12, 1]);
  });

  it("a record says who has asked, if the answer is left to a later turn", () => {
    const asker = { session: "x3.0.abc", from: "buyer.b" };
    const childEmitted = [["child", { type: "ended" }]] as const;
    for (const record of [
      { ...blank, asker },
      { ...blank, childEmitted, asker },
      { ...blank, childEmitted },
      { ...blank, out: [], emitted: [{ type: "shouted" }], asker },
    ])
      expect(decodeRecord(encodeRecord(record))).toStrictEqual(record);
  });

  it("any records come back as they were, by index", () => {
    const record = fc.record({
      turn: fc.nat(),
      event: storable,
      delay: fc.nat(),
      requestId: fc.option(fc.string({ minLength: 1 }), { nil: undefined }),
      reply: storable,
      emitted: fc.array(storable, { maxLength: 2 }),
    });
    fc.assert(
      fc.property(fc.array(record, { maxLength: 20 }), (list) => {
        const some = list.map((r): TurnRecord => ({ ...blank, ...r, replied: true }));
        const encoded = some.map(encodeRecord);
        const bytes = encodeBatch(
          header,
          encoded,
          some.map((_, n) => n),
          encoded.reduce((sum, part) => sum + part.length, 0),
        );
        const batch = decodeBatch(bytes, 1);
        expect(batch.count).toBe(some.length);
        expect(some.map((_, n) => decodeRecord(batch.recordAt(n)))).toEqual(some);
      }),
    );
  });
});

describe("snapshots", () => {
  it("golden: a snapshot", () => {
    const bytes = golden("snapshot", snapshotBytes);
    expect(decodeSnapshot("probe.a", bytes)).toStrictEqual(snapshot);
    expect(Buffer.compare(snapshotBytes, bytes)).toBe(0);
  });

  it("one with as little as possible comes back too", () => {
    const machine = {
      value: "on",
      context: {},
      status: "active",
      output: undefined,
      history: undefined,
    } as const;
    const least = { ...snapshot, machine, timers: [], requests: [] };
    expect(decodeSnapshot("probe.a", encodeSnapshot("probe.a", least))).toStrictEqual(least);
  });
});

describe("a shard's entry", () => {
  it.each([
    ["version 1, which is read still", "shard", 0],
    ["as it is written", "shard-2", entry.dueFrom],
  ])("golden: sessions, channels in and channels out, %s", (_what, name, dueFrom) => {
    const bytes = name === "shard" ? stored(name) : golden(name, shardBytes);
    const decoded = decodeEntry(5, bytes);
    expect(decoded.dueFrom).toBe(dueFrom);
    if (name !== "shard") {
      expect(decoded).toStrictEqual(entry);
      expect(Buffer.compare(shardBytes, bytes)).toBe(0);
    }
    const shard = new ShardState(5);
    fillFrom(shard, decoded.body as Uint8Array, 0);
    expect(
      [...shard.sessions.values()].map(({ name: of, last, inherited }) => [of, last, inherited]),
    ).toEqual([["session1", 44, 44]]);
    expect([...shard.ins].map(([from, { committed, accepted }]) => [from, committed, accepted])).toEqual([
      [7, 99, 99],
      [1, 2, 2],
    ]);
    const out = shard.outs.get(3);
    expect([out?.committed, out?.numbered, out?.acknowledged, out?.waiting.map(({ id }) => id)]).toEqual([
      2,
      2,
      0,
      ["other.k=2F1", "other.k=2F1"],
    ]);
    expect(Buffer.compare(bodyOf(shard), entry.body as Uint8Array)).toBe(0);
  });

  it("golden: a piece", () => {
    const [made] = pieces as [Uint8Array];
    const bytes = golden("shard-piece", made);
    const named = { ...entry, generation: 4, checksums: checksumsOf([bytes]), body: undefined };
    expect([...(joinPieces(5, named, [bytes]) as Uint8Array)]).toEqual([1, 2, 3]);
    expect(Buffer.compare(made, bytes)).toBe(0);
  });
});

const request = {
  kind: 0,
  type: "probe",
  key: "a b",
  id: "probe.a=20b",
  event: { type: "add", by: 1 },
  requestId: undefined,
  trace: undefined,
} as const;
const frames: Record<Frame["kind"], Frame> = {
  request: {
    kind: "request",
    shard: 13,
    session: "s1",
    base: 7,
    first: 9,
    epoch: 2,
    requests: [request, { ...request, kind: 2, event: undefined, requestId: "order-1", trace: "00-1-2-01" }],
  },
  reply: {
    kind: "reply",
    from: "n1-x",
    replies: [
      [63, 9, undefined, { count: 1 }],
      [63, 10, ["machine_failed", "no such luck", 2], undefined],
      [1, 1, undefined, undefined],
    ],
  },
  refusal: { kind: "refusal", shard: 63, from: "n1-x", reason: "gap", epoch: 2, expected: 8 },
  told: {
    kind: "told",
    shard: 13,
    fromShard: 63,
    first: 100,
    messages: [{ type: "probe", key: "a b", id: "probe.a=20b", event: { type: "hi" }, trace: undefined }],
  },
  ack: { kind: "ack", shard: 63, fromShard: 1, upTo: 100 },
  watch: { kind: "watch", watch: "s1:1", state: { value: "on", context: {}, turn: 3 } },
};

describe("frames", () => {
  it.each(Object.entries(frames))("golden: %s", (kind, frame) => {
    const made = encodeFrame(frame);
    const bytes = golden(`frame-${kind}`, made);
    expect(decodeFrame(bytes, 1_000, 64)).toStrictEqual(frame);
    expect(Buffer.compare(made, bytes)).toBe(0);
  });

  it("golden: all of them in one payload, behind the version", () => {
    const made = encodeFrames(Object.values(frames));
    expect(made).toHaveLength(1);
    const bytes = golden("payload", made[0] as Uint8Array);
    expect(decodeFrames(bytes, 1_000, 64)).toStrictEqual(Object.values(frames));
    expect(Buffer.compare(made[0] as Uint8Array, bytes)).toBe(0);
  });

  it("a watch that moved comes back", () => {
    const frame: Frame = { kind: "watch", watch: "w", state: null };
    expect(decodeFrame(encodeFrame(frame), 100)).toStrictEqual(frame);
  });
});
