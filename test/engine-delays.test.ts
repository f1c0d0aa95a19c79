/** What becomes of delays that fell due while no node ran: fired late, set anew, or taken away, by the type's policy. */
import { assign, fromPromise, raise, sendParent, sendTo, setup } from "xstate";
import { describe, expect, it } from "vitest";
import { ask, type DelayPolicy, defineActor } from "../runtime/index.ts";
import type { Activation } from "../runtime/engine/activation.ts";
import { LIFE } from "../runtime/engine/life.ts";
import { MachineHost, type Timer, WORK } from "../runtime/engine/machine.ts";
import { packTimers, unpackTimer } from "../runtime/engine/record.ts";
import { isLapsed } from "../runtime/engine/resume.ts";
import { useHome } from "./embedded-home.ts";
import { startNode } from "../runtime/node.ts";
import { testRuntime } from "../runtime/testing/index.ts";
import { failure, type Rig, type RigOptions, rig } from "./support/probe.ts";

const MINUTE = 60_000;
/** After so long a killed node is missed, and the next one has its shards. */
const UP = 15_000;
const POLICIES = ["resume", "restart", "drop"] as const satisfies readonly DelayPolicy[];
const home = useHome();

const lodger = setup({ types: { events: {} as { type: "poked" } } }).createMachine({
  initial: "in",
  states: {
    in: {
      entry: sendParent({ type: "heard", what: "child's sendTo" }, { delay: 6 * MINUTE }),
      after: {
        [5 * MINUTE]: { target: "out", actions: sendParent({ type: "heard", what: "child's after" }) },
      },
    },
    out: {},
  },
});

type PatientEvent = { type: "wait" } | { type: "heard"; what: string } | { type: "stop" };

/** Waits in every way there is: for 2, 3, 4, 5 and 6 minutes. */
function patients(options: { delays?: DelayPolicy; expireAfter?: string; version?: number } = {}) {
  const runs: string[] = [];
  const patient = defineActor({
    type: "patient",
    machine: setup({
      types: { context: {} as { heard: readonly string[] }, events: {} as PatientEvent },
      actors: {
        lodger,
        work: fromPromise(() => {
          runs.push("work");
          return new Promise(() => undefined);
        }),
      },
    }).createMachine({
      context: { heard: [] },
      initial: "idle",
      states: {
        idle: { on: { wait: "waiting" } },
        waiting: {
          invoke: [{ src: "lodger" }, { src: "work" }],
          entry: [
            raise({ type: "heard", what: "raise" }, { delay: 3 * MINUTE }),
            sendTo(({ self }) => self, { type: "heard", what: "sendTo" }, { delay: 4 * MINUTE }),
          ],
          after: {
            [2 * MINUTE]: {
              actions: assign({ heard: ({ context }) => [...context.heard, "after"] }),
            },
          },
          on: { stop: "idle" },
        },
      },
      on: { heard: { actions: assign({ heard: ({ context, event }) => [...context.heard, event.what] }) } },
    }),
    ...options,
  });
  return { patient, runs };
}

type Patient = ReturnType<typeof patients>["patient"];
const ALL = ["after", "raise", "sendTo", "child's after", "child's sendTo"];

const heard = async (r: Rig, patient: Patient): Promise<readonly string[]> =>
  (await r.world.run(r.node.client.actor(patient, "a").get())).context.heard;

const timersOf = (r: Rig, id = "patient.a"): readonly Timer[] =>
  r.node.incarnation.engine.actors.get(id)?.committed.timers ?? [];

/** The waiting ones: without what is kept for work. */
const delaysOf = (r: Rig): (readonly [id: string, due: number])[] =>
  timersOf(r)
    .filter(({ event }) => event.type !== "xstate.keyturn.work")
    .map(({ id, due }) => [id, due] as const);

const typesOf = async (r: Rig, patient: Patient): Promise<string[]> => {
  const types: string[] = [];
  const reading = (async () => {
    for await (const { event } of r.node.client.actor(patient, "a").history()) types.push(event.type);
  })();
  await r.world.run(reading);
  return types.reverse();
};

