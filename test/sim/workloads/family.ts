/**
 * Families: actors with an invoked child, spawned children that are kept in context by reference, a grandchild,
 * displaced children, and timers of children. What children hold is what acknowledged requests put there, wherever the actor has been since.
 */
import { type ActorRefFrom, assign, sendParent, sendTo, setup, stopChild } from "xstate";
import { defineActor } from "../../../runtime/engine/definition.ts";
import { insist, resultOf, type Workload } from "../../../runtime/testing/simulator/index.ts";

/** Counts, and says so to its parent. */
const tally = setup({
  types: { context: {} as { names: string[] }, events: {} as { type: "add"; name: string } },
}).createMachine({
  context: { names: [] },
  on: {
    add: {
      actions: [
        assign({ names: ({ context, event }) => [...context.names, event.name] }),
        sendParent(({ event }) => ({ type: "added", name: event.name })),
      ],
    },
  },
});

/** Burns down by itself, once; its own child counts the embers. */
const candle = setup({
  types: {
    context: {} as { name: string; glow: number; long: number },
    input: {} as { name: string; glow: number; long: number },
    events: {} as { type: "added"; name: string },
  },
  actors: { tally },
  delays: { glow: ({ context }) => context.glow, long: ({ context }) => context.long },
}).createMachine({
  context: ({ input }) => input,
  invoke: { id: "embers", src: "tally" },
  initial: "glowing",
  on: { added: {} },
  states: {
    glowing: {
      after: {
        glow: {
          target: "burning",
          actions: sendTo("embers", ({ context }) => ({ type: "add" as const, name: context.name })),
        },
      },
    },
    burning: { after: { long: "out" } },
    out: { type: "final", entry: sendParent(({ context }) => ({ type: "burnt", name: context.name })) },
  },
});

type TallyRef = ActorRefFrom<typeof tally>;

type HouseEvent =
  | { type: "main"; name: string }
  | { type: "room"; room: string; name: string }
  | { type: "light"; name: string; glow: number; long: number }
  | { type: "raze"; room: string }
  | { type: "bad"; name: string }
  | { type: "added"; name: string }
  | { type: "burnt"; name: string };

const house = setup({
  types: {
    context: {} as { rooms: Record<string, TallyRef>; heard: string[]; burnt: string[]; lit: number },
    events: {} as HouseEvent,
  },
  actors: { tally, candle },
}).createMachine({
  context: { rooms: {}, heard: [], burnt: [], lit: 0 },
  invoke: { id: "main", src: "tally" },
  on: {
    main: { actions: sendTo("main", ({ event }) => ({ type: "add" as const, name: event.name })) },
    room: {
      actions: [
        assign({
          rooms: ({ context, event, spawn }) =>
            context.rooms[event.room] === undefined
              ? { ...context.rooms, [event.room]: spawn("tally", { id: event.room }) }
              : context.rooms,
        }),
        sendTo(
          ({ context, event }) => context.rooms[event.room] as TallyRef,
          ({ event }) => ({ type: "add" as const, name: event.name }),
        ),
      ],
    },
    raze: {
      actions: [
        stopChild(({ event }) => event.room),
        assign({
          rooms: ({ context, event }) =>
            Object.fromEntries(Object.entries(context.rooms).filter(([room]) => room !== event.room)),
        }),
      ],
    },
    light: {
      actions: assign({
        lit: ({ context, event, spawn }) => {
          const { name, glow, long } = event;
          // Some have one id: those before burn on, though their parent's children do not have them.
          spawn("candle", { id: /[0369]$/.test(name) ? "shared" : name, input: { name, glow, long } });
          return context.lit + 1;
        },
      }),
    },
    // Fails after a child has taken its event: the turn is refused, and the child is as it was.
    bad: {
      actions: [
        sendTo("main", ({ event }) => ({ type: "add" as const, name: event.name })),
        assign({
          heard: ({ event }) => {
            throw new Error(`no ${event.name}`);
          },
        }),
      ],
    },
    added: { actions: assign({ heard: ({ context, event }) => [...context.heard, event.name] }) },
    burnt: { actions: assign({ burnt: ({ context, event }) => [...context.burnt, event.name] }) },
  },
});

