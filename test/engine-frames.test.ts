/** Contract 11, in bytes: every frame that anybody makes can be carried by a network and is understood at its other end. */
import { assign, enqueueActions, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { checkQuery, HistoryReader, type HistoryPage, type HistoryTurn } from "../runtime/engine/history.ts";
import { encodeBatch, encodeRecord, KeyframeTurn, type Link, NoLink } from "../runtime/engine/record.ts";
import { defineActor, reply, tell } from "../runtime/index.ts";
import type { Journal } from "../runtime/ports/index.ts";
import { decodeFrames, encodeFrames, type Frame } from "../runtime/words/frames.ts";
import { limits } from "../runtime/words/limits.ts";
import { blank, codeOf, header } from "./support/formats.ts";
import { failure, keyIn, type Rig, rig } from "./support/probe.ts";

const KB = 1_000;

type Bulky =
  | { type: "grow"; blob: string }
  | { type: "swell"; bytes: number }
  | { type: "answer"; bytes: number; blob?: string }
  | { type: "spread"; to: string; bytes: number }
  | { type: "refuse"; bytes: number }
  | { type: "take"; blob: string };

const bulky = defineActor({
  type: "bulky",
  machine: setup({
    types: { context: {} as { blob: string; taken: number }, events: {} as Bulky },
  }).createMachine({
    context: { blob: "", taken: 0 },
    on: {
      grow: { actions: assign({ blob: ({ event }) => event.blob }) },
      swell: { actions: assign({ blob: ({ event }) => "x".repeat(event.bytes) }) },
      answer: { actions: reply(({ event }) => "y".repeat(event.bytes)) },
      spread: {
        actions: enqueueActions(({ enqueue, event }) => {
          const message = { type: "take", blob: "z".repeat(event.bytes) };
          for (let n = 0; n < 4; n++) enqueue(tell(event.to, message));
        }),
      },
      refuse: {
        actions: assign(({ event }) => {
          throw new Error("n".repeat(event.bytes));
        }),
      },
      take: { actions: assign({ taken: ({ context, event }) => context.taken + event.blob.length }) },
    },
  }),
  types: {} as { replies: { answer: string } },
});

/** Begins with more than an actor may hold. */
const obese = defineActor({
  type: "obese",
  machine: setup({ types: { context: {} as { blob: string }, events: {} as { type: "x" } } }).createMachine({
    context: () => ({ blob: "x".repeat(limits.stateBytes + 1) }),
    on: { x: {} },
  }),
});

const start = (): Promise<Rig> => rig({ actors: [bulky, obese] });

/** Every frame so far, each checked by sending it through bytes. Returns those of a kind. */
function carried<K extends Frame["kind"]>(r: Rig, kind: K): Extract<Frame, { kind: K }>[] {
  for (const { frame } of r.store.frames) {
    const [payload, ...more] = encodeFrames([frame]);
    expect(more).toEqual([]);
    expect(decodeFrames(payload as Uint8Array, limits.frameBytes, 4)).toHaveLength(1);
  }
  return r.store.frames
    .map(({ frame }) => frame)
    .filter((frame): frame is Extract<Frame, { kind: K }> => frame.kind === kind);
}

async function all<T>(turns: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const turn of turns) list.push(turn);
  return list;
}

