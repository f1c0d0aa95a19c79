/** Addresses, errors and limits. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeKey,
  encodeKey,
  hashTokens,
  parseAddress,
  placeOf,
  placeOfId,
  shardOf,
} from "../runtime/words/address.ts";
import {
  invariant,
  isErrorCode,
  isKeyturnError,
  KeyturnError,
  meanings,
  type ErrorCode,
} from "../runtime/words/errors.ts";
import { limits, nodeDefaults } from "../runtime/words/limits.ts";

const wellFormed = fc
  .string({ unit: "binary", minLength: 1, maxLength: 40 })
  .filter((s) => !/\p{Surrogate}/u.test(s));
const short = wellFormed.filter((s) => Buffer.byteLength(s) * 3 <= limits.keyBytes);

function refused(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (isKeyturnError(error)) return error.code;
    throw error;
  }
  return "accepted";
}

describe("keys", () => {
  it("address 1: every key comes back from its encoding, which is one legal token of a subject and of a bucket", () => {
    fc.assert(
      fc.property(short, (key) => {
        const token = encodeKey(key);
        expect(token).toMatch(/^[A-Za-z0-9_=-]+$/);
        expect(token.length).toBeLessThanOrEqual(limits.keyBytes);
        expect(decodeKey(token)).toBe(key);
      }),
      { numRuns: 2_000 },
    );
  });

  it("address 1: two keys never share an encoding", () => {
    fc.assert(
      fc.property(short, short, (a, b) => {
        expect(encodeKey(a) === encodeKey(b)).toBe(a === b);
      }),
    );
    const close = [
      "a",
      "A",
      "=41",
      "=3D41",
      "a.b",
      "a=2Eb",
      "é",
      "e\u0301",
      "\ufeffa",
      "a\u0000",
      " a",
      "a ",
      "*",
      ">",
    ];
    expect(new Set(close.map(encodeKey)).size).toBe(close.length);
    expect(close.map((key) => decodeKey(encodeKey(key)))).toEqual(close);
  });

  it("address 1: any token either decodes to the key that encodes to it, or is refused", () => {
    const token = fc.oneof(fc.string(), fc.stringMatching(/^(=[0-9A-F]{2}|[A-Za-z0-9_-]){1,20}$/));
    fc.assert(
      fc.property(token, (text) => {
        let key: string;
        try {
          key = decodeKey(text);
        } catch (error) {
          expect(isKeyturnError(error, "invalid_address")).toBe(true);
          return;
        }
        expect(encodeKey(key)).toBe(text);
      }),
      { numRuns: 2_000 },
    );
  });

  it("readable keys stay readable", () => {
    expect(["home", "page_1-a", "page:home", "a/b c", "ü"].map(encodeKey)).toEqual([
      "home",
      "page_1-a",
      "page=3Ahome",
      "a=2Fb=20c",
      "=C3=BC",
    ]);
  });

  it.each([
    ["an empty key", ""],
    ["10 KB", "x".repeat(10_000)],
    ["one over the limit", "x".repeat(limits.keyBytes + 1)],
    ["one over the limit when encoded", "ü".repeat(limits.keyBytes / 6 + 1)],
    ["half a surrogate pair", "a\ud800"],
    ["the other half", "\udc00a"],
  ])("%s is refused", (_what, key) => {
    expect(refused(() => encodeKey(key))).toBe("invalid_address");
    expect(refused(() => placeOf("probe", key, 4))).toBe("invalid_address");
  });

  it.each(["", "=", "=4", "=zz", "=3a", "=41", "a=2", "=FF", "=C3", "=ED=A0=80", "a.b", "a b", "=C0=80"])(
    "%j is no encoded key",
    (token) => {
      expect(refused(() => decodeKey(token))).toBe("invalid_address");
    },
  );

  it("a key at the limit is taken", () => {
    expect(encodeKey("x".repeat(limits.keyBytes))).toHaveLength(limits.keyBytes);
  });
});

describe("addresses", () => {
  it("are taken apart at the first slash", () => {
    expect(parseAddress("counter/page:home")).toEqual({ type: "counter", key: "page:home" });
    expect(parseAddress("a/b/c//")).toEqual({ type: "a", key: "b/c//" });
  });

  it.each([
    "",
    "counter",
    "/a",
    "9a/b",
    "-a/b",
    "a b/c",
    "ä/b",
    "a.b/c",
    `${"a".repeat(65)}/b`,
    "\u0000/b",
    "a\n/b",
  ])("%j is none", (text) => {
    expect(refused(() => parseAddress(text))).toBe("invalid_address");
  });

  it("a long one is cut short in the message", () => {
    expect(() => parseAddress("x".repeat(10_000))).toThrow(/^.{1,300}$/s);
  });

  it("a place and its id name each other", () => {
    fc.assert(
      fc.property(short, fc.integer({ min: 1, max: limits.shards }), (key, shards) => {
        const place = placeOf("probe", key, shards);
        expect(placeOfId(place.id, shards)).toEqual(place);
        expect(place.shard).toBe(shardOf("probe", key, shards));
        expect(place.shard).toBeLessThan(shards);
      }),
    );
  });
});

describe("address 2: the shard hash, which never changes", () => {
  it("is FNV-1a, 32 bit: published vectors", () => {
    const vectors: [string, number][] = [
      ["", 0x811c9dc5],
      ["a", 0xe40c292c],
      ["b", 0xe70c2de5],
      ["foobar", 0xbf9cf968],
      ["hello", 0x4f9f2cab],
    ];
    for (const [text, hash] of vectors) expect(hashTokens(text, "")).toBe(hash);
    expect(hashTokens("foo", "bar")).toBe(0xbf9cf968);
  });

  it("is that of an implementation with big numbers, over the type and the encoded key", () => {
    fc.assert(
      fc.property(short, (key) => {
        let hash = 0x811c9dc5n;
        for (const byte of Buffer.from(`probe${encodeKey(key)}`))
          hash = ((hash ^ BigInt(byte)) * 0x01000193n) % 2n ** 32n;
        expect(shardOf("probe", key, 64)).toBe(Number(hash % 64n));
      }),
    );
  });

  it("golden: shards of some addresses, of 64", () => {
    const keys = [
      "page:home",
      "1",
      "2",
      "10",
      "ü",
      "a/b",
      "x".repeat(100),
      "00000000-0000-0000-0000-000000000000",
    ];
    expect(keys.map((key) => shardOf("counter", key, 64))).toMatchInlineSnapshot(`
      [
        20,
        22,
        3,
        18,
        12,
        45,
        19,
        47,
      ]
    `);
  });

  it("spreads consecutive keys: no shard of 64 has twice its share of 6,400", () => {
    const shards = new Array<number>(64).fill(0);
    for (let n = 0; n < 6_400; n++) shards[shardOf("counter", `user-${n}`, 64)]! += 1;
    expect(Math.max(...shards)).toBeLessThan(200);
    expect(Math.min(...shards)).toBeGreaterThan(50);
  });
});

describe("errors", () => {
  const codes = Object.keys(meanings) as ErrorCode[];

  it("errors 1: every code says whether to try again and what became of the message", () => {
    for (const code of codes) {
      const error = new KeyturnError(code, "text", { requestId: "r" });
      expect(["applied", "rejected", "notApplied", "unknown"]).toContain(error.outcome);
      expect(typeof error.retryable).toBe("boolean");
      expect(error.toJSON()).toEqual({ code, message: "text", requestId: "r", ...meanings[code] });
      expect(isErrorCode(code)).toBe(true);
    }
  });

  it("errors 1 and 2: what was rejected is not worth a retry as it is", () => {
    for (const code of codes)
      if (meanings[code].outcome === "rejected")
        expect([code, meanings[code].retryable]).toEqual([code, false]);
  });

  it("golden: what codes mean never changes", () => {
    expect(
      codes.map((code) => `${code} ${meanings[code].outcome}${meanings[code].retryable ? " retry" : ""}`),
    ).toMatchInlineSnapshot(`
      [
        "invalid_address rejected",
        "invalid_event rejected",
        "invalid_input rejected",
        "already_exists rejected",
        "reserved_event rejected",
        "request_id_reused rejected",
        "event_too_large rejected",
        "unknown_type rejected",
        "invalid_options rejected",
        "unsupported_machine rejected",
        "version_conflict rejected",
        "invalid_operand rejected",
        "snapshot_expired rejected",
        "machine_failed rejected",
        "machine_looped rejected",
        "context_mutated rejected",
        "context_invalid rejected",
        "state_too_large rejected",
        "reply_invalid rejected",
        "output_invalid rejected",
        "tell_invalid rejected",
        "route_failed rejected",
        "sink_refused rejected",
        "timers_full rejected",
        "function_failed rejected",
        "function_timed_out rejected",
        "function_unreachable rejected",
        "mailbox_full notApplied retry",
        "overloaded notApplied retry",
        "outbox_full notApplied retry",
        "sink_full notApplied retry",
        "superseded notApplied retry",
        "timeout unknown retry",
        "client_closed unknown",
        "client_ended notApplied",
        "request_forgotten unknown",
        "store_locked notApplied",
        "store_full notApplied retry",
        "store_failed unknown retry",
        "unreachable unknown retry",
        "access_denied notApplied",
        "server_unsuitable notApplied",
        "not_provisioned notApplied",
        "app_mismatch rejected",
        "corrupt_record notApplied",
        "corrupt_snapshot notApplied",
        "newer_format notApplied",
        "incompatible_snapshot notApplied",
        "newer_version notApplied",
        "migration_failed notApplied",
        "history_trimmed rejected",
        "answer_too_large applied",
        "source_failed notApplied retry",
        "source_changed notApplied",
        "source_malformed rejected",
        "invalid_frame rejected",
      ]
    `);
  });

  it("are told apart by code, not by text; names from elsewhere are none", () => {
    expect(isKeyturnError(new KeyturnError("timeout", ""), "timeout")).toBe(true);
    expect(isKeyturnError(new KeyturnError("timeout", ""), "overloaded")).toBe(false);
    expect(isKeyturnError(Object.assign(new Error("x"), { code: "timeout" }))).toBe(false);
    for (const name of ["", "constructor", "toString", "__proto__", 7, undefined])
      expect(isErrorCode(name)).toBe(false);
  });

  it("keep their cause, and leave out what is not there", () => {
    const cause = new Error("why");
    const error = new KeyturnError("store_failed", "x", { cause });
    expect(error.cause).toBe(cause);
    expect("cause" in new KeyturnError("store_failed", "x")).toBe(false);
    expect(error.toJSON()).not.toHaveProperty("requestId");
    expect(JSON.stringify(error)).not.toContain("why");
  });

  it("a broken invariant is no error of the union: nobody handles it", () => {
    expect(() => invariant(false, "x")).toThrow("Broken invariant: x");
    expect(refused(() => invariant(true, "x"))).toBe("accepted");
    expect(() => refused(() => invariant(false, "x"))).toThrow("Broken invariant");
  });
});

describe("limits", () => {
  it("contract 11: all are whole numbers above 0, and fit into each other", () => {
    for (const value of [...Object.values(limits), ...Object.values(nodeDefaults)]) {
      expect(Number.isSafeInteger(value) && value > 0).toBe(true);
    }
    expect(limits.eventBytes).toBeLessThan(limits.recordBytes);
    expect(limits.stateBytes).toBeLessThan(limits.recordBytes);
    expect(limits.recordBytes + 2_048).toBeLessThan(limits.batchBytes);
    expect(limits.batchBytes + 32 * 1_024).toBeLessThanOrEqual(1_024 * 1_024);
    expect(limits.keyBytes + 64 + 32).toBeLessThanOrEqual(256);
    expect(limits.shards).toBeLessThanOrEqual(0xffff + 1);
    expect(limits.deadline_ms).toBeLessThan(limits.sessionIdle_ms / 2);
    expect(nodeDefaults.heartbeat_ms * 3).toBeLessThanOrEqual(nodeDefaults.lease_ms);
  });
});
