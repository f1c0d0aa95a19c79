/** The clauses of Journal. */
import { describe, expect, it } from "vitest";
import { appendAll, bytesOf, committed, readAll, scanAll, textOf } from "./helpers.ts";
import type { Suite } from "./suite.ts";

const LAST = Number.MAX_SAFE_INTEGER;

export function journalClauses({ use }: Suite): void {
  describe("Journal", () => {
    it(
      "1. an empty lane's last sequence is 0",
      use(async ({ journal }) => {
        expect(await journal.last("nobody")).toBe(0);
        expect(await readAll(journal, "nobody")).toEqual([]);
      }),
    );

    it(
      "1. an append is a compare-and-set on the lane's last sequence",
      use(async ({ journal }) => {
        expect(await journal.append("lane", 7, bytesOf("early"))).toEqual({ kind: "conflict" });
        const first = committed(await journal.append("lane", 0, bytesOf("a")));
        expect(await journal.append("lane", 0, bytesOf("again"))).toEqual({ kind: "conflict" });
        expect(await journal.append("lane", first + 1, bytesOf("beyond"))).toEqual({ kind: "conflict" });
        const second = committed(await journal.append("lane", first, bytesOf("b")));
        expect(await journal.append("lane", first, bytesOf("stale"))).toEqual({ kind: "conflict" });
        expect(await readAll(journal, "lane")).toEqual([
          [first, "a"],
          [second, "b"],
        ]);
      }),
    );

    it(
      "1. of many appends at once with one expectation exactly one succeeds",
      use(async ({ journal }) => {
        let last = 0;
        for (let round = 0; round < 5; round++) {
          const results = await Promise.all(
            Array.from({ length: 20 }, (_, n) => journal.append("lane", last, bytesOf(`${round}.${n}`))),
          );
          const winners = results.flatMap((result) => (result.kind === "committed" ? [result.seq] : []));
          expect(winners).toHaveLength(1);
          expect(results.filter((result) => result.kind === "conflict")).toHaveLength(19);
          last = winners[0] as number;
          const winner = results.findIndex((result) => result.kind === "committed");
          expect(textOf(await journal.get(last))).toBe(`${round}.${winner}`);
        }
        expect(await readAll(journal, "lane")).toHaveLength(5);
      }),
    );

    it(
      "1. whoever appends to another's lane fences its writer",
      use(async ({ journal }) => {
        const [, second] = await appendAll(journal, "zombie", ["a", "b"]);
        const seal = committed(await journal.append("zombie", second as number, bytesOf("seal")));
        expect(await journal.append("zombie", second as number, bytesOf("c"))).toEqual({ kind: "conflict" });
        expect(await journal.last("zombie")).toBe(seal);
      }),
    );

    it(
      "3. sequences grow over all lanes",
      use(async ({ journal }) => {
        const seqs: number[] = [];
        const lasts = new Map<string, number>();
        for (let n = 0; n < 30; n++) {
          const lane = `lane${n % 3}`;
          const seq = committed(await journal.append(lane, lasts.get(lane) ?? 0, bytesOf(`${n}`)));
          expect(seq).toBeGreaterThan(seqs.at(-1) ?? 0);
          seqs.push(seq);
          lasts.set(lane, seq);
        }
        for (const [n, seq] of seqs.entries()) expect(textOf(await journal.get(seq))).toBe(`${n}`);
        expect((await readAll(journal, "lane1")).map(([, text]) => text)).toEqual(
          Array.from({ length: 10 }, (_, n) => `${n * 3 + 1}`),
        );
      }),
    );

    it(
      "3. sequences are numbers from 1 on, and lanes appended to at once share them",
      use(async ({ journal }) => {
        const lanes = Array.from({ length: 12 }, (_, n) => `lane${n}`);
        const texts = Array.from({ length: 10 }, (_, n) => `${n}`);
        const seqs = await Promise.all(lanes.map((lane) => appendAll(journal, lane, texts)));
        const all = seqs.flat();
        expect(new Set(all).size).toBe(120);
        for (const seq of all) expect(Number.isSafeInteger(seq) && seq >= 1).toBe(true);
        for (const [index, lane] of lanes.entries()) {
          expect(await readAll(journal, lane)).toEqual(texts.map((text, n) => [seqs[index]?.[n], text]));
        }
      }),
    );

    it(
      "3. lanes are apart, whatever their names have in common",
      use(async ({ journal }) => {
        const lanes = ["a", "ab", "A", "a1", "a10", "a0", "aa", "b", "0", "1"];
        const seqs = new Map<string, number>();
        for (const lane of lanes) seqs.set(lane, committed(await journal.append(lane, 0, bytesOf(lane))));
        for (const lane of lanes) {
          expect(await journal.last(lane)).toBe(seqs.get(lane));
          expect(await readAll(journal, lane)).toEqual([[seqs.get(lane), lane]]);
        }
      }),
    );

    it(
      "4. what was answered is seen by everybody: last, read and get",
      use(async ({ journal }) => {
        let last = 0;
        for (let n = 0; n < 20; n++) {
          last = committed(await journal.append("lane", last, bytesOf(`${n}`)));
          expect(await journal.last("lane")).toBe(last);
          expect(await readAll(journal, "lane", last)).toEqual([[last, `${n}`]]);
          expect(textOf(await journal.get(last))).toBe(`${n}`);
        }
      }),
    );

    it(
      "4. whoever lost the race sees who won it",
      use(async ({ journal }) => {
        await Promise.all(
          Array.from({ length: 10 }, async (_, n) => {
            const result = await journal.append("lane", 0, bytesOf(`${n}`));
            expect(result.kind === "conflict" || result.kind === "committed").toBe(true);
            expect(await journal.last("lane")).toBeGreaterThan(0);
          }),
        );
      }),
    );

    it(
      "read: bounds are inclusive, and may lie anywhere",
      use(async ({ journal }) => {
        // A second lane in between, so that sequences of the first have gaps.
        const seqs: number[] = [];
        let other = 0;
        for (let n = 0; n < 6; n++) {
          seqs.push(committed(await journal.append("lane", seqs.at(-1) ?? 0, bytesOf(`${n}`))));
          other = committed(await journal.append("other", other, bytesOf("x")));
        }
        const seq = (n: number): number => seqs[n] as number;
        const texts = async (from: number, to: number): Promise<string> =>
          (await readAll(journal, "lane", from, to)).map(([, text]) => text).join("");
        expect(await texts(0, LAST)).toBe("012345");
        expect(await texts(1, LAST)).toBe("012345");
        expect(await texts(seq(2), seq(4))).toBe("234");
        expect(await texts(seq(2) + 1, seq(4))).toBe("34");
        expect(await texts(seq(2), seq(4) - 1)).toBe("23");
        expect(await texts(seq(3), seq(3))).toBe("3");
        expect(await texts(seq(3) + 1, seq(3))).toBe("");
        expect(await texts(seq(5), LAST)).toBe("5");
        expect(await texts(seq(5) + 1, LAST)).toBe("");
        expect(await texts(seq(5) + 1_000, seq(5) + 2_000)).toBe("");
      }),
    );

    it(
      "read: a long lane comes in chunks, whole and in order",
      use(async ({ journal }) => {
        const filler = "x".repeat(400_000);
        const texts = Array.from({ length: 30 }, (_, n) => `${n}:${filler}`);
        const seqs = await appendAll(journal, "lane", texts);
        const found = await readAll(journal, "lane");
        expect(found.map(([seq]) => seq)).toEqual(seqs);
        expect(found.every(([, text], n) => text === texts[n])).toBe(true);
      }),
    );

    it(
      "read: a lane of many small entries is whole",
      use(async ({ journal }) => {
        const texts = Array.from({ length: 700 }, (_, n) => `${n}`);
        const seqs = await appendAll(journal, "lane", texts);
        expect(await readAll(journal, "lane")).toEqual(texts.map((text, n) => [seqs[n], text]));
      }),
    );

    it(
      "read: may be left early, and does not mind appends meanwhile",
      use(async ({ journal }) => {
        const seqs = await appendAll(journal, "lane", ["a", "b", "c"]);
        for await (const chunk of journal.read("lane", 1, LAST)) {
          expect(chunk[0]?.seq).toBe(seqs[0]);
          break;
        }
        let last = seqs[2] as number;
        const seen: number[] = [];
        for await (const chunk of journal.read("lane", 1, LAST)) {
          for (const { seq } of chunk) seen.push(seq);
          last = committed(await journal.append("lane", last, bytesOf("d")));
          if (seen.length > 10) break;
        }
        expect(seen.slice(0, 3)).toEqual(seqs);
      }),
    );

    it(
      "get: nothing lies where nothing was appended",
      use(async ({ journal }) => {
        const seq = committed(await journal.append("lane", 0, bytesOf("a")));
        expect(await journal.get(seq + 1)).toBeUndefined();
        expect(await journal.get(0)).toBeUndefined();
        expect(await journal.get(LAST)).toBeUndefined();
      }),
    );

    it(
      "scan: all lanes in order of sequence, within bounds, and ends says where they lie",
      use(async ({ journal }) => {
        expect((await journal.ends()).every(({ last }) => last === 0)).toBe(true);
        const lasts = new Map<string, number>();
        const wanted: [number, string][] = [];
        for (let n = 0; n < 24; n++) {
          // Lanes that go on for a while, and ones that take turns.
          const lane = n < 12 ? `lane${Math.floor(n / 4)}` : `lane${n % 3}`;
          const seq = committed(await journal.append(lane, lasts.get(lane) ?? 0, bytesOf(`${n}`)));
          lasts.set(lane, seq);
          wanted.push([seq, `${n}`]);
        }
        wanted.sort(([a], [b]) => a - b);
        expect(await scanAll(journal)).toEqual(wanted);
        const ends = (await journal.ends()).filter(({ last }) => last > 0);
        expect(ends[0]?.first).toBe(wanted[0]?.[0]);
        expect(ends.at(-1)?.last).toBe(wanted.at(-1)?.[0]);
        for (const { first, last } of ends) {
          const inside = wanted.filter(([seq]) => seq >= first && seq <= last);
          if (inside.length < 3) continue;
          const [from, to] = [inside[1]?.[0] as number, inside.at(-2)?.[0] as number];
          const found: [number, string][] = [];
          for await (const chunk of journal.scan(from, to))
            for (const { seq, bytes } of chunk) found.push([seq, textOf(bytes) as string]);
          expect(found).toEqual(inside.slice(1, -1));
        }
      }),
    );

    it(
      "scan: a long journal comes in chunks, whole and in order",
      use(async ({ journal }) => {
        const filler = "x".repeat(300_000);
        const wanted: [number, string][] = [];
        for (const lane of ["a", "b", "a2"]) {
          const texts = Array.from({ length: 8 }, (_, n) => `${lane}${n}:${filler}`);
          for (const [n, seq] of (await appendAll(journal, lane, texts)).entries())
            wanted.push([seq, texts[n] as string]);
        }
        expect(await scanAll(journal)).toEqual(wanted.sort(([a], [b]) => a - b));
      }),
    );

    it(
      "bytes come back as they went in, up to the largest append",
      use(async ({ journal }) => {
        const every = Uint8Array.from({ length: 256 }, (_, n) => n);
        const large = new Uint8Array(960 * 1024).map((_, n) => (n * 31) % 251);
        // A view into a larger buffer, as encoders hand out.
        const view = new Uint8Array(1_000).fill(9).subarray(100, 160);
        let last = 0;
        for (const bytes of [every, large, view, new Uint8Array(1)]) {
          last = committed(await journal.append("lane", last, bytes));
          const found = await journal.get(last);
          expect(Buffer.compare(Buffer.from(found as Uint8Array), Buffer.from(bytes))).toBe(0);
        }
      }),
    );
  });
}
