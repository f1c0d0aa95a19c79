/** The saga of the examples, whose node is killed or hands over at every step: its books balance all the same. */
import { afterEach, describe, expect, it } from "vitest";
import { flight, hotel, purse } from "../examples/saga/suppliers.ts";
import { PAUSE_MS, trip } from "../examples/saga/trip.ts";
import { type Client, type KeyturnNode, type MemoryStore, memory, startNode } from "../runtime/index.ts";
import { VirtualWorld } from "./support/virtual-world.ts";

const PLAN = { flight: "f", hotel: "h", purse: "p", people: 2, cents: 500 };
const SHARDS = 8;
/** Enough for a node to be found dead, and for what waits to be tried again. */
const LONG_MS = 30_000;
/** An undisturbed saga that takes more rounds of the event loop hangs. */
const ROUNDS = 2_000;

interface Stock {
  readonly seats: number;
  readonly beds: number;
  readonly cents: number;
}

const PLENTY: Stock = { seats: 2, beds: 5, cents: 500 };

interface Play {
  readonly stock: Stock;
  /** Each is sent when what went before has come to rest; the steps of the last are what is disturbed. */
  readonly events: readonly ("book" | "cancel")[];
  /** Is the hotel's office closed meanwhile? It opens when all has come to rest. */
  readonly closed?: boolean;
  readonly end: "booked" | "undone";
  readonly steps: readonly string[];
}

const taken = ["flight taken", "hotel taken", "purse taken"];
const plays: Record<string, Play> = {
  "one that succeeds": { stock: PLENTY, events: ["book"], end: "booked", steps: taken },
  "one refused by the flight": {
    stock: { ...PLENTY, seats: 1 },
    events: ["book"],
    end: "undone",
    steps: ["flight refused"],
  },
  "one refused by the hotel": {
    stock: { ...PLENTY, beds: 0 },
    events: ["book"],
    end: "undone",
    steps: ["flight taken", "hotel refused", "flight free"],
  },
  "one refused by the purse": {
    stock: { ...PLENTY, cents: 499 },
    events: ["book"],
    end: "undone",
    steps: ["flight taken", "hotel taken", "purse refused", "hotel free", "flight free"],
  },
  "one given back while the hotel is closed": {
    stock: PLENTY,
    events: ["book", "cancel"],
    closed: true,
    end: "undone",
    steps: [...taken, "purse free", "hotel free", "flight free"],
  },
};

const rounds = async (count: number): Promise<void> => {
  for (let n = 0; n < count; n++) await new Promise<void>((resolve) => setImmediate(resolve));
};

/** One saga on a store that loses what is not flushed when it crashes. */
class Rig {
  readonly world = new VirtualWorld();
  readonly store: MemoryStore = memory({ flushSoon: (flush) => this.world.defer(flush) });
  readonly play: Play;
  readonly nodes: KeyturnNode[] = [];

  constructor(play: Play) {
    this.play = play;
  }

  async start(name: string): Promise<KeyturnNode> {
    const { world, store } = this;
    const actors = [trip, flight, hotel, purse];
    const node = await world.run(startNode({ actors, world, store, name, shards: SHARDS }));
    this.nodes.push(node);
    return node;
  }

  /** Up to the event whose steps are disturbed. */
  async prepare({ client }: KeyturnNode): Promise<void> {
    const { world, play } = this;
    const { stock, events, closed } = play;
    const add = (amount: number) => ({ type: "add", amount }) as const;
    await world.run(client.actor(flight, "f").send(add(stock.seats)));
    await world.run(client.actor(hotel, "h").send(add(stock.beds)));
    await world.run(client.actor(purse, "p").send(add(stock.cents)));
    for (const [at] of events.slice(0, -1).entries()) {
      await world.run(this.send(client, at));
      await world.advance(1_000);
    }
    if (closed) await world.run(client.actor(hotel, "h").send({ type: "close" }));
    await world.settle();
  }

  /** As a client that repeats it until it is answered: always the same request. */
  async send(client: Client, at = this.play.events.length - 1): Promise<void> {
    const type = this.play.events[at];
    const event = type === "cancel" ? { type } : ({ type: "book", plan: PLAN } as const);
    await client.actor(trip, "t").send(event, { requestId: `event ${at}` });
  }

