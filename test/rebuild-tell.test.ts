/** A promotion that tells others what only the new definition would have told them: each message once. */
import { assign, setup } from "xstate";
import { expect, it, onTestFinished } from "vitest";
import {
  type AnyActorDefinition,
  defineActor,
  KeyturnError,
  memory,
  type Store,
  startNode,
  tellAll,
} from "../runtime/index.ts";
import { rebuildType } from "../runtime/rebuild/rebuild.ts";
import { createClient } from "../runtime/client/client.ts";
import { realWorld } from "../runtime/world.ts";
import { cli } from "./support/cli-run.ts";

type Event = { type: "pay"; cents: number; to: string } | { type: "many"; n: number };

/** A till; the second version tells an account what was paid, and the first one only the audit. */
function tillOf(version: number, fee = 0) {
  return defineActor({
    type: "till",
    version,
    machine: setup({
      types: { context: {} as { cents: number }, events: {} as Event },
    }).createMachine({
      context: { cents: 0 },
      on: {
        pay: {
          actions: [
            assign({ cents: ({ context, event }) => context.cents + event.cents }),
            tellAll(({ event: { cents, to } }) => [
              ["audit/all", { type: "paid", cents: cents - fee }],
              ...(version === 1 ? [] : [[`account/${to}`, { type: "paid", cents }] as const]),
            ]),
          ],
        },
        many: {
          actions: tellAll(({ event }) =>
            version === 1
              ? []
              : Array.from(
                  { length: event.n },
                  (_, n) => [`account/many${n % 3}`, { type: "paid", cents: n }] as const,
                ),
          ),
        },
      },
    }),
  });
}

const summing = setup({
  types: {
    context: {} as { cents: number; seen: number[] },
    events: {} as { type: "paid"; cents: number },
  },
}).createMachine({
  context: { cents: 0, seen: [] },
  on: {
    paid: {
      actions: assign({
        cents: ({ context, event }) => context.cents + event.cents,
        seen: ({ context, event }) => [...context.seen.slice(-50), event.cents],
      }),
    },
  },
});
const account = defineActor({ type: "account", machine: summing });
const audit = defineActor({ type: "audit", machine: summing });

async function hosting(store: Store, till: AnyActorDefinition) {
  const node = await startNode({ actors: [till, account, audit], store, name: `v${till.version}` });
  onTestFinished(() => node.kill());
  const centsOf = async (address: string): Promise<number> => {
    const { context } = await node.client.actor(address).get();
    return (context as { cents: number }).cents;
  };
  const pay = (key: string, cents: number, to: string): Promise<void> =>
    node.client.actor(tillOf(1), key).send({ type: "pay", cents, to });
  return { node, centsOf, pay };
}

/** What a till of the first version did. */
async function past(store: Store): Promise<void> {
  const { node, pay } = await hosting(store, tillOf(1));
  for (let n = 1; n <= 10; n++) await pay(`t${n % 4}`, n, n % 2 === 0 ? "even" : "odd");
  await pay("gone", 1_000, "odd");
  await node.client.actor(tillOf(1), "gone").delete();
  await expect.poll(async () => (await node.client.actor(audit, "all").get()).turn).toBe(11);
  await node.stop({ closeStore: false });
}

const settled = async (
  centsOf: (address: string) => Promise<number>,
  wanted: readonly number[],
): Promise<void> => {
  await expect
    .poll(async () => [
      await centsOf("account/odd"),
      await centsOf("account/even"),
      await centsOf("audit/all"),
    ])
    .toEqual(wanted);
};

