/** Contract 11 and 1: a shard's entry is bounded in every value that is stored, and is read as a whole or not at all. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Captured, EntryWriter, readEntries } from "../runtime/engine/entries.ts";
import { BODY_BYTES, bodyOf, decodeEntry, entryId } from "../runtime/engine/shard-entry.ts";
import { ShardState } from "../runtime/engine/shard.ts";
import type { Snapshots, SnapshotWrite } from "../runtime/ports/index.ts";
import { MemorySnapshots } from "../runtime/stores/memory/snapshots.ts";
import { limits } from "../runtime/words/limits.ts";
import { codeOf } from "./support/formats.ts";
import { keyIn, type Rig, rig } from "./support/probe.ts";

const KB = 1_000;
/** Bytes of a piece, so that little makes many. */
const EACH = 700;

/** Notes what is written, and may make a call fail, before or after it has its effect. */
class Watched implements Snapshots {
  readonly inner = new MemorySnapshots(async (apply) => apply());
  readonly ids = new Set<string>();
  largest = 0;
  calls = 0;
  /** Which call fails from here on, and whether it has its effect. */
  fails: { at: number; kept: boolean } | undefined;

  sync(): Promise<void> {
    return this.inner.sync();
  }

  read(ids: readonly string[]) {
    return this.inner.read(ids);
  }

  due(...args: Parameters<Snapshots["due"]>) {
    return this.inner.due(...args);
  }

  list(...args: Parameters<Snapshots["list"]>) {
    return this.inner.list(...args);
  }

  async write(writes: readonly SnapshotWrite[]) {
    const failing = this.fails?.at === this.calls++;
    if (failing && this.fails?.kept === false) throw new Error("The store is gone.");
    for (const { id, value } of writes) {
      this.ids.add(id);
      this.largest = Math.max(this.largest, value?.length ?? 0);
    }
    const answers = await this.inner.write(writes);
    if (failing) throw new Error("The store is gone.");
    return answers;
  }

  /** Every id that has a value. */
  async held(): Promise<string[]> {
    const ids = [...this.ids];
    const found = await this.inner.read(ids);
    return ids.filter((_id, index) => found[index]?.value !== undefined).sort();
  }
}

/** A writer without an engine around it, who believes to own the shard as long as `owns` says so. */
function writerOn(snapshots: Snapshots, bytesEach?: number, owns: () => boolean = () => true): EntryWriter {
  const owner = {
    check: async () => {
      if (!owns()) throw new Error("It belongs to another node.");
    },
  };
  return new EntryWriter(snapshots, owner, { troubled: () => undefined }, bytesEach);
}

/** A shard whose entry is of so many bytes at least, told apart by a mark. */
function filled(mark: number, bytes: number): ShardState {
  const shard = new ShardState(3);
  shard.in(1).committed = mark;
  const each = Math.ceil(bytes / 10);
  for (let n = 0; n < 10 && bytes > 0; n++) {
    const event = { type: "x", blob: String(n).padEnd(each, "x") };
    shard.out(7).push({ type: "probe", key: "a", id: "probe.a", event, trace: undefined }, each);
  }
  return shard;
}

function captured(shard: ShardState, from: ShardState): Captured {
  return { shard, body: bodyOf(from), dueFrom: 5 };
}

/** What is stored now. */
async function readBack(snapshots: Snapshots): Promise<ShardState> {
  const shard = new ShardState(3);
  await readEntries(snapshots, [shard], 0);
  return shard;
}

const markOf = (shard: ShardState): number => shard.in(1).committed;

