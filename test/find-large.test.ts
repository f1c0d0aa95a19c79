/** Questions that look at very many actors: others have their turn meanwhile. */
import { type KeyturnNode, memory, startNode } from "keyturn";
import { afterAll, beforeAll, expect, it } from "vitest";
import { collected } from "./support/collected.ts";
import { parcel } from "./support/parcels.ts";

const ACTORS = 66_000;
/** Rows that are looked at between two breaths. */
const LOOKS = 16_384;

let node: KeyturnNode;

beforeAll(async () => {
  node = await startNode({ actors: [parcel], store: memory(), shards: 64 });
  for (let at = 0; at < ACTORS; at += 6_000)
    await Promise.all(
      Array.from({ length: 6_000 }, (_, n) =>
        node.client.actor(parcel, `p${at + n}`).send({ type: "pack", owner: "ada", weight: n }),
      ),
    );
  // From here on all rows are there, and sorted.
  expect((await node.client.count(parcel, { where: { weight: { gte: 0 } } })).total).toBe(ACTORS);
}, 120_000);

afterAll(() => node.stop());

/** How often others had their turn in between. */
async function breathsOf(work: () => Promise<unknown>): Promise<number> {
  const { engine } = node.incarnation;
  const { breathe } = engine;
  let breaths = 0;
  engine.breathe = () => {
    breaths++;
    return breathe.call(engine);
  };
  await work();
  engine.breathe = breathe;
  return breaths;
}

const find = (query: object): Promise<unknown[]> => collected(node.client.find(parcel, query));

it("one that fits nobody looks at all of them, in parts", async () => {
  const all = await breathsOf(async () => expect(await find({ where: { weight: -1 } })).toEqual([]));
  expect(all).toBeGreaterThanOrEqual(Math.floor(ACTORS / LOOKS / 2));
});

it("where the counts say that there is none, none is looked for", async () => {
  const where = { weight: { gte: 0 } };
  for (const query of [{ state: "under way" }, { status: "done" }] as const) {
    const none = await breathsOf(async () => expect(await find({ ...query, where })).toEqual([]));
    // What was looked at before counts.
    expect(none).toBeLessThanOrEqual(1);
    expect(await node.client.count(parcel, { ...query, where })).toEqual({ total: 0, states: {} });
  }
  await node.client.actor(parcel, "p77").send({ type: "send" });
  expect(await find({ state: "under way", where })).toMatchObject([{ key: "p77" }]);
});
