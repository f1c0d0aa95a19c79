/**
 * The mail filter: what the actors come to is what the rule gives when it is applied to the same mails without a
 * runtime, on both stores and when a node dies; and the rule is good.
 */
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nothingFiled, STRETCH, verdictOf, weightOf } from "../../examples/mail/bayes.ts";
import { type Mail, readMails, wordsOf } from "../../examples/mail/corpus.ts";
import { deliver, inboxOf } from "../../examples/mail/deliver.ts";
import { filter, word } from "../../examples/mail/filter.ts";
import { classify, learn, withNode } from "../../examples/mail/mail.ts";
import { evidenceOf } from "../../examples/mail/report.ts";
import type { Progress } from "../../examples/program.ts";
import { natsOn } from "../../examples/run.ts";
import { embedded, type NodeSettings, startNode } from "../../runtime/index.ts";
import { onBothStores } from "../support/example-stores.ts";
import { learntWithout } from "../support/mails.ts";
import { type NatsServer, startServer } from "../support/nats-server.ts";
import { temporaryPath } from "../support/temporary.ts";

const TAKE = 120;
const quiet: Progress = { start: () => undefined, update: () => undefined, stop: () => undefined };
const never = new AbortController().signal;

let mails: readonly Mail[];
let few: readonly Mail[];

beforeAll(async () => {
  mails = await readMails();
  few = await readMails(TAKE);
});

describe("the corpus", () => {
  it("comes in one order, of which fewer mails are the beginning", () => {
    expect(mails).toHaveLength(6_046);
    expect(mails.filter(({ spam }) => spam)).toHaveLength(1_896);
    expect(few).toEqual(mails.slice(0, TAKE));
    expect(mails.map(({ number }) => number)).toEqual([...mails.keys()]);
    expect(Math.max(...mails.map(({ words }) => words.length))).toBe(100);
  });

  it("is judged by subject and body only, each word once", () => {
    const text =
      "From: shop@example.org\nSubject: Buy\n now\nX-Spam: yes\n\n<b>Buy</b> it, don't wai=\nt! a1 zz";
    expect(wordsOf(text)).toEqual(["buy", "now", "don't", "wait"]);
    expect(wordsOf("Buy it now")).toEqual(["buy", "now"]);
  });
});

describe("the rule", () => {
  it("files over 95 % of mails not yet seen right, where filing all alike is right for 69 %", () => {
    const { mails: count, spam, caught, falseAlarms, right } = learntWithout(mails).filed;
    const accuracy = right.reduce((sum, of) => sum + of, 0) / count;
    expect(accuracy).toBeGreaterThan(0.96);
    expect(accuracy).toBeCloseTo(0.97, 2);
    expect((count - spam) / count).toBeCloseTo(0.686, 3);
    expect(caught / spam).toBeGreaterThan(0.96);
    expect(caught / (caught + falseAlarms)).toBeGreaterThan(0.92);
    // It learns: the first stretch is the worst.
    expect(Math.min(...right.slice(0, -1))).toBe(right[0]);
    expect(right[0]).toBeGreaterThan(0.85 * STRETCH);
  });

  it("knows nothing of a word that was never seen, and little of one that was seen once", () => {
    const filed = { ...nothingFiled, mails: 100, spam: 50 };
    expect(weightOf(filed, ["new", 0, 0])).toBe(0);
    const [once, often] = [weightOf(filed, ["once", 1, 0]), weightOf(filed, ["often", 20, 0])];
    expect(once).toBeGreaterThan(0);
    expect(often).toBeGreaterThan(once);
    expect(weightOf(filed, ["ham", 0, 20])).toBeCloseTo(-often);
    expect(verdictOf(filed, []).probability).toBe(0.5);
  });
});

onBothStores(
  () => {
    const path = temporaryPath();
    return () => embedded({ path });
  },
  (open) => {
    it("comes to the same as the rule without actors, stopped half way and gone on", async () => {
      const expected = learntWithout(few);
      const stop = new AbortController();
      const progress = { ...quiet, update: (done: number) => done === TAKE / 2 && stop.abort() };
      const store = await open();
      const stopped = await withNode(store, (client) =>
        learn(client, { take: TAKE, signal: stop.signal, progress }),
      );
      expect(stopped).toBeUndefined();

      await withNode(store, async (client) => {
        const before = (await inboxOf(client).get()).context;
        expect(before.mails).toBeGreaterThanOrEqual(TAKE / 2);
        expect(before.mails).toBeLessThan(TAKE);

        const { report, work } = (await learn(client, { take: TAKE, signal: never, progress: quiet })) ?? {};
        expect((await inboxOf(client).get()).context).toEqual(expected.filed);
        const known = await evidenceOf(client, [...expected.words.keys()]);
        const wrong = known.filter(
          ([name, spam, ham]) => !isDeepStrictEqual(expected.words.get(name), { spam, ham }),
        );
        expect(wrong).toEqual([]);
        expect(work).toMatchObject({ before: before.mails, now: TAKE - before.mails });
        const { right, spam } = expected.filed;
        expect(report).toMatchObject({ mails: TAKE, spam, accuracy: (right[0] as number) / TAKE });
        expect(report?.accuracy).toBeGreaterThan((report?.baseline as number) + 0.1);
        for (const { spam, ham } of report?.spammy ?? []) expect(spam).toBeGreaterThan(ham);
        for (const { spam, ham } of report?.hammy ?? []) expect(ham).toBeGreaterThan(spam);

        // Looking at a text teaches nothing.
        expect(
          await classify(client, "Lowest mortgage rates guaranteed, click here for free money"),
        ).toMatchObject({
          spam: true,
        });
        expect(await classify(client, "The patch for the perl module is in cvs")).toMatchObject({
          spam: false,
        });
        expect((await inboxOf(client).get()).context).toEqual(expected.filed);
      });
      await store.close();
    }, 60_000);
  },
);

describe("on NATS", () => {
  let server: NatsServer;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.stop());

  it("comes to the same while a node dies", async () => {
    const settings: Partial<NodeSettings> = { lease_ms: 300, heartbeat_ms: 100 };
    const store = await natsOn(server.url, "mail")();
    const actors = [word, filter];
    const east = await startNode({ actors, store, settings, name: "east" });
    const west = await startNode({ actors, store, settings, name: "west" });
    let killed = false;
    const onProgress = (done: number): void => {
      if (done < TAKE / 3 || killed) return;
      killed = true;
      east.kill();
    };
    await deliver(west.client, few, onProgress, never);
    expect(killed).toBe(true);

    const { filed, words } = learntWithout(few);
    expect((await inboxOf(west.client).get()).context).toEqual(filed);
    for (const name of ["the", "free", "list"]) {
      expect((await west.client.actor(word, name).get()).context).toEqual(words.get(name));
    }
    await west.stop();
  }, 60_000);
});