describe("contract 11: frames", () => {
  it("of requests are cut by bytes, whatever characters the events hold", async () => {
    const r = await start();
    const ref = r.node.client.actor(bulky, "a");
    const events = ["a".repeat(250 * KB), "語".repeat(80 * KB), "x", "é".repeat(120 * KB)];
    const list = Array.from(
      { length: 12 },
      (_, n) => ({ type: "take", blob: events[n % 4] as string }) as const,
    );
    // Short texts, of which only the characters are counted.
    const short = { type: "take", blob: "", parts: new Array(1_000).fill("語".repeat(80)) } as never;
    await r.world.run(Promise.all([...list, short, short, short].map((event) => ref.send(event))));
    const frames = carried(r, "request");
    expect(frames.length).toBeGreaterThan(6);
    expect(frames.length).toBeLessThan(16);
    expect((await r.world.run(ref.get())).context.taken).toBe(3 * (250 + 80 + 120) * KB + 3);
  });

  it("of replies are cut by bytes, and everything is answered", async () => {
    const r = await start();
    const refs = [0, 1, 2, 3].map((shard) => r.node.client.actor(bulky, keyIn(r.node, bulky, shard)));
    for (const ref of refs) await r.world.run(ref.send({ type: "grow", blob: "x".repeat(200 * KB) }));
    const before = carried(r, "reply").length;
    const states = await r.world.run(
      Promise.all(refs.flatMap((ref) => [ref.get(), ref.ask({ type: "take", blob: "a" }), ref.get()])),
    );
    expect(states).toHaveLength(12);
    for (const state of states) expect(JSON.stringify(state).length).toBeGreaterThan(200 * KB);
    expect(carried(r, "reply").length - before).toBeGreaterThan(3);
    // The largest reply that fits into a record.
    expect(await r.world.run(refs[0]!.ask({ type: "answer", bytes: 800 * KB }))).toHaveLength(800 * KB);
    carried(r, "reply");
  });

  it("answers given again, out of memory or out of the journal, are cut too", async () => {
    const r = await start();
    const ref = r.node.client.actor(bulky, "a");
    const asks = (): Promise<string[]> =>
      Promise.all(
        [1, 2, 3, 4].map((n) => ref.ask({ type: "answer", bytes: 300 * KB }, { requestId: `r${n}` })),
      );
    await r.world.run(asks());
    const again = await r.world.run(asks());
    expect(again.map(({ length }) => length)).toEqual(new Array(4).fill(300 * KB));
    let lost = 4;
    r.store.loses = (_subject, frame) => frame.kind === "reply" && lost-- > 0;
    expect((await r.world.run(asks())).map(({ length }) => length)).toEqual(new Array(4).fill(300 * KB));
    carried(r, "reply");
  });

  it("an answer that no frame carries is answer_too_large, and the turn stands", async () => {
    const r = await start();
    const ref = r.node.client.actor(bulky, "a");
    await r.world.run(ref.send({ type: "swell", bytes: 500 * KB }));
    for (const options of [{}, { requestId: "r" }, { requestId: "r" }])
      expect(
        await r.world.run(failure(ref.call({ type: "answer", bytes: 600 * KB }, options))),
      ).toMatchObject({ code: "answer_too_large", outcome: "applied", retryable: false });
    expect(await r.world.run(ref.get())).toMatchObject({ turn: 3 });
    carried(r, "reply");
  });

  it("an actor that begins with more than it may hold is refused by name, to readers and watchers", async () => {
    const r = await start();
    const ref = r.node.client.actor(obese, "a");
    expect(await r.world.run(failure(ref.get()))).toMatchObject({ code: "state_too_large" });
    expect(await r.world.run(failure(ref.send({ type: "x" })))).toMatchObject({ code: "state_too_large" });
    expect(await r.world.run(failure(ref.watch().next()))).toMatchObject({ code: "state_too_large" });
    carried(r, "reply");
  });

  it("texts of errors are cut", async () => {
    const r = await start();
    const ref = r.node.client.actor(bulky, "a");
    const error = await r.world.run(failure(ref.send({ type: "refuse", bytes: 2_000 * KB })));
    expect([error.code, error.message.length < 5_000]).toEqual(["machine_failed", true]);
    carried(r, "reply");
  });

  it("of told messages are cut by bytes and by the window, and arrive in order", async () => {
    const r = await start();
    const from = keyIn(r.node, bulky, 0);
    const to = keyIn(r.node, bulky, 1);
    const ref = r.node.client.actor(bulky, from);
    let lost = true;
    r.store.loses = (_subject, frame) => frame.kind === "told" && lost;
    for (let n = 0; n < 12; n++)
      await r.world.run(ref.send({ type: "spread", to: `bulky/${to}`, bytes: 200 * KB }));
    const channel = r.node.incarnation.engine.shards.get(0)?.outs.get(1);
    expect(channel?.waiting.length).toBe(48);
    // No more than the window is on its way, though the number of messages would allow it.
    expect((channel?.sent ?? 0) * 200 * KB).toBeLessThanOrEqual(limits.outboxWindowBytes);
    lost = false;
    await r.world.advance(60_000);
    expect((await r.world.run(r.node.client.actor(bulky, to).get())).context.taken).toBe(48 * 200 * KB);
    for (const { messages } of carried(r, "told")) expect(messages.length).toBeLessThan(3);
    expect(r.node.incarnation.engine.shards.get(0)?.outbox.bytes).toBe(0);
  });

  it("outbox_full: a shard keeps no more bytes for others than it may, also after a take-over", async () => {
    const r = await start();
    const from = keyIn(r.node, bulky, 0);
    const to = keyIn(r.node, bulky, 1);
    r.store.loses = (_subject, frame) => frame.kind === "told";
    const spread = { type: "spread", to: `bulky/${to}`, bytes: 200 * KB } as const;
    const turns = Math.ceil(limits.outboxBytes / (4 * 200 * KB));
    const ref = r.node.client.actor(bulky, from);
    for (let n = 0; n < turns - 1; n++) await r.world.run(ref.send(spread));
    const full = { code: "outbox_full", outcome: "notApplied", retryable: true };
    expect(await r.world.run(failure(ref.send(spread)))).toMatchObject(full);
    r.node.kill();
    const next = await rig({ ...r, actors: [bulky, obese], name: "n2" });
    await next.world.advance(10_000);
    const again = next.node.client.actor(bulky, from);
    expect(await next.world.run(failure(again.send(spread)))).toMatchObject(full);
    r.store.loses = () => false;
    await next.world.advance(60_000);
    await next.world.run(again.send(spread));
  });
});

