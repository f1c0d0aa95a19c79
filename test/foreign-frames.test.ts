/** Security 1 and contract 11: frames from outside are legal frames, or `invalid_frame`, in bounded time. */
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isType, placeOf } from "../runtime/words/address.ts";
import { encode } from "../runtime/words/codec.ts";
import {
  decodeFrame,
  decodeFrames,
  encodeFrame,
  encodeFrames,
  type Frame,
  Query,
} from "../runtime/words/frames.ts";
import { limits } from "../runtime/words/limits.ts";
import { seal } from "../runtime/words/values.ts";
import { hex, MAX, outcome } from "./support/foreign.ts";
import { isFrozen, storable } from "./support/values.ts";

const SHARDS = 64;
const keys = fc
  .oneof(
    fc.constantFrom("a", "page:home", "k/1", "Zürich", "日本", "x".repeat(limits.keyBytes)),
    fc.string({ unit: "binary", minLength: 1, maxLength: 20 }).filter((s) => !/\p{Surrogate}/u.test(s)),
  )
  .filter((key) => key.length === limits.keyBytes || encodeURIComponent(key).length < limits.keyBytes / 3);
const short = fc.string({ unit: fc.constantFrom(..."abz019_-"), minLength: 1, maxLength: limits.nameBytes });
const text = fc.string({ maxLength: 20 });
const optional = fc.option(text, { nil: undefined });
const whole = fc.maxSafeNat();
const counted = fc.maxSafeNat().map((n) => Math.max(1, n));
const shard = fc.nat({ max: SHARDS - 1 });
const record = <T extends object>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(shape, { noNullPrototype: true });

/** Keys that live in one shard, with that shard: how frames to a shard are filled. */
const housed = fc
  .tuple(fc.constantFrom("probe", "Other-type_9"), keys)
  .map(([type, key]) => placeOf(type, key, SHARDS));

const requestFrame = fc
  .tuple(
    housed,
    fc.array(
      record({ kind: fc.nat({ max: Query }), event: storable, requestId: optional, trace: optional }),
      {
        minLength: 1,
        maxLength: 4,
      },
    ),
    fc.array(short, { minLength: 1, maxLength: 3 }),
    counted,
    counted,
    whole,
  )
  .map(([place, requests, names, base, first, epoch]) => ({
    kind: "request",
    shard: place.shard,
    session: names.join(".").slice(0, limits.nameBytes).replace(/\.$/, "x"),
    base,
    first,
    epoch,
    requests: requests.map(({ kind, event, requestId, trace }) => ({
      kind,
      type: place.type,
      // A query is for no actor.
      ...(kind === Query ? { key: "", id: place.type } : { key: place.key, id: place.id }),
      event,
      requestId,
      trace,
    })),
  }));
const toldFrame = fc
  .tuple(
    housed,
    fc.array(record({ event: storable, trace: optional }), { minLength: 1, maxLength: 4 }),
    shard,
    counted,
  )
  .map(([place, messages, fromShard, first]) => ({
    kind: "told",
    shard: place.shard,
    fromShard,
    first,
    messages: messages.map(({ event, trace }) => ({
      type: place.type,
      key: place.key,
      id: place.id,
      event,
      trace,
    })),
  }));
const reply = fc.oneof(
  fc.tuple(shard, counted, fc.constant(undefined), storable),
  fc.tuple(shard, counted, fc.tuple(text, text, whole), fc.constant(null)),
);
const frame = fc.oneof(
  requestFrame,
  toldFrame,
  record({
    kind: fc.constant("reply"),
    from: short,
    replies: fc.array(reply, { minLength: 1, maxLength: 4 }),
  }),
  record({
    kind: fc.constant("refusal"),
    shard,
    from: short,
    reason: fc.constantFrom("gap", "moved"),
    expected: whole,
    epoch: whole,
  }),
  record({ kind: fc.constant("ack"), shard, fromShard: shard, upTo: whole }),
  record({ kind: fc.constant("watch"), watch: text, state: storable }),
) as fc.Arbitrary<Frame>;

const decoded = (bytes: Uint8Array): Frame => decodeFrame(bytes, MAX, SHARDS);

