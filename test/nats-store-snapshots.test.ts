/** Snapshots on NATS where there is much of them: large entries, many timers, timers that are set anew, damage. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect, headers, type NatsConnection } from "@nats-io/transport-node";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodeSnapshot } from "../runtime/engine/state.ts";
import { decode, encode } from "../runtime/words/codec.ts";
import { type NatsStore, nats } from "../runtime/stores/nats/index.ts";
import { dueKey, duePatterns, idOfDueKey } from "../runtime/stores/nats/due-index.ts";
import { become, eventually, readOne, snapshot, textOf, writeOne, writeSure } from "./conformance/helpers.ts";
import { type NatsServer, startServer } from "./support/nats-server.ts";

let server: NatsServer;
let raw: NatsConnection;
let apps = 0;
const open: NatsStore[] = [];

beforeAll(async () => {
  server = await startServer({ durability: "process" });
  raw = await connect({ servers: server.url });
}, 60_000);

afterAll(async () => {
  for (const store of open) await store.close();
  await raw.close();
  await server.stop();
});

async function store(app = `app${++apps}`): Promise<NatsStore> {
  const opened = await nats({ servers: server.url, app });
  open.push(opened);
  return opened;
}

/** Keys of the due index as the server has them, without those that were cleared and wait to be removed. */
async function hints(app: string): Promise<string[]> {
  const manager = await jetstreamManager(raw);
  const prefix = `$KV.${app}_snapshots.`;
  const info = await manager.streams.info(`KV_${app}_snapshots`, { subjects_filter: `${prefix}_due.>` });
  const keys: string[] = [];
  for (const subject of Object.keys(info.state.subjects ?? {})) {
    const message = await manager.streams.getMessage(`KV_${app}_snapshots`, { last_by_subj: subject });
    if (message?.data.length === 0) keys.push(subject.slice(prefix.length));
  }
  return keys;
}

describe("Large entries", () => {
  it("are all found, however many bytes they are together", async () => {
    const { snapshots } = await store();
    const text = "x".repeat(700 * 1024);
    const ids = Array.from({ length: 110 }, (_, n) => `t.k${n}`);
    for (let at = 0; at < ids.length; at += 10) {
      const writes = ids.slice(at, at + 10).map((id) => snapshot(id, `${id} ${text}`, 0));
      for (const revision of await snapshots.write(writes)) expect(revision).toBeDefined();
    }
    const found = await snapshots.read(ids);
    expect(found.map((entry) => textOf(entry?.value?.subarray(0, 5))?.split(" ")[0])).toEqual(
      ids.map((id) => id.slice(0, 5)),
    );
    expect(
      found.every((entry, n) => entry?.value?.length === (ids[n] as string).length + 1 + text.length),
    ).toBe(true);
  });

  it("that change while they are read are found in the old or in the new form, never not at all", async () => {
    const { snapshots } = await store();
    const text = "x".repeat(300 * 1024);
    const ids = Array.from({ length: 60 }, (_, n) => `t.k${n}`);
    const revisions = new Map<string, number>();
    for (let at = 0; at < ids.length; at += 10) {
      const part = ids.slice(at, at + 10);
      const made = await snapshots.write(part.map((id) => snapshot(id, text, 0)));
      for (const [n, id] of part.entries()) revisions.set(id, made[n] as number);
    }
    let reading = true;
    const changing = (async () => {
      for (let n = 0; reading; n++) {
        const id = ids[(n * 7) % ids.length] as string;
        const [revision] = await snapshots.write([snapshot(id, text, revisions.get(id) as number)]);
        revisions.set(id, revision as number);
      }
    })();
    for (let round = 0; round < 5; round++) {
      const found = await snapshots.read(ids);
      expect(found.filter((entry) => entry?.value?.length !== text.length)).toEqual([]);
    }
    reading = false;
    await changing;
  });
});

