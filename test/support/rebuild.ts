/** Two versions of a tally, traffic on it, and the state that all of its events make. */
import { assign, setup } from "xstate";
import { type Client, defineActor, isKeyturnError } from "../../runtime/index.ts";

type Event = { type: "add"; by: number };

/** Adds up. */
export const tallyV1 = defineActor({
  type: "tally",
  machine: setup({ types: { context: {} as { sum: number }, events: {} as Event } }).createMachine({
    context: { sum: 0 },
    initial: "counting",
    states: {
      counting: {
        on: { add: { actions: assign({ sum: ({ context, event }) => context.sum + event.by }) } },
      },
    },
  }),
});

/** Counts the odd ones too, which nobody has done so far. In other states it cannot read what the first has stored. */
export function tallyV2(state = "counting") {
  return defineActor({
    type: "tally",
    version: 2,
    machine: setup({
      types: { context: {} as { sum: number; odd?: number }, events: {} as Event },
    }).createMachine({
      context: { sum: 0, odd: 0 },
      initial: state,
      states: {
        [state]: {
          on: {
            add: {
              actions: assign({
                sum: ({ context, event }) => context.sum + event.by,
                odd: ({ context, event }) => (context.odd ?? 0) + (event.by % 2),
              }),
            },
          },
        },
      },
    }),
  });
}

/** Sends events to random keys, each until it is applied, and keeps count of what they must make. */
export class Traffic {
  readonly expected = new Map<string, { sum: number; odd: number }>();
  readonly #keys: number;
  #seed: number;
  #stopped = false;
  sent = 0;

  constructor(keys: number, seed = 1) {
    this.#keys = keys;
    this.#seed = seed;
  }

  /** Sends some events, so many at once. */
  async send(client: Client, count: number, atOnce = 64): Promise<void> {
    let left = count;
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        while (left-- > 0 && !this.#stopped) await this.#one(client);
      }),
    );
  }

  /** Sends until it is told to stop; resolves when all is applied. */
  begin(client: Client, atOnce = 8): () => Promise<void> {
    const sending = this.send(client, Number.POSITIVE_INFINITY, atOnce);
    return async () => {
      this.#stopped = true;
      await sending;
      this.#stopped = false;
    };
  }

  async #one(client: Client): Promise<void> {
    this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) >>> 0;
    const key = `k${(this.#seed >>> 8) % this.#keys}`;
    const by = (this.#seed >>> 4) % 10;
    const ref = client.actor(`tally/${key}`);
    const requestId = `r${++this.sent}`;
    while (true) {
      try {
        await ref.send({ type: "add", by } as never, { requestId });
        break;
      } catch (error) {
        // Not promoted yet: nothing was applied.
        if (!isKeyturnError(error, "incompatible_snapshot")) throw error;
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    }
    const before = this.expected.get(key) ?? { sum: 0, odd: 0 };
    this.expected.set(key, { sum: before.sum + by, odd: before.odd + (by % 2) });
  }

  /** What every actor holds now. */
  async found(client: Client): Promise<Map<string, unknown>> {
    const found = new Map<string, unknown>();
    await Promise.all(
      [...this.expected.keys()].map(async (key) => {
        found.set(key, (await client.actor(`tally/${key}`).get()).context);
      }),
    );
    return new Map([...this.expected.keys()].map((key) => [key, found.get(key)]));
  }
}
