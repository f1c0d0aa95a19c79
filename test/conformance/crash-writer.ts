/**
 * A process that appends and writes snapshots to an embedded store until it is killed, and prints what it was told.
 *
 * Each line is printed after the store has answered, so whatever is on stdout has to be in the store afterwards.
 * Arguments: the store's folder, its durability, a name for the lanes of this life.
 */
import { writeSync } from "node:fs";
import type { Durability } from "../../runtime/ports/index.ts";
import { embedded } from "../../runtime/stores/embedded/index.ts";

const [path = "", durability = "fsync", life = "life"] = process.argv.slice(2);
const store = await embedded({ path, durability: durability as Durability });

async function appends(lane: string): Promise<void> {
  let last = await store.journal.last(lane);
  for (let n = 0; ; n++) {
    const text = `${lane}/${n}/${"x".repeat((n * 997) % 20_000)}`;
    const result = await store.journal.append(lane, last, Buffer.from(text));
    if (result.kind !== "committed") throw new Error(`The append is ${result.kind}`);
    last = result.seq;
    writeSync(1, `append ${lane} ${last} ${n}\n`);
  }
}

async function snapshots(id: string): Promise<void> {
  const [entry] = await store.snapshots.read([id]);
  let revision = entry?.revision ?? 0;
  for (let n = 0; ; n++) {
    const write = { id, shard: 1, value: Buffer.from(`${id}/${n}`), expected: revision, due: n };
    const [answer] = await store.snapshots.write([write]);
    if (answer === undefined) throw new Error("The write conflicts");
    revision = answer;
    writeSync(1, `snapshot ${id} ${revision} ${n}\n`);
  }
}

await Promise.all([appends(`${life}a`), appends(`${life}b`), snapshots("t.one"), snapshots(`t.${life}`)]);