describe("The due index", () => {
  it("patterns: a time fits those that ask for it and no others, but for the minute around", () => {
    const time = fc.oneof(
      fc.integer({ min: 0, max: 10_000_000 }),
      fc.integer({ min: 1_600_000_000_000, max: 2_000_000_000_000 }),
      fc.constantFrom(-5, 0, 2 ** 53, 8.64e15),
    );
    const fits = (key: string, pattern: string): boolean => {
      const parts = pattern.split(".");
      return parts.every((part, n) => part === ">" || part === key.split(".")[n]);
    };
    fc.assert(
      fc.property(time, time, time, (a, b, due) => {
        const [from, before] = a < b ? [a, b] : [b, a];
        const patterns = duePatterns(7, from, before);
        expect(patterns.length).toBeLessThan(600);
        const key = dueKey(7, due, "t.some.key");
        expect(idOfDueKey(key)).toBe("t.some.key");
        const matching = patterns.filter((pattern) => fits(key, pattern)).length;
        if (due >= from && due < before) expect(matching).toBe(1);
        else if (due < from - 60_000 || due > before + 60_000)
          expect(matching).toBe(clamped(due, from, before));
      }),
      { numRuns: 300 },
    );
    function clamped(due: number, from: number, before: number): number {
      const minute = (time: number): number => Math.min(Math.max(Math.floor(time / 60_000), 0), 64 ** 5 - 1);
      return minute(due) >= minute(from) && minute(due) <= minute(before) ? 1 : 0;
    }
  });

  it("what is due much later is not looked at", async () => {
    const { app, snapshots } = await store();
    const now = 1_800_000_000_000;
    const writes = Array.from({ length: 3_000 }, (_, n) =>
      snapshot(`t.far${n}`, "x", 0, { due: now + 3_600_000 + n * 60_000 }),
    );
    writes.push(snapshot("t.near", "x", 0, { due: now }));
    for (let at = 0; at < writes.length; at += 500) await snapshots.write(writes.slice(at, at + 500));
    const before = await bytesOut();
    expect(await snapshots.due(1, now + 600_000, 1_000)).toEqual([{ id: "t.near", due: now }]);
    expect((await bytesOut()) - before).toBeLessThan(20_000);
    expect(app).toMatch(/^app/);
    async function bytesOut(): Promise<number> {
      return ((await server.monitor("varz")) as { out_bytes: number }).out_bytes;
    }
  });

  it("thousands that are due in one minute, and overdue for years, come page by page in order", async () => {
    const { snapshots } = await store();
    const minute = 30_000_000 * 60_000;
    const times = [
      ...Array.from({ length: 2_500 }, (_, n) => minute + ((n * 7_919) % 60_000)),
      ...Array.from({ length: 1_500 }, (_, n) => 1_000_000 + n * 86_400_000),
    ];
    const writes = times.map((due, n) => snapshot(`t.k${n}`, "x", 0, { due }));
    for (let at = 0; at < writes.length; at += 500) await snapshots.write(writes.slice(at, at + 500));
    const found: { id: string; due: number }[] = [];
    for (;;) {
      const page = await snapshots.due(1, minute + 60_000, 700, found.at(-1));
      found.push(...page);
      if (page.length < 700) break;
    }
    expect(new Set(found.map(({ id }) => id)).size).toBe(times.length);
    expect(found.map(({ due }) => due)).toEqual([...times].sort((a, b) => a - b));
  });

  it("a timer that is set anew with every write leaves one hint, a deleted one none", async () => {
    const { app, snapshots } = await store();
    let revision = 0;
    for (let n = 1; n <= 20; n++) {
      const [next] = await snapshots.write([snapshot("t.session", `${n}`, revision, { due: n * 3_600_000 })]);
      revision = next as number;
    }
    expect(await hints(app)).toEqual([dueKey(1, 20 * 3_600_000, "t.session")]);
    // Another process goes on with what it has read.
    const other = await store(app);
    const [entry] = await other.snapshots.read(["t.session"]);
    const [moved] = await other.snapshots.write([
      snapshot("t.session", "y", entry?.revision ?? 0, { due: 60_000 }),
    ]);
    expect(await hints(app)).toEqual([dueKey(1, 60_000, "t.session")]);
    expect(await other.snapshots.due(1, 10 ** 12, 10)).toEqual([{ id: "t.session", due: 60_000 }]);
    // The first one knows an old revision; its write is refused and takes no hint away.
    expect(await snapshots.write([snapshot("t.session", "z", revision, { due: 0 })])).toEqual([undefined]);
    expect(await snapshots.due(1, 10 ** 12, 10)).toEqual([{ id: "t.session", due: 60_000 }]);
    await other.snapshots.write([snapshot("t.session", undefined, moved as number)]);
    expect(await hints(app)).toEqual([]);
  });

  it("a hint that lies is passed over and cleared away, a true one stays", async () => {
    const opened = await store();
    const { app, snapshots } = opened;
    await writeSure(opened, snapshot("t.true", "x", 0, { due: 120_000 }));
    await writeSure(opened, snapshot("t.none", "x", 0));
    const lies = [dueKey(1, 60_000, "t.true"), dueKey(1, 60_000, "t.none"), dueKey(1, 60_000, "t.nobody")];
    for (const key of lies) await raw.request(`$KV.${app}_snapshots.${key}`);
    expect((await hints(app)).length).toBe(4);
    expect(await snapshots.due(1, 10 ** 9, 10)).toEqual([{ id: "t.true", due: 120_000 }]);
    await become(() => hints(app), [dueKey(1, 120_000, "t.true")]);
  });
});