const home = defineActor({ type: "simHome", machine: house });

interface Done {
  readonly key: string;
  readonly name: string;
  readonly type: HouseEvent["type"];
  outcome: "ok" | "failed" | "unknown";
}

export const familyWorkload: Workload = {
  name: "family",
  actors: [home],
  begin(context) {
    const { random } = context;
    const keys = Array.from({ length: random.whole(1, 6) }, (_, at) => `h${at}`);
    const made: Done[] = [];
    const violations: string[] = [];
    const draw = (name: string): HouseEvent => {
      const dice = random.next();
      if (dice < 0.3) return { type: "main", name };
      if (dice < 0.6) return { type: "room", room: `r${random.below(3)}`, name };
      if (dice < 0.65) return { type: "raze", room: `r${random.below(3)}` };
      if (dice < 0.75) return { type: "bad", name };
      return {
        type: "light",
        name,
        glow: Math.round(random.logarithmic(1, 2_000)),
        long: random.chance(0.2) ? random.whole(100_000, 900_000) : Math.round(random.logarithmic(1, 2_000)),
      };
    };
    const process = (client: number) => async (): Promise<void> => {
      const refs = context.clients[client % context.clients.length];
      for (let at = 0; refs !== undefined && at < context.requests && !context.ending; at++) {
        const key = random.pick(keys);
        const event = draw(`p${client}.${at}`);
        const done: Done = { key, name: `p${client}.${at}`, type: event.type, outcome: "unknown" };
        made.push(done);
        const result = await resultOf(
          refs.actor(home, key).send(event, { timeout_ms: context.timeout_ms() }),
        );
        done.outcome = result.outcome;
        if (event.type === "bad" && result.outcome === "ok") violations.push(`${done.name} was not refused`);
        if (random.chance(0.4)) await context.sleep(random.logarithmic(0.1, 500));
      }
    };
    const judge = (key: string, state: HomeState): void => {
      const { children = {}, context: own } = state;
      const namesOf = (path: string): string[] =>
        (children[path]?.context as { names: string[] } | undefined)?.names ?? [];
      const main = namesOf("main");
      const rooms = Object.keys(own.rooms);
      for (const room of rooms)
        if (children[room] === undefined)
          violations.push(`${key} refers to room ${room}, which is not there`);
      const inRooms = rooms.flatMap(namesOf);
      for (const done of made) {
        if (done.key !== key || done.type === "raze") continue;
        const heard = own.heard.filter((name) => name === done.name).length;
        const burnt = own.burnt.filter((name) => name === done.name).length;
        const times = done.type === "light" ? burnt : heard;
        const what = `${done.type} ${done.name} of ${key} (${done.outcome})`;
        if (times > 1) violations.push(`${what} was applied ${times} times`);
        if (times === 0 && done.outcome === "ok") violations.push(`${what} was lost`);
        if (times > 0 && (done.outcome === "failed" || done.type === "bad"))
          violations.push(`${what} was applied`);
        if (main.filter((name) => name === done.name).length !== (done.type === "main" ? times : 0))
          violations.push(`${what}: its child holds ${main.join(", ")}`);
        if (inRooms.filter((name) => name === done.name).length > (done.type === "room" ? times : 0))
          violations.push(`${what}: rooms hold ${inRooms.join(", ")}`);
      }
      if (own.lit !== own.burnt.length)
        violations.push(`${key} lit ${own.lit} candles, ${own.burnt.length} burnt down`);
    };
    return {
      processes: Array.from({ length: random.whole(1, 3) }, (_, at) => process(at)),
      async finish() {
        for (const key of keys) {
          const state = await insist(context, () => context.observer.actor(home, key).get());
          judge(key, state as unknown as HomeState);
        }
      },
      check: () => violations,
    };
  },
};

interface HomeState {
  readonly context: {
    readonly rooms: object;
    readonly heard: string[];
    readonly burnt: string[];
    readonly lit: number;
  };
  readonly children?: Readonly<Record<string, { readonly status: string; readonly context?: unknown }>>;
}