  /** Lets all come to rest, and looks at the books. */
  async audit({ client }: KeyturnNode): Promise<unknown> {
    const { world, play } = this;
    await world.run(this.send(client));
    await world.advance(LONG_MS);
    if (play.closed) {
      const { value } = await world.run(client.actor(trip, "t").get());
      expect(value).toHaveProperty("undoing hotel");
      await world.run(client.actor(hotel, "h").send({ type: "open" }));
      await world.advance(PAUSE_MS + LONG_MS);
    }
    const { value, context } = await world.run(client.actor(trip, "t").get());
    const shelf = async (definition: typeof flight | typeof hotel | typeof purse, key: string) =>
      (await world.run(client.actor(definition as typeof flight, key).get())).context;
    return {
      value,
      steps: context.steps,
      books: [await shelf(flight, "f"), await shelf(hotel, "h"), await shelf(purse, "p")],
    };
  }

  /** What the audit must find. */
  get balanced(): unknown {
    const { stock, end, steps } = this.play;
    const book = (there: number, amount: number) =>
      end === "booked" ? { left: there - amount, taken: { t: amount } } : { left: there, taken: {} };
    const { people, cents } = PLAN;
    return {
      value: end,
      steps,
      books: [book(stock.seats, people), book(stock.beds, people), book(stock.cents, cents)],
    };
  }

  async end(): Promise<void> {
    for (const node of this.nodes) node.kill();
    await this.world.settle();
  }
}

/** Rounds of the event loop from the event to where an undisturbed saga comes to rest. */
async function undisturbed(play: Play): Promise<number> {
  const rig = new Rig(play);
  const node = await rig.start("n1");
  await rig.prepare(node);
  const rest = new AbortController();
  let count = 0;
  const watched = (async () => {
    for await (const { value, tags } of node.client.actor(trip, "t").watch({ signal: rest.signal })) {
      const waits = typeof value === "object" && Object.values(value)[0] === "waiting";
      if (count > 0 && (waits || tags?.includes("over"))) rest.abort();
    }
  })();
  await rig.world.settle();
  const sent = rig.send(node.client);
  for (; !rest.signal.aborted && count < ROUNDS; ) {
    count++;
    await rounds(1);
  }
  await Promise.all([sent, watched]);
  expect(count).toBeLessThan(ROUNDS);
  expect(await rig.audit(node)).toEqual(rig.balanced);
  await rig.end();
  return count;
}

describe.each(Object.entries(plays))("a saga, %s", (_, play) => {
  const rigs: Rig[] = [];
  const rigOf = (): Rig => {
    const rig = new Rig(play);
    rigs.push(rig);
    return rig;
  };
  afterEach(async () => {
    for (const rig of rigs.splice(0)) await rig.end();
  });

  it("balances when node and store are killed at any moment", { timeout: 120_000 }, async () => {
    const last = await undisturbed(play);
    for (let moment = 0; moment <= last; moment++) {
      const rig = rigOf();
      const first = await rig.start("n1");
      await rig.prepare(first);
      rig.send(first.client).catch(() => undefined);
      await rounds(moment);
      first.kill();
      // Of what was being written, now nothing, now the first write has reached the disk.
      rig.store.crash(moment % 2);
      const second = await rig.start("n2");
      await rig.world.advance(LONG_MS);
      expect(await rig.audit(second), `killed after ${moment} of ${last} rounds`).toEqual(rig.balanced);
      await rig.end();
    }
  });

  it("balances when it is handed over at any moment", { timeout: 120_000 }, async () => {
    const last = await undisturbed(play);
    for (let moment = 0; moment <= last; moment++) {
      const rig = rigOf();
      const first = await rig.start("n1");
      await rig.prepare(first);
      rig.send(first.client).catch(() => undefined);
      await rounds(moment);
      // Some actors move when a node joins, the others when the first one leaves.
      const second = await rig.start("n2");
      await rounds(moment % 7);
      await rig.world.run(first.stop({ closeStore: false }));
      expect(await rig.audit(second), `handed over after ${moment} of ${last} rounds`).toEqual(rig.balanced);
      await rig.end();
    }
  });
});