/** Begins to wait, and dies. */
async function left(options: RigOptions & { patient: Patient; checkpoint?: boolean }): Promise<Rig> {
  const r = await rig({ ...options, actors: [options.patient] });
  await r.world.run(r.node.client.actor(options.patient, "a").send({ type: "wait" }));
  if (options.checkpoint === true) await r.world.run(r.node.checkpoint());
  r.node.kill();
  return r;
}

const next = ({ world, store }: Rig, patient: Patient, name = "n2", more: RigOptions = {}): Promise<Rig> =>
  rig({ world, store, actors: [patient], name, ...more });

describe("delays that fell due while no node ran", () => {
  it("XState #5331: fire from the old deadline, begin anew or go, as the type says, from the tail and from a snapshot", async () => {
    for (const checkpoint of [false, true]) {
      for (const delays of [undefined, ...POLICIES]) {
        const { patient } = patients(delays === undefined ? {} : { delays });
        const first = await left({ patient, checkpoint });
        await first.world.advance(60 * MINUTE);
        const r = await next(first, patient);
        await r.world.advance(UP);
        const late = delays === undefined || delays === "resume";
        expect(await heard(r, patient), delays).toEqual(late ? ALL : []);
        for (let minute = 1; minute <= 7; minute++) {
          await r.world.advance(MINUTE);
          const restarted = ALL.slice(0, Math.max(0, minute - 1));
          expect(await heard(r, patient), `${delays} ${minute}`).toEqual(
            late ? ALL : delays === "drop" ? [] : restarted,
          );
        }
        expect(delaysOf(r)).toEqual([]);
        expect((await r.world.run(r.node.client.actor(patient, "a").get())).value).toBe("waiting");
      }
    }
  });

  it("each is decided by a turn that the machine does not see and the history names", async () => {
    for (const [delays, type] of [
      ["restart", "xstate.keyturn.restarted"],
      ["drop", "xstate.keyturn.dropped"],
    ] as const) {
      const { patient } = patients({ delays });
      const first = await left({ patient });
      await first.world.advance(60 * MINUTE);
      const r = await next(first, patient);
      await r.world.advance(UP);
      expect(await typesOf(r, patient)).toEqual(["wait", ...ALL.map(() => type)]);
    }
  });

  it("are decided once: whoever takes over next finds the same timers", async () => {
    for (const delays of ["restart", "drop"] as const) {
      for (const checkpoint of [false, true]) {
        const { patient } = patients({ delays });
        const first = await left({ patient });
        await first.world.advance(60 * MINUTE);
        const second = await next(first, patient);
        await second.world.advance(UP);
        const decided = timersOf(second);
        expect(delaysOf(second)).toHaveLength(delays === "drop" ? 0 : ALL.length);
        if (checkpoint) await second.world.run(second.node.checkpoint());
        second.node.kill();
        const third = await next(second, patient, "n3");
        await heard(third, patient);
        expect(timersOf(third)).toEqual(decided);
        await third.world.advance(10 * MINUTE);
        expect(await heard(third, patient)).toEqual(delays === "drop" ? [] : ALL);
      }
    }
  });

  it("are decided anew where the decision was not committed", async () => {
    const { patient } = patients({ delays: "restart" });
    const first = await left({ patient });
    await first.world.advance(60 * MINUTE);
    first.store.appendGate.close();
    const starting = next(first, patient);
    await first.world.advance(UP);
    const second = await starting;
    second.node.kill();
    first.store.appendFaults.push("unknown-lost");
    first.store.appendGate.open();
    await first.world.advance(10 * MINUTE);
    const third = await next(second, patient, "n3");
    await third.world.advance(MINUTE);
    expect(await heard(third, patient)).toEqual([]);
    await third.world.advance(6 * MINUTE);
    expect(await heard(third, patient)).toEqual(ALL);
  });

  it("only those: what is overdue by less than a minute fires, what is not due yet keeps its deadline", async () => {
    for (const delays of POLICIES) {
      const { patient } = patients({ delays });
      const first = await left({ patient });
      await first.world.advance(2 * MINUTE + 30_000);
      const r = await next(first, patient);
      await r.world.advance(UP);
      expect(await heard(r, patient)).toEqual(["after"]);
      await r.world.advance(4 * MINUTE);
      expect(await heard(r, patient)).toEqual(ALL);
    }
  });

  it("a process that was suspended was not there either", async () => {
    for (const delays of POLICIES) {
      const { patient } = patients({ delays });
      const r = await rig({ actors: [patient] });
      await r.world.run(r.node.client.actor(patient, "a").send({ type: "wait" }));
      r.world.wall_ms += 60 * MINUTE;
      await r.world.advance(5_000);
      expect(await heard(r, patient)).toEqual(delays === "resume" ? ALL : []);
      expect(delaysOf(r)).toHaveLength(delays === "restart" ? ALL.length : 0);
    }
  });

  it("not those that only come late: a node was there, and is busy with a backlog", async () => {
    for (const delays of ["restart", "drop"] as const) {
      const { patient } = patients({ delays });
      const r = await rig({ actors: [patient] });
      for (const key of ["a", "b"])
        await r.world.run(r.node.client.actor(patient, key).send({ type: "wait" }));
      r.node.kill();
      await r.world.advance(2 * MINUTE + 30_000);
      // One actor every five minutes.
      const settings = { overdue_ms: 1_000, overduePerSecond: 1 / 300 };
      const second = await next(r, patient, "n2", { settings });
      await second.world.advance(11 * MINUTE);
      for (const key of ["a", "b"]) {
        const { context } = await second.world.run(second.node.client.actor(patient, key).get());
        expect(context.heard, `${delays} ${key}`).toEqual(ALL);
      }
    }
  });

  it("not those of a state that was left, nor of an actor that is gone", async () => {
    const { patient } = patients({ delays: "restart" });
    const first = await left({ patient });
    await first.world.advance(60 * MINUTE);
    const settings = { overduePerSecond: 1 / 300 };
    const r = await next(first, patient, "n2", { settings });
    // Before or after the decision: the message may come first.
    await r.world.run(r.node.client.actor(patient, "a").send({ type: "stop" }));
    await r.world.advance(20 * MINUTE);
    expect(await heard(r, patient)).not.toContain("after");
    expect(await heard(r, patient)).not.toContain("child's after");
    await r.world.run(r.node.client.actor(patient, "a").delete());
    expect(timersOf(r)).toEqual([]);
  });
});

