/**
 * The formats of stored indexes, held by golden files as in formats.test.ts; blocks give back what they were made of; and
 * changes that are worked into pieces give what they give one by one.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { defineActor } from "keyturn";
import fc from "fast-check";
import { setup } from "xstate";
import { describe, expect, it } from "vitest";
import { decodeBlock, encodeBlock } from "../runtime/engine/catalog/block.ts";
import {
  decodePiece,
  decodeRoot,
  encodePiece,
  encodeRoot,
  type PieceRef,
  type Root,
} from "../runtime/engine/catalog/index-format.ts";
import {
  addUp,
  blockOf,
  type Changes,
  divide,
  goneOf,
  merge,
  shareOut,
} from "../runtime/engine/catalog/index-merge.ts";
import { OMITTED, type Row } from "../runtime/engine/catalog/row.ts";
import { ShardRows } from "../runtime/engine/catalog/rows.ts";
import { bodyOf, fillFrom } from "../runtime/engine/shard-entry.ts";
import { ShardState } from "../runtime/engine/shard.ts";
import { compareKeys } from "../runtime/words/address.ts";
import { checksumOf } from "../runtime/words/codec.ts";
import { positionOf } from "../runtime/words/position.ts";

function golden(name: string, made: Uint8Array): Uint8Array {
  const path = new URL(`golden/${name}.hex`, import.meta.url);
  if (process.env.UPDATE_GOLDEN === "1") {
    const lines = Buffer.from(made)
      .toString("hex")
      .match(/.{1,64}/g) as string[];
    writeFileSync(path, `${lines.join("\n")}\n`);
  }
  return new Uint8Array(Buffer.from(readFileSync(path, "utf8").replace(/\s/g, ""), "hex"));
}

const order = defineActor({
  type: "order",
  version: 2,
  index: ["sum", "customer"],
  machine: setup({}).createMachine({}),
});

const rows: readonly Row[] = [
  {
    key: "a",
    turn: 1,
    position: 41,
    time: 1_800_000_000_000,
    value: "open",
    state: "open",
    status: "active",
    fields: [7, "ada"],
    timers: [],
  },
  {
    key: "b/ü",
    turn: 300,
    position: positionOf(3, 40),
    time: 0,
    value: { ways: { left: "on", right: "off" } },
    state: "ways.left.on + ways.right.off",
    status: "done",
    fields: [undefined, OMITTED],
    timers: [
      { id: "long", due: 1_900_000_000_000, event: { type: "xstate.after.long" } },
      { id: "short", child: "kid", due: 5, event: { type: "tick" } },
    ],
  },
];
const block = { rows, gone: ["c", "d e"] };
const blockBytes = Uint8Array.from(encodeBlock(block, 2));
const root: Root = {
  claimed: 9,
  pieces: [{ number: 7, checksum: 0xdeadbeef, rows: 2, first: "a" }],
  leftovers: [8, 9],
  runs: [{ rows: 4, block: blockBytes }],
  whole: true,
};

describe("a stored index", () => {
  it("golden: a root, whole for its own version and paths only", () => {
    const made = encodeRoot(5, order, root) as Uint8Array;
    const bytes = golden("index-root", made);
    expect(Buffer.compare(made, bytes)).toBe(0);
    expect(decodeRoot(5, order, bytes)).toStrictEqual(root);
    // A copy: the decoder leaves a view of its own on what it reads.
    expect(decodeBlock(Uint8Array.from(blockBytes))).toStrictEqual(block);
    for (const other of [
      { ...order, version: 3 },
      { ...order, index: ["sum"] },
      { ...order, index: ["customer", "sum"] },
    ])
      expect(decodeRoot(5, other, bytes)).toStrictEqual({ ...root, whole: false });
  });

  it("golden: a piece, read only as the root names it", () => {
    const made = encodePiece(5, "order", 7, encodeBlock({ rows, gone: [] }, 2));
    const bytes = golden("index-piece", made);
    expect(Buffer.compare(made, bytes)).toBe(0);
    const ref: PieceRef = { number: 7, checksum: checksumOf(bytes), rows: 2, first: "a" };
    expect(decodeBlock(decodePiece(5, "order", ref, bytes) as Uint8Array)).toStrictEqual({ rows, gone: [] });
    const damaged = Uint8Array.from(bytes, (byte, at) => (at === 20 ? byte ^ 1 : byte));
    expect([
      decodePiece(5, "order", { ...ref, checksum: 1 }, bytes),
      decodePiece(6, "order", ref, bytes),
      decodePiece(5, "other", ref, bytes),
      decodePiece(5, "order", { ...ref, number: 8 }, bytes),
      decodePiece(5, "order", ref, damaged),
      decodePiece(5, "order", ref, bytes.subarray(0, 3)),
      decodePiece(5, "order", ref, undefined),
    ]).toEqual(new Array(7).fill(undefined));
  });

  it("says nothing where it cannot be read, and is empty where it is kept and nothing is there", () => {
    const bytes = encodeRoot(5, order, root) as Uint8Array;
    const newer = Uint8Array.from(bytes, (byte, at) => (at === 1 ? 2 : byte));
    for (const unreadable of [newer, bytes.subarray(0, -1), new Uint8Array(2)])
      expect(decodeRoot(5, order, unreadable)).toMatchObject({ pieces: [], runs: [], whole: false });
    expect(decodeRoot(6, order, bytes).whole).toBe(false);
    expect(decodeRoot(5, order, undefined)).toMatchObject({ pieces: [], runs: [], whole: true });
    const large = { rows: 1, block: new Uint8Array(800 * 1024) };
    expect(encodeRoot(5, order, { ...root, runs: [large] })).toBe(undefined);
  });

  it("golden: a shard's body says of which types an index is kept", () => {
    const shard = new ShardState(5);
    shard.indexed.add("order").add("keyturn-kv");
    const bytes = golden("shard-indexed", bodyOf(shard));
    expect(Buffer.compare(bodyOf(shard), bytes)).toBe(0);
    const back = new ShardState(5);
    fillFrom(back, bytes, 0);
    expect([...back.indexed]).toEqual(["order", "keyturn-kv"]);
  });
});

const anyRow = fc.record({
  key: fc.constantFrom(..."abcdefghij", "ü", "a/b", "\u{10ffff}", "\ue000"),
  turn: fc.nat(),
  position: fc.nat(2 ** 40),
  time: fc.nat(2 ** 40),
  state: fc.constantFrom("open", "paid"),
  status: fc.constantFrom("active", "done"),
  // -0 becomes 0 in whatever is stored.
  fields: fc.tuple(
    fc.oneof(
      fc.constant(OMITTED),
      fc.anything({ maxDepth: 0 }).map((value) => (value === 0 ? 0 : value)),
    ),
  ),
});
const anyChanges = fc.array(fc.tuple(anyRow, fc.boolean()), { maxLength: 30 });

function asRow({ state, ...rest }: Partial<Row>): Row {
  return { ...rest, state, value: state, timers: [] } as unknown as Row;
}

function asChanges(list: readonly (readonly [Partial<Row>, boolean])[]): Changes {
  return new Map(
    list.map(([row, isThere]) => [row.key as string, isThere ? asRow(row) : goneOf(row.key as string)]),
  );
}

describe("changes worked into pieces", () => {
  it("give the rows that they give one by one, in the order of keys, in blocks of about a size", () => {
    fc.assert(
      fc.property(fc.array(anyChanges, { maxLength: 6 }), (rounds) => {
        const plain: Changes = new Map();
        let pieces: { ref: PieceRef; rows: readonly Row[] }[] = [];
        for (const [round, list] of rounds.entries()) {
          const changes = asChanges(list as never);
          for (const [key, row] of changes) plain.set(key, row);
          const half = [...changes].slice(0, changes.size >> 1);
          const runs = [{ rows: half.length, block: encodeBlock(blockOf(new Map(half)), 1) }];
          const all = addUp(runs, new Map([...changes].slice(changes.size >> 1)));
          const shares = shareOut(
            pieces.map(({ ref }) => ref),
            all,
          );
          pieces = shares.flatMap((share, at) =>
            divide(merge(pieces[at]?.rows ?? [], share), 1).map(({ first, rows: count, block: bytes }) => ({
              ref: { number: round, checksum: 0, rows: count, first },
              rows: decodeBlock(bytes).rows,
            })),
          );
        }
        const expected = [...plain.values()].filter((change) => !("gone" in change));
        expect(pieces.flatMap((piece) => piece.rows)).toEqual(
          expected.sort((a, b) => compareKeys(a.key, b.key)),
        );
        expect(pieces.every((piece) => piece.ref.first === piece.rows[0]?.key)).toBe(true);
      }),
    );
    const many = Array.from({ length: 1_000 }, (_, n) =>
      asRow({ key: `k${n + 1000}`, turn: 1, fields: [n] } as never),
    );
    const sizes = divide(many, 1).map(({ rows: count }) => count);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(256);
    expect(sizes.reduce((sum, count) => sum + count)).toBe(1_000);
    const large = many.map((row) => ({ ...row, fields: ["x".repeat(1_024)] }));
    for (const { block: bytes } of divide(large, 1)) expect(bytes.length).toBeLessThan(300 * 1024);
  });
});

it("rows are counted by state and status as they come, change and go", () => {
  fc.assert(
    fc.property(anyChanges, (list) => {
      const shard = new ShardRows("log");
      const plain = new Map<string, Row>();
      for (const [row, isThere] of list as unknown as [Row, boolean][]) {
        if (isThere) {
          shard.set(asRow(row));
          plain.set(row.key, row);
        } else {
          shard.delete(row.key);
          plain.delete(row.key);
        }
      }
      const counts: Record<string, [count: number, turns: number]> = {};
      for (const { status, state, turn } of plain.values()) {
        const [count, turns] = counts[`${status} ${state}`] ?? [0, 0];
        counts[`${status} ${state}`] = [count + 1, turns + turn];
      }
      const tallies = [...shard.tallies()].map(({ status, state, count, turns }) => [
        `${status} ${state}`,
        [count, turns],
      ]);
      expect(Object.fromEntries(tallies)).toEqual(counts);
      expect(shard.keys().filter((key) => shard.get(key) !== undefined)).toEqual(
        [...plain.keys()].sort(compareKeys),
      );
    }),
  );
});