describe("contract 11: history", () => {
  it("of large states comes in pages that can be carried, whole and in order", async () => {
    const r = await start();
    const ref = r.node.client.actor(bulky, "a");
    const turns = 140;
    for (let n = 1; n <= turns; n++)
      await r.world.run(ref.send({ type: "grow", blob: `${n} `.padEnd(100 * KB, "x") }));
    const numbers = Array.from({ length: turns }, (_, n) => n + 1);
    const oldest = await r.world.run(all(ref.history({ order: "oldest" })));
    expect(oldest.map(({ turn }) => turn)).toEqual(numbers);
    for (const { turn, context } of oldest) expect(context.blob.startsWith(`${turn} `)).toBe(true);
    const newest = await r.world.run(all(ref.history()));
    expect(newest.map(({ turn }) => turn)).toEqual([...numbers].reverse());
    const some = await r.world.run(all(ref.history({ order: "oldest", limit: 70 })));
    expect(some.map(({ turn }) => turn)).toEqual(numbers.slice(0, 70));
    carried(r, "reply");
  });

  it("a turn that no frame carries comes with its state, and says what was left out", async () => {
    const r = await start();
    const ref = r.node.client.actor(bulky, "a");
    await r.world.run(ref.send({ type: "swell", bytes: 600 * KB }));
    await r.world.run(ref.send({ type: "answer", bytes: 400 * KB, blob: "y" }));
    await r.world.run(ref.send({ type: "take", blob: "z" }));
    for (const order of ["newest", "oldest"] as const) {
      const turns = await r.world.run(all(ref.history({ order })));
      const large = turns.find(({ turn }) => turn === 2) as HistoryTurn;
      expect(large).toMatchObject({ event: { type: "answer" }, reply: undefined, replied: true, told: [] });
      expect(large.omitted).toEqual(["event", "reply"]);
      expect((large.context as { blob: string }).blob).toHaveLength(600 * KB);
      expect(turns.map(({ turn, omitted }) => [turn, omitted === undefined]).sort()).toEqual([
        [1, true],
        [2, false],
        [3, true],
      ]);
    }
    carried(r, "reply");
  });

  it("is asked for with queries of this runtime only", async () => {
    const good = { order: "oldest", limit: 64, cursor: { links: [[5, 0]], skip: 3, behind: undefined } };
    expect(checkQuery(good)).toEqual(good);
    for (const bad of [
      undefined,
      null,
      7,
      {},
      { ...good, order: "sideways" },
      { ...good, limit: -1 },
      { ...good, limit: 1.5 },
      { ...good, limit: "64" },
      { ...good, cursor: [] },
      { ...good, cursor: { links: [[5]], skip: 0 } },
      { ...good, cursor: { links: [[0, 0]], skip: 0 } },
      { ...good, cursor: { links: [[5, -1]], skip: 0 } },
      { ...good, cursor: { links: [[5, 0]], skip: -1 } },
      { ...good, cursor: { links: [[5, 0]], skip: 0, behind: "x" } },
      { ...good, cursor: { links: new Array(5_000).fill([5, 0]), skip: 0 } },
    ])
      expect([bad, codeOf(() => checkQuery(bad))]).toEqual([bad, "invalid_frame"]);
    const r = await start();
    const ref = r.node.client.actor(bulky, "a");
    await r.world.run(ref.send({ type: "take", blob: "x" }));
    expect((await r.world.run(failure(all(ref.history({ order: "sideways" as never }))))).code).toBe(
      "invalid_frame",
    );
    expect((await r.world.run(failure(all(ref.history({ limit: -1 }))))).code).toBe("invalid_options");
    expect(await r.world.run(all(ref.history({ limit: 0.5 })))).toHaveLength(1);
  });

  it("the cursor is bounded, however many turns there are", async () => {
    // Every turn a keyframe, so that few records make many blocks.
    const blocks = 9_000;
    const journal = journalOf(blocks);
    const reader = new HistoryReader(journal);
    const last: Link = linkOf(blocks);
    const seen: number[] = [];
    let page: HistoryPage | undefined;
    do {
      page = await reader.page("probe.a", last, last, { order: "oldest", limit: 64, cursor: page?.next });
      seen.push(...page.turns.map(({ turn }) => turn));
      expect(page.next?.links.length ?? 0).toBeLessThanOrEqual(4_096);
    } while (page.next !== undefined);
    expect(seen).toEqual(Array.from({ length: blocks }, (_, n) => n + 1));
  });
});

const PER_BATCH = 1_000;
const linkOf = (turn: number): Link =>
  turn === 0 ? NoLink : [Math.floor((turn - 1) / PER_BATCH) + 1, (turn - 1) % PER_BATCH];

/** A journal with one actor's turns, a keyframe each. */
function journalOf(turns: number): Journal {
  const batches = new Map<number, Uint8Array>();
  for (let first = 1; first <= turns; first += PER_BATCH) {
    const parts = Array.from({ length: Math.min(PER_BATCH, turns - first + 1) }, (_, n) =>
      encodeRecord({
        ...blank,
        kind: KeyframeTurn,
        turn: first + n,
        previous: linkOf(first + n - 1),
        keyframe: linkOf(first + n - 1),
        change: { context: {}, removed: null, value: "on", rest: null, timers: null },
      }),
    );
    const bytes = parts.reduce((sum, { length }) => sum + length, 0);
    batches.set(
      linkOf(first)[0],
      encodeBatch(
        header,
        parts,
        parts.map(() => 0),
        bytes,
      ),
    );
  }
  return { get: async (seq: number) => batches.get(seq) } as Journal;
}
