/** The clauses of Transport. */
import { describe, expect, it } from "vitest";
import type { AckFrame, Frame, RequestFrame } from "../../runtime/words/frames.ts";
import { eventually } from "./helpers.ts";
import type { Suite } from "./suite.ts";

const frame = (upTo: number): AckFrame => ({ kind: "ack", shard: 1, fromShard: 2, upTo });
const numbers = (frames: readonly Frame[]): number[] => frames.map((one) => (one as AckFrame).upTo);

/** What may be sent to a node by name. */
const request = (first: number): RequestFrame => ({
  kind: "request",
  shard: 1,
  session: "s",
  base: 1,
  first,
  epoch: 0,
  requests: [
    { kind: 2, type: "t", key: "k", id: "t.k", event: undefined, requestId: undefined, trace: undefined },
  ],
});
const firsts = (frames: readonly Frame[]): number[] => frames.map((one) => (one as RequestFrame).first);

export function transportClauses({ use, local }: Suite): void {
  describe("Transport", () => {
    it(
      "delivers to those who subscribed to the subject, in order",
      use(async ({ transport }) => {
        const one: Frame[] = [];
        const two: Frame[] = [];
        const other: Frame[] = [];
        transport.subscribe("shard.1", (got) => one.push(got));
        transport.subscribe("shard.1", (got) => two.push(got));
        transport.subscribe("shard.10", (got) => other.push(got));
        for (let n = 0; n < 100; n++) expect(transport.publish("shard.1", frame(n))).toBe(true);
        await eventually(() => one.length === 100 && two.length === 100);
        const wanted = Array.from({ length: 100 }, (_, n) => n);
        expect(numbers(one)).toEqual(wanted);
        expect(numbers(two)).toEqual(wanted);
        expect(other).toEqual([]);
      }),
    );

    it(
      "stops for the one who stops, and for nobody else",
      use(async ({ transport }) => {
        const one: Frame[] = [];
        const two: Frame[] = [];
        const stop = transport.subscribe("node.a", (got) => one.push(got));
        transport.subscribe("node.a", (got) => two.push(got));
        transport.publish("node.a", request(1));
        await eventually(() => one.length === 1 && two.length === 1);
        stop();
        stop();
        transport.publish("node.a", request(2));
        await eventually(() => two.length === 2);
        expect(firsts(one)).toEqual([1]);
        expect(firsts(two)).toEqual([1, 2]);
      }),
    );

    it(
      "carries frames whole",
      use(async ({ transport }) => {
        const frames: Frame[] = [
          { kind: "reply", from: "life", replies: [[1, 2, undefined, { n: 1, list: ["ä", [null, true]] }]] },
          { kind: "refusal", shard: 1, from: "life", reason: "gap", epoch: 3, expected: 7 },
          { kind: "watch", watch: "w", state: { value: "idle", context: { at: new Date(0) } } },
        ];
        const got: Frame[] = [];
        transport.subscribe("client.c", (one) => got.push(one));
        for (const one of frames) transport.publish("client.c", one);
        await eventually(() => got.length === frames.length);
        expect(got).toEqual(frames);
      }),
    );

    it(
      "says so when nobody listens, if it can know",
      use(async ({ transport }) => {
        if (!local) return;
        expect(transport.publish("shard.7", frame(1))).toBe(false);
        const got: Frame[] = [];
        const stop = transport.subscribe("shard.7", (one) => got.push(one));
        expect(transport.publish("shard.7", frame(2))).toBe(true);
        expect(numbers(got)).toEqual([2]);
        expect(transport.publish("shard.70", frame(3))).toBe(false);
        stop();
        expect(transport.publish("shard.7", frame(4))).toBe(false);
        expect(numbers(got)).toEqual([2]);
      }),
    );

    it(
      "allows a handler to subscribe, to stop and to publish",
      use(async ({ transport }) => {
        const got: string[] = [];
        const stop = transport.subscribe("a", () => {
          got.push("first");
          stop();
          transport.subscribe("a", () => got.push("late"));
          transport.publish("b", frame(1));
        });
        transport.subscribe("a", () => got.push("second"));
        transport.subscribe("b", () => got.push("b"));
        transport.publish("a", frame(1));
        await eventually(() => got.includes("second") && got.includes("b"));
        expect(got.filter((name) => name === "first")).toHaveLength(1);
        transport.publish("a", frame(2));
        await eventually(() => got.filter((name) => name === "second").length === 2 && got.includes("late"));
        expect(got.filter((name) => name === "first")).toHaveLength(1);
      }),
    );
  });
}