describe("What somebody else put into the bucket", () => {
  it("an entry in another form is damage of that entry; those beside it are read", async () => {
    const opened = await store();
    await writeSure(opened, snapshot("t.good", "x", 0));
    await raw.request(`$KV.${opened.app}_snapshots.t.odd`, Uint8Array.of(77, 1, 2, 3));
    const [odd, good, none] = await opened.snapshots.read(["t.odd", "t.good", "t.none"]);
    expect(textOf(good?.value)).toBe("x");
    expect(none).toBeUndefined();
    expect(odd?.value).toHaveLength(0);
    expect(() => decodeSnapshot("t.odd", odd?.value as Uint8Array)).toThrow(
      expect.objectContaining({ code: "corrupt_snapshot" }),
    );
  });

  it("a message among the dead letters that is none is passed over and told, and hides no letter", async () => {
    const opened = await store();
    const troubles: unknown[] = [];
    opened.onTrouble((_task, error) => troubles.push(error));
    for (const [n, bytes] of [
      [1, Uint8Array.of(0xc1)],
      [2, Uint8Array.of(0x90)],
      [3, new Uint8Array(0)],
    ] as const)
      await raw.request(`${opened.app}.dead.0_${n}_0`, bytes);
    const letter = {
      position: 9,
      index: 0,
      type: "t",
      key: "k",
      event: {},
      time: 1,
      code: "machine_failed",
      reason: "",
    };
    await opened.deadLetters.put([letter]);
    expect(await opened.deadLetters.list(10)).toEqual([letter]);
    // An empty one stands for a letter that was removed.
    expect(troubles).toHaveLength(2);
  });

  it("letters and segments have the form that they always had: a place for the journal, with 0 in it", async () => {
    const opened = await store();
    const letter = { index: 2, type: "t", key: "k", event: {}, time: 1, code: "c", reason: "r" };
    await raw.request(`${opened.app}.dead.0_5_2`, encode({ ...letter, position: { journal: 0, seq: 5 } }));
    await opened.deadLetters.put([
      { ...letter, position: 5 },
      { ...letter, position: 6 },
    ]);
    expect(await opened.deadLetters.list(10)).toEqual([5, 6].map((position) => ({ ...letter, position })));
    const manager = await jetstreamManager(raw);
    const last = (stream: string, subject: string) =>
      manager.streams.getMessage(stream, { last_by_subj: subject });
    const put = await last(`${opened.app}_dead`, `${opened.app}.dead.0_6_2`);
    expect(decode(put?.data as Uint8Array)).toMatchObject({ position: { journal: 0, seq: 6 }, index: 2 });
    const segments = [{ lane: "life1", from: 3, to: undefined }];
    await opened.directory.writeShard(4, { owner: "life1", epoch: 1, segments }, 0);
    const shards = `KV_${opened.app}_shards`;
    const entry = await last(shards, `$KV.${opened.app}_shards.4`);
    expect(entry?.json()).toMatchObject({ segments: [[0, "life1", 3, null]] });
  });

  it("a deletion by another tool is a deletion, and what is written next expects it", async () => {
    const opened = await store();
    const revision = await writeSure(opened, snapshot("t.k", "x", 0));
    const set = headers();
    set.set("KV-Operation", "DEL");
    await raw.request(`$KV.${opened.app}_snapshots.t.k`, undefined, { headers: set, timeout: 2_000 });
    expect(await readOne(opened, "t.k")).toBeUndefined();
    expect(await writeOne(opened, snapshot("t.k", "y", revision))).toBeUndefined();
    expect(await writeOne(opened, snapshot("t.k", "y", 0))).toBeUndefined();
    const [marker] = await opened.snapshots.read(["t.k"]);
    expect(await writeOne(opened, snapshot("t.k", "y", marker?.revision ?? 0))).toBeDefined();
  });
});

describe("A damaged disk", () => {
  const flip = (storeDir: string, text: string): void => {
    for (const file of readdirSync(storeDir, { recursive: true, encoding: "utf8" })) {
      if (!file.endsWith(".blk")) continue;
      const path = join(storeDir, file);
      const bytes = readFileSync(path);
      const at = bytes.indexOf(text);
      if (at < 0) continue;
      bytes[at] = (bytes[at] as number) ^ 1;
      writeFileSync(path, bytes);
      return;
    }
    throw new Error(`${text} is in no file of the server`);
  };
  const write = async (opened: NatsStore): Promise<void> => {
    const ids = ["one", "two", "three"];
    const made = await opened.snapshots.write(ids.map((id) => snapshot(`t.${id}`, `value of ${id}`, 0)));
    expect(made.every((revision) => revision !== undefined)).toBe(true);
    await opened.directory.writeShard(1, { owner: undefined, epoch: 1, segments: [] }, 0);
  };

  it("an entry that the server cannot read is damage, not an entry that is not there", async () => {
    const own = await startServer({ durability: "fsync" });
    const opened = await nats({ servers: own.url });
    await write(opened);
    await own.kill("SIGTERM");
    flip(own.storeDir, "value of one");
    await own.restart();
    await eventually(() => opened.connection.connected);
    const [entry] = await opened.snapshots.read(["t.one"]);
    expect(entry?.value).toHaveLength(0);
    await opened.close();
    await own.stop();
  });

  it("a server that has lost acknowledged snapshots is not believed, also by a process that knew none of them", async () => {
    const own = await startServer({ durability: "fsync" });
    const first = await nats({ servers: own.url });
    await write(first);
    await first.close();
    await own.kill("SIGKILL");
    flip(own.storeDir, "value of two");
    await own.restart();
    const opened = await nats({ servers: own.url, timeout_ms: 500 });
    // As at a take-over: the shard's entry first.
    await opened.directory.readShard(1);
    await expect(opened.snapshots.read(["t.three"])).rejects.toMatchObject({ code: "store_failed" });
    await opened.close();
    await own.stop();
  });
});