describe("what is no delay is never held to the policy", () => {
  it("the actor's life and its work, beside delays", async () => {
    const { patient, runs } = patients({ delays: "drop", expireAfter: "2 hours" });
    const first = await left({ patient });
    expect(runs).toHaveLength(1);
    await first.world.advance(60 * MINUTE);
    const second = await next(first, patient);
    await second.world.advance(UP);
    // Run again, and the delays are gone.
    expect(runs).toHaveLength(2);
    expect(
      timersOf(second)
        .map(({ event }) => event.type)
        .sort(),
    ).toEqual(["xstate.keyturn.expire", "xstate.keyturn.work"]);
    second.node.kill();
    await second.world.advance(120 * MINUTE);
    const third = await next(second, patient, "n3");
    await third.world.advance(UP);
    expect((await third.world.run(third.node.client.actor(patient, "a").get())).turn).toBe(0);
  });

  it("retries of work", async () => {
    let runs = 0;
    const stubborn = defineActor({
      type: "stubborn",
      machine: setup({
        types: { events: {} as { type: "go" } },
        actors: {
          fail: fromPromise(() => (++runs < 3 ? Promise.reject(new Error("no")) : Promise.resolve())),
        },
      }).createMachine({
        initial: "idle",
        states: {
          idle: { on: { go: "busy" } },
          busy: { invoke: { src: "fail", onDone: "done", onError: "failed" } },
          done: {},
          failed: {},
        },
      }),
      invoke: { retry: { attempts: 5, first_ms: 10 * MINUTE, last_ms: 60 * MINUTE } },
      delays: "drop",
    });
    const first = await rig({ actors: [stubborn] });
    await first.world.run(first.node.client.actor(stubborn, "a").send({ type: "go" }));
    await first.world.advance(UP);
    expect(runs).toBe(1);
    first.node.kill();
    await first.world.advance(60 * MINUTE);
    const { world, store } = first;
    const second = await rig({ world, store, actors: [stubborn], name: "n2" });
    await world.advance(UP);
    expect(runs).toBe(2);
    await world.advance(30 * MINUTE);
    expect((await world.run(second.node.client.actor(stubborn, "a").get())).value).toBe("done");
  });

  it("the time-out of a question", async () => {
    const asker = defineActor({
      type: "asker",
      machine: setup({ types: { events: {} as { type: "go" } }, actors: { ask } }).createMachine({
        initial: "idle",
        states: {
          idle: { on: { go: "asking" } },
          asking: {
            invoke: {
              src: "ask",
              input: { to: "probe/silent", event: { type: "idle" }, timeout_ms: 10 * MINUTE },
              onDone: "answered",
              onError: "unanswered",
            },
          },
          answered: {},
          unanswered: {},
        },
      }),
      delays: "drop",
    });
    const host = new MachineHost("asker", asker.machine, new Map(), true);
    const { snapshot } = host.start("a", 1, 0);
    const { effects } = host.step(snapshot, { type: "go" }, [], 1, 0);
    const [timeout] = effects.timers as [Timer];
    expect(timeout).toMatchObject({ due: 10 * MINUTE, event: { type: "xstate.promise.reject" } });
    const now = 60 * MINUTE;
    const a = { hosted: { definition: asker }, shard: { watched_ms: now } } as unknown as Activation;
    expect(isLapsed(a, timeout, now)).toBe(false);
    expect(isLapsed(a, { ...timeout, event: { type: "tick" } }, now)).toBe(true);
    for (const of of [{ event: { type: WORK } }, { id: LIFE, source: "" }])
      expect(isLapsed(a, { ...timeout, event: { type: "tick" }, ...of }, now)).toBe(false);
  });
});