describe("a shard's entry", () => {
  it("is one value while it fits, and pieces when it does not, none of them too large", async () => {
    for (const bytes of [0, 700 * KB, 760 * KB, 900 * KB, 5_000 * KB]) {
      const store = new Watched();
      const shard = filled(1, bytes);
      await writerOn(store).write([captured(new ShardState(3), shard)]);
      expect(store.largest).toBeLessThanOrEqual(limits.stateBytes);
      expect((await store.held()).length).toBe(bytes < BODY_BYTES ? 1 : 1 + Math.ceil(bytes / BODY_BYTES));
      const back = await readBack(store);
      expect(Buffer.compare(bodyOf(back), bodyOf(shard))).toBe(0);
      expect(back.horizon_ms).toBe(5);
      expect(back.outbox.bytes).toBeGreaterThanOrEqual(bytes);
    }
  });

  it("leaves nothing behind when it grows, shrinks, or is written by one owner after the other", async () => {
    const store = new Watched();
    for (const [round, bytes] of [2_000, 100, 3_000, 1_000, 1_000, 0].entries()) {
      const owner = round % 2 === 0 ? await readBack(store) : await readBack(store);
      const writer = writerOn(store, EACH);
      await writer.write([captured(owner, filled(round, bytes))]);
      await writer.write([captured(owner, filled(round + 100, bytes))]);
      expect(markOf(await readBack(store))).toBe(round + 100);
      const { checksums } = decodeEntry(3, (await store.read(["_shard.3"]))[0]?.value as Uint8Array);
      expect(await store.held()).toHaveLength(1 + checksums.length);
    }
  });

  it("is whole after a crash between any two writes, and the next owner cleans up", async () => {
    for (let at = 0, crashed = true; crashed; at++) {
      for (const [kept, begun] of [true, false].flatMap((a) => [
        [a, true],
        [a, false],
      ])) {
        const store = new Watched();
        if (begun) await writerOn(store, EACH).write([captured(await readBack(store), filled(1, 2_000))]);
        store.calls = 0;
        store.fails = { at, kept: kept as boolean };
        const outcome = await writerOn(store, EACH)
          .write([captured(await readBack(store), filled(2, 3_000))])
          .then(
            () => true,
            () => false,
          );
        crashed = store.calls > at;
        store.fails = undefined;
        const heir = await readBack(store);
        const mark = markOf(heir);
        expect(mark === 2 || (mark === (begun ? 1 : 0) && !outcome)).toBe(true);
        expect(heir.out(7).waiting).toHaveLength(mark === 0 ? 0 : 10);
        const writer = writerOn(store, EACH);
        await writer.write([captured(heir, filled(3, 2_500))]);
        await writer.write([captured(heir, filled(4, 10))]);
        expect(markOf(await readBack(store))).toBe(4);
        expect(await store.held()).toEqual(["_shard.3"]);
      }
    }
  });

  it("goes on after a write without an answer, whether it had its effect or not", async () => {
    for (let at = 0; at < 6; at++) {
      for (const kept of [true, false]) {
        const store = new Watched();
        const writer = writerOn(store, EACH);
        const shard = await readBack(store);
        await writer.write([captured(shard, filled(1, 2_000))]);
        store.calls = 0;
        store.fails = { at, kept };
        await writer.write([captured(shard, filled(2, 3_000))]).catch(() => undefined);
        store.fails = undefined;
        await writer.write([captured(shard, filled(3, 1_500))]);
        const back = await readBack(store);
        expect([markOf(back), back.out(7).waiting.length]).toEqual([3, 10]);
        await writer.write([captured(shard, filled(4, 0))]);
        expect(await store.held()).toEqual(["_shard.3"]);
      }
    }
  });

  it("is one of those that were written, at every moment, however the writes of two owners and a reader mingle", async () => {
    const sizes = fc.array(fc.constantFrom(0, 900, 1_600, 2_400), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), sizes, sizes, fc.boolean(), async (s, first, second, both) => {
        const store = new Watched();
        await writerOn(store, EACH).write([captured(await readBack(store), filled(1, 1_600))]);
        let owner = "a";
        const marks = new Set([1]);
        const faults: unknown[] = [];
        const check = async (): Promise<void> => {
          const seen = await readBack(store.inner).catch((error: unknown) => void faults.push(error));
          if (seen !== undefined && !marks.has(markOf(seen))) faults.push(`mark ${markOf(seen)}`);
        };
        const late: Snapshots = {
          sync: () => store.sync(),
          due: (...args) => store.due(...args),
          list: (...args) => store.list(...args),
          read: s.scheduleFunction((ids: readonly string[]) => store.read(ids)),
          write: s.scheduleFunction(async (writes: readonly SnapshotWrite[]) => {
            const answers = await store.write(writes);
            await check();
            return answers;
          }),
        };
        const play = async (name: string, from: number, list: readonly number[]): Promise<void> => {
          // The former owner may not have noticed that it is none.
          const writer = writerOn(late, EACH, () => both || owner === name);
          const shard = await readBack(store);
          if (name === "b") owner = "b";
          for (const [index, size] of list.entries()) {
            marks.add(from + index);
            await writer.write([captured(shard, filled(from + index, size))]).catch(() => undefined);
          }
        };
        const reader = async (): Promise<void> => {
          for (let n = 0; n < 4; n++) {
            const seen = await readBack(late).catch((error: unknown) => void faults.push(error));
            if (seen !== undefined && !marks.has(markOf(seen))) faults.push(`mark ${markOf(seen)}`);
          }
        };
        const all = Promise.all([play("a", 10, first), play("b", 20, second), reader()]);
        await s.waitFor(all);
        expect(faults).toEqual([]);
        // Whoever is left cleans up.
        const heir = await readBack(store);
        const writer = writerOn(store, EACH);
        await writer.write([captured(heir, filled(30, 1_600))]);
        await writer.write([captured(heir, filled(31, 0))]);
        expect(await store.held()).toEqual(["_shard.3"]);
      }),
      { numRuns: 150 },
    );
  });

  it("with a piece that is missing or damaged is refused", async () => {
    const store = new Watched();
    await writerOn(store, EACH).write([captured(await readBack(store), filled(1, 2_000))]);
    const [piece] = (await store.held()).filter((id) => id !== entryId(3));
    const [found] = await store.read([piece as string]);
    const value = found?.value as Uint8Array;
    value[100] = (value[100] as number) ^ 1;
    await expect(readBack(store)).rejects.toMatchObject({ code: "corrupt_snapshot" });
    value[100] = (value[100] as number) ^ 1;
    await readBack(store);
    const write = { id: piece as string, shard: 3, due: undefined, expected: found?.revision as number };
    await store.write([{ ...write, value: undefined }]);
    await expect(readBack(store)).rejects.toMatchObject({ code: "corrupt_snapshot" });
    expect(codeOf(() => decodeEntry(4, value))).toBe("corrupt_snapshot");
  });
});