/** What holds of every frame that is let through, whatever the bytes were. */
function checkAccepted(got: Frame): void {
  const carried = got.kind === "request" ? got.requests : got.kind === "told" ? got.messages : [];
  for (const { type, key, id, event } of carried) {
    if (key === "") expect([id, isType(type)]).toEqual([type, true]);
    else {
      const place = placeOf(type, key, SHARDS);
      expect([place.id, place.shard]).toEqual([id, (got as { shard: number }).shard]);
    }
    expect(() => seal(event, "event")).not.toThrow();
    expect(isFrozen(event)).toBe(true);
  }
  expect(isDeepStrictEqual(decoded(Uint8Array.from(encodeFrame(got))), got)).toBe(true);
}

describe("frames from outside", () => {
  it("come back as they were sent, with what they carry frozen", () => {
    fc.assert(
      fc.property(frame, (sent) => {
        const got = decoded(Uint8Array.from(encodeFrame(sent)));
        expect(isDeepStrictEqual(got, sent)).toBe(true);
        checkAccepted(got);
      }),
      { numRuns: 1_000 },
    );
  });

  it("of random bytes, of any storable value, or changed in some bytes, are a frame or invalid_frame", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        outcome(() => decodeFrames(bytes, MAX, SHARDS));
        outcome(() => decodeFrames(Uint8Array.from([1, ...bytes]), MAX, SHARDS));
        outcome(() => decoded(bytes));
      }),
      { numRuns: 10_000 },
    );
    const list = fc.array(fc.oneof(fc.nat({ max: 7 }), text, storable), { maxLength: 12 });
    fc.assert(
      fc.property(fc.nat({ max: 7 }), list, (kind, rest) => {
        outcome(() => decoded(Uint8Array.from(encode([kind, ...rest]))));
      }),
      { numRuns: 5_000 },
    );
    const change = fc.record({ at: fc.nat(), byte: fc.nat({ max: 255 }) });
    let accepted = 0;
    fc.assert(
      fc.property(frame, fc.array(change, { minLength: 1, maxLength: 3 }), (sent, changes) => {
        const bytes = Uint8Array.from(encodeFrame(sent));
        for (const { at, byte } of changes) bytes[at % bytes.length] = byte;
        let got: Frame | undefined;
        outcome(() => {
          got = decoded(bytes);
        });
        if (got === undefined) return;
        accepted++;
        checkAccepted(got);
      }),
      { numRuns: 5_000 },
    );
    expect(accepted).toBeGreaterThan(100);
  });

  it("cut short anywhere, or with something behind, are invalid_frame", () => {
    fc.assert(
      fc.property(frame, (sent) => {
        const bytes = Uint8Array.from(encodeFrame(sent));
        for (let length = 0; length < bytes.length; length++)
          expect(outcome(() => decoded(bytes.subarray(0, length)))).not.toBe("accepted");
        expect(outcome(() => decoded(Uint8Array.from([...bytes, 0])))).toContain("follow the frame");
      }),
    );
  });

  const place = placeOf("probe", "page:home", SHARDS);
  const elsewhere = placeOf("probe", "page:away", SHARDS);
  const told = [3, place.shard, 1, 1];
  const asked = [0, place.shard, "s", 1, 1, 0, 0];

  it("with an event that may not be stored are invalid_frame", () => {
    const head = Uint8Array.from(encode([...asked, place.id]));
    head[0] = 0x90 + 11;
    const withEvent = (event: Uint8Array): Uint8Array => Uint8Array.from([...head, ...event, 0xc0, 0xc0]);
    expect(outcome(() => decoded(withEvent(hex("80"))))).toBe("accepted");
    const deep = new Uint8Array(limits.valueDepth + 2).fill(0x91);
    deep[deep.length - 1] = 0xc0;
    expect(outcome(() => decoded(withEvent(deep)))).toContain("nests deeper");
    expect(outcome(() => decoded(withEvent(hex("c7 0c ff 00000000 7fffffffffffffff"))))).toContain("Date");
    expect(outcome(() => decoded(withEvent(hex("cf ffffffffffffffff"))))).toContain("64 bits");
    expect(outcome(() => decoded(withEvent(hex("a3 ed a0 80"))))).toContain("UTF-8");
    expect(outcome(() => decoded(withEvent(hex("81 a9 5f5f70726f746f5f5f 01"))))).toContain("__proto__");
    const many = new Uint8Array(limits.valueNodes + 6);
    many.set(hex("dd"), 0);
    new DataView(many.buffer).setUint32(1, limits.valueNodes + 1);
    expect(outcome(() => decoded(withEvent(many)))).toContain("more than");
  });

  it("of parts that do not belong together are invalid_frame", () => {
    const message = (id: string): unknown[] => [...told, id, null, null];
    expect(outcome(() => decoded(Uint8Array.from(encode(message(place.id)))))).toBe("accepted");
    // Without the number of shards only the id itself can be checked.
    expect(outcome(() => decodeFrame(Uint8Array.from(encode(message(elsewhere.id))), MAX))).toBe("accepted");
    for (const id of [
      elsewhere.id,
      "",
      ".",
      "probe",
      "probe.",
      ".page=3Ahome",
      "9probe.a",
      "pro be.a",
      "probe.a.b",
      "probe.page=3ahome",
      "probe.page:home",
      "probe.page=",
      "probe.page=3",
      "probe.page=41",
      "probe.page=FF",
      "=70robe.a",
      "pröbe.a",
      `${"x".repeat(65)}.a`,
      `probe.${"x".repeat(limits.keyBytes + 1)}`,
    ]) {
      const why = outcome(() => decoded(Uint8Array.from(encode(message(id)))));
      expect([id, why]).not.toContain("accepted");
      // Whatever shard it claims, but for the one case that only the shard tells.
      if (id !== elsewhere.id) {
        for (let n = 0; n < SHARDS; n++)
          expect(outcome(() => decoded(Uint8Array.from(encode([3, n, 1, 1, id, null, null]))))).not.toBe(
            "accepted",
          );
      }
    }
  });

  it("that are half a frame, of a kind that is none, or over a limit are invalid_frame", () => {
    const request = [place.id, null, null, null];
    const many = (count: number): unknown[] => [
      ...asked.slice(0, 6),
      ...Array.from({ length: count }, () => [0, ...request]).flat(),
    ];
    expect(outcome(() => decoded(Uint8Array.from(encode(many(limits.frameRequests)))))).toBe("accepted");
    const long = "x".repeat(1_000);
    const bad: unknown[] = [
      {},
      "x",
      null,
      [],
      [6],
      [-1],
      [0.5],
      ["request"],
      [0],
      [0, place.shard, "s"],
      [0, place.shard, "s", 1, 1, 0],
      [0, SHARDS, "s", 1, 1, 0, 0, ...request],
      [0, place.shard, "s", 0, 1, 0, 0, ...request],
      [0, place.shard, "s", 1, 0, 0, 0, ...request],
      [0, place.shard, "s", 1, 1, -1, 0, ...request],
      [0, place.shard, 2, 1, 1, 0, 0, ...request],
      ...["", ".", "a.", ".a", "a..b", "a b", "a*", "a>", "ä", long].map((session) => [
        0,
        place.shard,
        session,
        1,
        1,
        0,
        0,
        ...request,
      ]),
      [...asked.slice(0, 6), 99, ...request],
      [...asked.slice(0, 6), Query, ...request],
      [...asked.slice(0, 6), Query, "", null, null, null],
      [...asked.slice(0, 6), Query, "no type", null, null, null],
      [...asked, place.id, null, null],
      [...asked, place.id, null, 5, null],
      [...asked, place.id, null, long, null],
      [...asked, place.id, null, null, long],
      [...asked, 5, null, null, null],
      many(limits.frameRequests + 1),
      [1, "n"],
      [1, "n", 5],
      [1, "a.b", 1, 1, null, null],
      [1, "n", SHARDS, 1, null, null],
      [1, "n", 1, 0, null, null],
      [1, "n", 1, 1, "code", null],
      [1, "n", 1, 1, ["code", "text"], null],
      [1, "n", 1, 1, ["code", "text", 0.5], null],
      [1, "n", 1, 1, [long, "text", 1], null],
      [2, 1, "n", 2, 1, 0],
      [2, 1, "n", 0, 1],
      [2, SHARDS, "n", 0, 1, 0],
      [3, place.shard, SHARDS, 1, place.id, null, null],
      [3, place.shard, 1, 0, place.id, null, null],
      [3, place.shard, 1, 1, place.id, null],
      [4, 1, 1],
      [4, 1, SHARDS, 1],
      [4, 1, 1, 2 ** 60],
      [5],
      [5, "w"],
      [5, long, null],
      [5, "w", null, null],
    ];
    for (const value of bad)
      expect([value, outcome(() => decoded(Uint8Array.from(encode(value))))]).not.toContain("accepted");
  });
});