describe("a policy that is new", () => {
  it("restart: delays that do not say how long they are fire from the old deadline; those set since begin anew", async () => {
    const before = patients();
    const first = await left({ patient: before.patient });
    expect(packTimers(timersOf(first))).toEqual(packTimers([]));
    await first.world.advance(60 * MINUTE);
    const { patient } = patients({ delays: "restart" });
    const second = await next(first, patient);
    await second.world.advance(UP);
    expect(await heard(second, patient)).toEqual(ALL);
    const ref = second.node.client.actor(patient, "b");
    await second.world.run(ref.send({ type: "wait" }));
    second.node.kill();
    await second.world.advance(60 * MINUTE);
    const third = await next(second, patient, "n3");
    await third.world.advance(UP);
    expect((await third.world.run(third.node.client.actor(patient, "b").get())).context.heard).toEqual([]);
  });

  it("drop: needs to know nothing", async () => {
    const first = await left({ patient: patients().patient });
    await first.world.advance(60 * MINUTE);
    const { patient } = patients({ delays: "drop" });
    const second = await next(first, patient);
    await second.world.advance(10 * MINUTE);
    expect(await heard(second, patient)).toEqual([]);
  });

  it("delays that a new version's machine has begun say how long they are", async () => {
    const wait = (version: number) =>
      defineActor({
        type: "waiter",
        version,
        delays: "restart",
        machine: setup({ types: { events: {} as { type: "go" } } }).createMachine({
          initial: "idle",
          states: {
            idle: { on: { go: "waiting" } },
            waiting: version === 1 ? {} : { after: { [2 * MINUTE]: "over" } },
            over: {},
          },
        }),
      });
    const [one, two] = [wait(1), wait(2)];
    const first = await rig({ actors: [one] });
    const { world, store } = first;
    await world.run(first.node.client.actor(one, "a").send({ type: "go" }));
    await world.run(first.node.stop({ closeStore: false }));
    const second = await rig({ world, store, actors: [two], name: "n2" });
    await world.run(second.node.client.actor(two, "a").get());
    await world.advance(UP);
    second.node.kill();
    await world.advance(60 * MINUTE);
    const third = await rig({ world, store, actors: [two], name: "n3" });
    const ref = third.node.client.actor(two, "a");
    await world.advance(MINUTE);
    expect((await world.run(ref.get())).value).toBe("waiting");
    await world.advance(MINUTE + UP);
    expect((await world.run(ref.get())).value).toBe("over");
  });
});