it("tells what is missing, once, however often it is promoted; the rest stands", async () => {
  const store = memory();
  await past(store);
  const { node, centsOf, pay } = await hosting(store, tillOf(2));
  // What the new version does is told by itself.
  await pay("t1", 100, "odd");
  await settled(centsOf, [100, 0, 1_155]);
  const silent = await rebuildType({ store, actors: tillOf(2) });
  expect((await silent.promote(node.client)).told).toBe(0);
  const rebuild = await rebuildType({ store, actors: tillOf(2), tell: true });
  // The till that was deleted has none who could tell it now.
  expect(rebuild.report.tells.rows).toMatchObject([
    { way: "told", to: "account", event: "paid", notYet: 11 },
  ]);
  // Comes between the replay and the promotion.
  await pay("t2", 200, "even");
  expect(await rebuild.promote(node.client)).toMatchObject({ promoted: 4, told: 10, failed: 0 });
  await settled(centsOf, [100 + 25, 200 + 30, 1_355]);
  const { context } = await node.client.actor(account, "odd").get();
  expect([...context.seen].sort((a, b) => a - b)).toEqual([1, 3, 5, 7, 9, 100]);
  for (let again = 0; again < 2; again++) {
    const next = await rebuildType({ store, actors: tillOf(2), tell: true });
    expect(await next.promote(node.client)).toMatchObject({ promoted: 0, told: 0 });
  }
  await settled(centsOf, [125, 230, 1_355]);
  await node.stop();
});

it("two that promote at once, and answers that are lost: each message once", async () => {
  const store = memory();
  await past(store);
  const { node, centsOf } = await hosting(store, tillOf(2));
  const both = await Promise.all([1, 2].map(() => rebuildType({ store, actors: tillOf(2), tell: true })));
  // One's requests are taken, and it never hears of it.
  const deaf = await createClient(store, realWorld, node.shardsOfApp);
  onTestFinished(() => deaf.close());
  const request = deaf.request.bind(deaf);
  deaf.request = async (...args) => {
    await request(...args);
    throw new KeyturnError("timeout", "The answer was lost.");
  };
  const [heard, lost] = await Promise.all([both[0]?.promote(node.client), both[1]?.promote(deaf)]);
  expect([heard, lost]).toMatchObject([{ failed: 0 }, { failed: 0 }]);
  await settled(centsOf, [25, 30, 1_055]);
  const after = await rebuildType({ store, actors: tillOf(2), tell: true });
  expect(await after.promote(node.client)).toMatchObject({ promoted: 0, told: 0 });
  await settled(centsOf, [25, 30, 1_055]);
  await node.stop();
});

it("more than fits into a turn is told in several, and in order", async () => {
  const store = memory();
  const first = await hosting(store, tillOf(1));
  for (let n = 0; n < 3; n++) await first.node.client.actor(tillOf(1), "t").send({ type: "many", n: 900 });
  await first.node.stop({ closeStore: false });
  const { node, centsOf } = await hosting(store, tillOf(2));
  const rebuild = await rebuildType({ store, actors: tillOf(2), tell: true });
  expect(await rebuild.promote(node.client)).toMatchObject({ promoted: 1, told: 2_700, failed: 0 });
  await expect
    .poll(() => centsOf("account/many2"))
    .toBe(3 * Array.from({ length: 300 }, (_, n) => 3 * n + 2).reduce((a, b) => a + b));
  const { context } = await node.client.actor(account, "many2").get();
  expect(context.seen.slice(-5)).toEqual([887, 890, 893, 896, 899]);
  expect(
    (await (await rebuildType({ store, actors: tillOf(2), tell: true })).promote(node.client)).told,
  ).toBe(0);
  await node.stop();
});

it("what is told otherwise stands", async () => {
  const store = memory();
  await past(store);
  const { node, centsOf } = await hosting(store, tillOf(2, 1));
  const rebuild = await rebuildType({ store, actors: tillOf(2, 1), tell: true });
  expect(rebuild.report.tells.rows.find(({ to }) => to === "audit")).toMatchObject({
    otherwise: 11,
    notYet: 0,
  });
  expect(await rebuild.promote(node.client)).toMatchObject({ told: 10 });
  await settled(centsOf, [25, 30, 1_055]);
  await node.stop();
});

it("without --promote nothing is told", async () => {
  const ran = await cli(["rebuild", "till", "--actors", "./none.ts", "--data", "./none", "--tell"]);
  expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining("--tell goes with --promote") });
});