describe("payloads from outside", () => {
  it("hold one frame or several, in order, in no more payloads than needed", () => {
    fc.assert(
      fc.property(fc.array(frame, { minLength: 1, maxLength: 5 }), (sent) => {
        const payloads = encodeFrames(sent);
        expect(payloads).toHaveLength(1);
        expect(
          isDeepStrictEqual(decodeFrames(Uint8Array.from(payloads[0] as Uint8Array), MAX, SHARDS), sent),
        ).toBe(true);
      }),
      { numRuns: 300 },
    );
    expect(encodeFrames([])).toEqual([]);
  });

  it("are cut where a payload is full, and a frame that fits into none is refused", () => {
    const watch = (bytes: number): Frame => ({ kind: "watch", watch: "w", state: "x".repeat(bytes) });
    const sent = [watch(500_000), watch(400_000), watch(100_000), watch(900_000), watch(1)];
    const payloads = encodeFrames(sent);
    expect(payloads.map(({ length }) => length <= limits.frameBytes)).toEqual([true, true, true]);
    expect(payloads.flatMap((bytes) => decodeFrames(bytes, limits.frameBytes, SHARDS))).toEqual(sent);
    expect(outcome(() => encodeFrames([watch(limits.frameBytes)]))).toContain(
      `at most ${limits.frameBytes - 1}`,
    );
  });

  it("of another version are refused with both versions in the text, and so is nothing at all", () => {
    const [payload] = encodeFrames([{ kind: "ack", shard: 1, fromShard: 2, upTo: 3 }]);
    const other = Uint8Array.from(payload as Uint8Array);
    other[0] = 2;
    expect(outcome(() => decodeFrames(other, MAX, SHARDS))).toMatch(/version 2.*version 1/);
    expect(outcome(() => decodeFrames(new TextEncoder().encode('{"type":"add"}'), MAX, SHARDS))).toContain(
      "version 123",
    );
    expect(outcome(() => decodeFrames(new Uint8Array(0), MAX, SHARDS))).toContain("there are none");
    expect(outcome(() => decodeFrames(Uint8Array.of(1), MAX, SHARDS))).not.toBe("accepted");
    expect(outcome(() => decodeFrames(new Uint8Array(2 << 20), limits.frameBytes, SHARDS))).toContain(
      "over the limit",
    );
  });

  it("as large and as full as this runtime makes them are taken", () => {
    // Each element takes a byte: more of them than an event may hold, in a state that grew over many turns.
    const state = { context: { parts: [0, 1, 2].map(() => new Array(190_000).fill(0)) } };
    const frames: Frame[] = [{ kind: "watch", watch: "w", state }];
    const [payload] = encodeFrames(frames);
    expect(isDeepStrictEqual(decodeFrames(payload as Uint8Array, limits.frameBytes, SHARDS), frames)).toBe(
      true,
    );
  });

  it("are refused quickly, however they are made to hurt", () => {
    const place = placeOf("probe", "a", SHARDS);
    const asked = Uint8Array.from(encode([0, place.shard, "s", 1, 1, 0, 0, place.id]));
    asked[0] = 0x90 + 11;
    const payloadOf = (...rest: readonly number[]): Uint8Array => {
      const bytes = new Uint8Array(limits.frameBytes).fill(rest.at(-1) as number);
      bytes.set([1, ...asked, ...rest]);
      return bytes;
    };
    const hostile = [
      payloadOf(0x91),
      payloadOf(0x81),
      payloadOf(0xdd),
      payloadOf(0xdd, 0x00, 0x0e, 0xff, 0x00, 0x90),
      payloadOf(0xdf, 0x00, 0x06, 0xff, 0x00, 0xa0),
      payloadOf(0xdb, 0x00, 0x0e, 0xf0, 0x00, 0xff),
      payloadOf(0xc6, 0xff, 0xff, 0xff, 0xff, 0x00),
      new Uint8Array(limits.frameBytes).fill(0x01),
      new Uint8Array(limits.frameBytes).fill(0x90, 1).fill(1, 0, 1),
    ];
    const started = performance.now();
    for (let round = 0; round < 20; round++)
      for (const bytes of hostile)
        expect(outcome(() => decodeFrames(bytes, limits.frameBytes, SHARDS))).not.toBe("accepted");
    expect(performance.now() - started).toBeLessThan(20 * 1_000);
  });
});
