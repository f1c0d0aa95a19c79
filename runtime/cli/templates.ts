/**
 * The project that `keyturn new` makes: its files, as text.
 *
 * Owns nothing but the texts. They are a program of a user's, and are tested as one.
 */

export interface ProjectOptions {
  /** Name of the package. */
  readonly name: string;
  /** What package.json says of keyturn. */
  readonly keyturn: string;
  readonly xstate: string;
  readonly zod: string;
  readonly vitest: string;
  readonly typescript: string;
  /** Of @types/node. */
  readonly types: string;
  /** Versions that npm is to take of packages that others ask for. */
  readonly overrides?: Readonly<Record<string, string>> | undefined;
  /** The server's configuration, as it is shipped. */
  readonly natsConf: string;
}

/** The files by path. */
export function projectFiles(options: ProjectOptions): Readonly<Record<string, string>> {
  const { name, keyturn, xstate, zod, vitest, typescript, types, overrides, natsConf } = options;
  const manifest = {
    name,
    version: "0.0.0",
    private: true,
    type: "module",
    engines: { node: ">=20.19" },
    scripts: {
      dev: "keyturn dev --actors ./src/actors.ts",
      start: "keyturn start --nats 127.0.0.1:4222 --monitor http://127.0.0.1:8222 --actors ./src/actors.ts",
      test: "vitest run",
      types: "tsc --noEmit",
    },
    dependencies: { keyturn, xstate, zod },
    devDependencies: { "@types/node": types, typescript, vitest },
    ...(overrides === undefined ? {} : { overrides }),
    // Both bring what their scripts would build; without a word on it npm warns at each install.
    allowScripts: { lmdb: false, "msgpackr-extract": false },
  };
  return {
    "package.json": `${JSON.stringify(manifest, null, 2)}\n`,
    ...(keyturn.startsWith("file:") ? { ".npmrc": NPMRC } : {}),
    "tsconfig.json": TSCONFIG,
    "vitest.config.ts": VITEST,
    ".gitignore": "node_modules/\n.keyturn/\ndata/\n",
    "nats.conf": natsConf,
    "src/actors.ts": ACTORS,
    "src/order.ts": ORDER,
    "test/order.test.ts": TEST,
    "README.md": README.replaceAll("$NAME", name),
  };
}

const TSCONFIG = `{
  "compilerOptions": {
    "target": "es2023",
    "lib": ["es2023"],
    "types": ["node"],
    "module": "nodenext",
    "strict": true,
    "noEmit": true,
    "allowImportingTsExtensions": true,
    "skipLibCheck": true
  },
  "include": ["src", "test"]
}
`;

const NPMRC = `# Copies a keyturn that is a folder in here, instead of linking to it: then both have the same xstate.
# After a change over there: remove node_modules/keyturn, then npm install.
install-links=true
`;

const VITEST = `import { defineConfig } from "vitest/config";

export default defineConfig({ test: { include: ["test/**/*.test.ts"] } });
`;

const ACTORS = `/** What this app's nodes host: everything that defineActor returns and that is exported here. */
export { order } from "./order.ts";
`;

const ORDER = `/** An order: it is filled, waits for its payment, and is forgotten if none comes. */
import { defineActor, reply } from "keyturn";
import { assign, setup } from "xstate";
import { z } from "zod";

/** What may come from outside: the rest is refused, and the dashboard makes forms of it. */
const events = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("add"), item: z.string().min(1), price: z.number().nonnegative() }),
  z.strictObject({ type: z.literal("place") }),
  z.strictObject({ type: z.literal("pay"), amount: z.number().positive() }),
]);

export type OrderEvent = z.infer<typeof events>;

export interface OrderContext {
  readonly items: readonly string[];
  readonly total: number;
}

export const order = defineActor({
  type: "order",
  /** What keyturn find --where may look at. */
  index: ["total"],
  events,
  machine: setup({
    types: { context: {} as OrderContext, events: {} as OrderEvent },
    guards: {
      isEnough: ({ context, event }) => event.type === "pay" && event.amount >= context.total,
      isFilled: ({ context }) => context.items.length > 0,
    },
    // It survives restarts and moves between nodes, like everything else here.
    delays: { patience: 3 * 24 * 60 * 60 * 1_000 },
  }).createMachine({
    context: { items: [], total: 0 },
    initial: "open",
    states: {
      open: {
        on: {
          add: {
            actions: [
              assign({
                items: ({ context, event }) => [...context.items, event.item],
                total: ({ context, event }) => context.total + event.price,
              }),
              reply(({ context }) => ({ items: context.items.length, total: context.total })),
            ],
          },
          place: { target: "waiting", guard: "isFilled" },
        },
      },
      waiting: {
        initial: "payment",
        states: { payment: {} },
        on: { pay: { target: "paid", guard: "isEnough", actions: reply("thank you") } },
        after: { patience: "expired" },
      },
      paid: { type: "final" },
      expired: { type: "final" },
    },
  }),
});
`;

const TEST = `/** The order, on the real engine, with a disk, a network and a clock that are simulated. */
import { spec, testRuntime } from "keyturn/testing";
import { describe, expect, it } from "vitest";
import { order } from "../src/order.ts";

describe("an order", () => {
  it("adds up, survives a crash, and is paid", async () => {
    const t = await testRuntime({ actors: [order] });
    const tea = t.client.actor(order, "42");
    expect(await tea.ask({ type: "add", item: "tea", price: 7 })).toEqual({ items: 1, total: 7 });
    await t.crash();
    await tea.send({ type: "place" });
    expect(await tea.ask({ type: "pay", amount: 7 })).toBe("thank you");
    expect((await tea.get()).value).toBe("paid");
    await t.stop();
  });

  it("takes nothing without a price", async () => {
    const t = await testRuntime({ actors: [order] });
    const wrong = t.client.actor("order/42").send({ type: "add", item: "tea" });
    await expect(wrong).rejects.toMatchObject({ code: "invalid_event", outcome: "rejected" });
    await t.stop();
  });

  it("expires without a payment", async () => {
    await spec(order)
      .given({ type: "add", item: "tea", price: 7 }, { type: "place" })
      .when("3 days")
      .then({ value: "expired" });
  });

  it("is not paid with too little", async () => {
    await spec(order)
      .given({ type: "add", item: "tea", price: 7 }, { type: "place" })
      .when({ type: "pay", amount: 6 })
      .then({ value: { waiting: "payment" } });
  });
});
`;

const README = `# $NAME

Durable actors on Keyturn: every key is an actor, every actor a state machine,
every answered turn is kept.

\`\`\`sh
npm install
npm test            # the order, on the real engine, in virtual time
npm run dev         # a node here, without a server; the actors are loaded again when a file changes
\`\`\`

In another terminal:

\`\`\`sh
npx keyturn ask order/42 add item=tea price=7
npx keyturn send order/42 place
npx keyturn get order/42
npx keyturn history order/42
npx keyturn timers order/42
npx keyturn find order --where 'total>=5'
npx keyturn ask order/42 pay amount=7
\`\`\`

Stop it, start it again: the order is as it was. What it keeps is in \`.keyturn\`.

## On many nodes

\`\`\`sh
nats-server -c nats.conf
npm start                                             # in as many terminals and machines as you like
npx keyturn ask order/42 add item=tea price=7 --nats 127.0.0.1:4222
npx keyturn doctor --nats 127.0.0.1:4222
\`\`\`

- \`src/order.ts\`: an actor. \`src/actors.ts\`: what nodes host.
- \`test/order.test.ts\`: its tests.
- \`nats.conf\`: the server's configuration.
`;