describe("a node", () => {
  /** A shard with more told messages than go into one value. */
  async function laden(): Promise<{ r: Rig; to: string; sent: number }> {
    const r = await rig();
    const from = r.node.client.actor(r.probe, keyIn(r.node, r.probe, 0));
    const to = keyIn(r.node, r.probe, 1);
    r.store.loses = (_subject, frame) => frame.kind === "told";
    const sent = 12;
    for (let n = 1; n <= sent; n++) {
      const event = { type: "note", from: "f", n, blob: "x".repeat(200 * KB) } as { type: string };
      await r.world.run(from.send({ type: "tell", to: `probe/${to}`, event }));
    }
    return { r, to, sent };
  }

  it("contract 1 and 11: a checkpoint cuts the tail although the outbox is large, and nothing of it is lost", async () => {
    const { r, to, sent } = await laden();
    let largest = 0;
    const { write } = r.store.snapshots;
    r.store.snapshots.write = (writes) => {
      for (const { value } of writes) largest = Math.max(largest, value?.length ?? 0);
      return write(writes);
    };
    await r.world.run(r.node.checkpoint());
    expect(largest).toBeLessThanOrEqual(limits.stateBytes);
    r.node.kill();
    r.store.journalReads = 0;
    r.store.loses = () => false;
    const next = await rig({ ...r, name: "n2" });
    await next.world.advance(30_000);
    const { seen } = (await next.world.run(next.node.client.actor(r.probe, to).get())).context;
    expect(seen).toEqual(Array.from({ length: sent }, (_, n) => `f${n + 1}`));
  });

  it("that dies between the pieces of a checkpoint loses nothing either", async () => {
    for (let at = 0; at < 8; at++) {
      const { r, to, sent } = await laden();
      let calls = 0;
      r.store.failsToWrite = ({ id }) => id.startsWith("_shard.0") && calls++ >= at;
      await r.world.run(r.node.checkpoint().catch(() => undefined));
      r.node.kill();
      r.store.failsToWrite = () => false;
      r.store.loses = () => false;
      const next = await rig({ ...r, name: "n2" });
      await next.world.advance(30_000);
      const { seen } = (await next.world.run(next.node.client.actor(r.probe, to).get())).context;
      expect(seen).toEqual(Array.from({ length: sent }, (_, n) => `f${n + 1}`));
    }
  });
});

describe("contract 11: requests that clients leave open", () => {
  it("are bounded in number, over all sessions of a shard", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "add", by: 1 }));
    const shard = r.node.incarnation.engine.shards.get(ref.shard) as ShardState;
    expect(shard.open.count).toBe(1);
    await r.world.run(ref.send({ type: "add", by: 1 }));
    // The second frame says that the first is settled.
    expect(shard.open.count).toBe(1);
    shard.open.count += limits.requestsPerShard;
    await expect(r.world.run(ref.send({ type: "add", by: 1 }))).rejects.toMatchObject({
      code: "overloaded",
      outcome: "notApplied",
      retryable: true,
    });
    expect((await r.world.run(ref.get())).context.count).toBe(2);
    shard.open.count -= limits.requestsPerShard;
    await r.world.run(ref.send({ type: "add", by: 1 }));
    shard.forgetIdle(r.world.monotonic() + limits.sessionIdle_ms + 1);
    expect([shard.sessions.size, shard.open.count]).toEqual([0, 0]);
  });

  it("are bounded in number for each session, whatever a client claims", async () => {
    const r = await rig();
    const ref = r.node.client.actor(r.probe, "a");
    await r.world.run(ref.send({ type: "add", by: 1 }));
    const { engine } = r.node.incarnation;
    const shard = engine.shards.get(ref.shard) as ShardState;
    const request = {
      kind: 1,
      type: "probe",
      key: "a",
      id: "probe.a",
      event: { type: "add", by: 1 },
      requestId: undefined,
      trace: undefined,
    } as const;
    const requests = new Array(1_000).fill(request);
    for (let n = 0; n < 10; n++) {
      engine.receive(shard, {
        kind: "request",
        shard: ref.shard,
        session: "greedy",
        base: 1,
        first: n * 1_000 + 1,
        epoch: shard.epoch,
        requests,
      });
      await r.world.settle();
    }
    expect(shard.sessions.get("greedy")?.last).toBe(limits.sessionInFlight);
    expect((await r.world.run(ref.get())).context.count).toBe(limits.sessionInFlight + 1);
  });
});
