/** Contract 12: damage to what is stored is found when it is decoded, wherever it is. */
import { describe, expect, it } from "vitest";
import { decodeBatch } from "../runtime/engine/record.ts";
import { checksumsOf, decodeEntry, joinPieces } from "../runtime/engine/shard-entry.ts";
import { decodeSnapshot } from "../runtime/engine/state.ts";
import { batchBytes, codeOf, entry, pieces, shardBytes, snapshotBytes } from "./support/formats.ts";

describe("damage", () => {
  it("any flipped bit of a batch is found; in the version byte it may pass for a newer format, which stops as well", () => {
    for (let at = 0; at < batchBytes.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const bytes = Uint8Array.from(batchBytes);
        bytes[at] = (bytes[at] as number) ^ (1 << bit);
        const code = codeOf(() => decodeBatch(bytes, 1));
        if (at === 1) expect(["corrupt_record", "newer_format"]).toContain(code);
        else expect([at, bit, code]).toEqual([at, bit, "corrupt_record"]);
      }
    }
  });

  it("a batch or snapshot cut short anywhere, or with something behind it, is found", () => {
    for (let length = 0; length < batchBytes.length; length++) {
      expect(codeOf(() => decodeBatch(batchBytes.subarray(0, length), 1))).toBe("corrupt_record");
    }
    expect(codeOf(() => decodeBatch(Buffer.concat([batchBytes, new Uint8Array(1)]), 1))).toBe(
      "corrupt_record",
    );
    for (let length = 0; length < snapshotBytes.length; length++) {
      expect(codeOf(() => decodeSnapshot("probe.a", snapshotBytes.subarray(0, length)))).toBe(
        "corrupt_snapshot",
      );
    }
  });

  it("any flipped bit of a snapshot is found", () => {
    for (let at = 0; at < snapshotBytes.length; at++) {
      const bytes = Uint8Array.from(snapshotBytes);
      bytes[at] = (bytes[at] as number) ^ 1;
      expect(codeOf(() => decodeSnapshot("probe.a", bytes))).toBe("corrupt_snapshot");
    }
  });

  it("a snapshot under another's name is found", () => {
    expect(codeOf(() => decodeSnapshot("probe.b", snapshotBytes))).toBe("corrupt_snapshot");
  });

  it("a shard's entry in another's place, or damaged, is found", () => {
    expect(codeOf(() => decodeEntry(6, shardBytes))).toBe("corrupt_snapshot");
    for (let at = 0; at < shardBytes.length; at++) {
      const bytes = Uint8Array.from(shardBytes);
      bytes[at] = (bytes[at] as number) ^ 1;
      const code = codeOf(() => decodeEntry(5, bytes));
      expect([at, code]).toEqual([at, at === 1 ? "newer_format" : "corrupt_snapshot"]);
    }
  });

  it("a piece of a shard's entry that is damaged, missing, or another's, is found", () => {
    const named = { ...entry, generation: 4, checksums: checksumsOf(pieces), body: undefined };
    const joined = joinPieces(5, named, pieces);
    expect(joined === undefined ? joined : [...joined]).toEqual([1, 2, 3]);
    const [piece] = pieces as [Uint8Array];
    for (let at = 0; at < piece.length; at++) {
      const bytes = Uint8Array.from(piece);
      bytes[at] = (bytes[at] as number) ^ 1;
      expect([at, joinPieces(5, named, [bytes])]).toEqual([at, undefined]);
    }
    expect(joinPieces(5, named, [undefined])).toBeUndefined();
    expect(joinPieces(5, named, [])).toBeUndefined();
    expect(joinPieces(6, named, pieces)).toBeUndefined();
    expect(joinPieces(5, { ...named, generation: 5 }, pieces)).toBeUndefined();
    expect(joinPieces(5, { ...named, checksums: [1] }, pieces)).toBeUndefined();
  });

  it("one kind of entry does not pass for another", () => {
    expect(codeOf(() => decodeBatch(snapshotBytes, 1))).toBe("corrupt_record");
    expect(codeOf(() => decodeSnapshot("probe.a", batchBytes))).toBe("corrupt_snapshot");
    expect(codeOf(() => decodeEntry(5, snapshotBytes))).toBe("corrupt_snapshot");
  });

  it("what a newer version wrote is refused as such, whatever is in it", () => {
    for (const [bytes, open] of [
      [batchBytes, (b: Uint8Array) => decodeBatch(b, 1)],
      [snapshotBytes, (b: Uint8Array) => decodeSnapshot("probe.a", b)],
      [shardBytes, (b: Uint8Array) => decodeEntry(5, b)],
    ] as const) {
      const newer = Uint8Array.from(bytes);
      newer[1] = (newer[1] as number) + 1;
      newer[10] = 0xff;
      expect(codeOf(() => open(newer))).toBe("newer_format");
    }
  });
});