it("a delay's length is stored for the types that begin delays anew, and for no others", async () => {
  const timer = { id: "x", due: 1_000, generation: 2, event: { type: "tick" } };
  const child = { ...timer, source: "x1.0", target: undefined };
  for (const one of [timer, child]) expect(unpackTimer(packTimers([one])[0] as never)).toEqual(one);
  expect(packTimers([timer, child]).map((packed) => packed.length)).toEqual([4, 6]);
  for (const one of [timer, child])
    expect(unpackTimer(packTimers([{ ...one, delay: 500 }])[0] as never)).toEqual({
      source: undefined,
      target: undefined,
      ...one,
      delay: 500,
    });
  for (const delays of POLICIES) {
    const { patient } = patients({ delays });
    const r = await rig({ actors: [patient] });
    await r.world.run(r.node.client.actor(patient, "a").send({ type: "wait" }));
    const lengths = timersOf(r)
      .flatMap(({ delay }) => (delay === undefined ? [] : [delay / MINUTE]))
      .sort();
    expect(lengths).toEqual(delays === "restart" ? [2, 3, 4, 5, 6] : []);
  }
});

it("in the test kit: t.downtime", async () => {
  for (const delays of POLICIES) {
    const sitter = defineActor({
      type: "sitter",
      machine: setup({ types: { events: {} as { type: "sit" } } }).createMachine({
        initial: "up",
        states: { up: { on: { sit: "down" } }, down: { after: { [5 * MINUTE]: "asleep" } }, asleep: {} },
      }),
      delays,
    });
    const t = await testRuntime({ actors: [sitter], nodes: 2 });
    const ref = t.client.actor(sitter, "a");
    const value = async () => (await ref.get()).value;
    await ref.send({ type: "sit" });
    const before = t.now();
    await t.downtime("1 hour");
    expect(t.now()).toBe(before + 60 * MINUTE);
    expect(await value()).toBe(delays === "resume" ? "asleep" : "down");
    await t.advance("4 minutes");
    expect(await value()).toBe(delays === "resume" ? "asleep" : "down");
    await t.advance("1 minute");
    expect(await value()).toBe(delays === "drop" ? "down" : "asleep");
    expect(t.reports).toEqual([]);
    await t.stop();
  }
});

it("on an embedded store, after a restart", async () => {
  const now = Date.now();
  for (const delays of ["restart", "drop"] as const) {
    const { patient } = patients({ delays });
    const first = await startNode({ actors: [patient], shards: 4, name: "n1", store: await home.open() });
    await first.client.actor(patient, delays).send({ type: "wait" });
    await first.stop();
    const { realWorld } = await import("../runtime/world.ts");
    // The same, an hour later.
    const clock = { ...realWorld.clock, now: () => Date.now() + 60 * MINUTE };
    const world = { ...realWorld, clock };
    const second = await startNode({
      actors: [patient],
      shards: 4,
      name: "n1",
      store: await home.open(),
      world,
    });
    const ref = second.client.actor(patient, delays);
    for await (const { turn } of ref.watch()) if (turn === 1 + ALL.length) break;
    expect((await ref.get()).context.heard).toEqual([]);
    const dues = (second.incarnation.engine.actors.get(`patient.${delays}`)?.committed.timers ?? []).filter(
      ({ due }) => due > now + 60 * MINUTE,
    );
    expect(dues).toHaveLength(delays === "drop" ? 0 : ALL.length);
    await second.stop();
  }
});

it("a word that is none is refused", async () => {
  for (const bad of ["resumed", "", 1, null, {}]) {
    const error = await failure(
      // @ts-expect-error such a policy does not compile either
      Promise.resolve().then(() => patients({ delays: bad })),
    );
    expect(error.code).toBe("invalid_options");
    expect(error.message).toContain('"restart"');
  }
});
