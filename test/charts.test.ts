/** Statecharts as data, over HTTP; and the protocol of Stately's inspector. */
import { expect, it } from "vitest";
import { defineActor } from "keyturn";
import { and, assign, createMachine, fromPromise, not, setup, spawnChild, stateIn } from "xstate";
import { counter } from "../actors/index.ts";
import { chartOf, configText } from "../runtime/engine/machine/chart.ts";
import type { ChartState } from "../runtime/words/chart.ts";
import { ask, expectProblem, Listener, served } from "./support/http.ts";
import { order } from "./support/tracked-order.ts";

const machine = setup({
  types: { context: {} as { n: number } },
  guards: { isReady: () => true },
  delays: { soon: 5 },
  actions: { note: () => undefined },
  actors: { load: fromPromise(async () => 1) },
}).createMachine({
  id: "all",
  initial: "a",
  context: { n: 0 },
  on: { reset: { target: ".a", description: "Begins again." } },
  states: {
    a: {
      tags: ["first"],
      entry: ["note", assign({ n: 1 })],
      exit: "note",
      on: {
        go: [
          { guard: and(["isReady", not("isReady")]), target: "b", actions: "note" },
          { guard: () => true, target: "#old" },
        ],
        "mouse.*": { actions: () => undefined },
      },
      after: { soon: "b", 100: { target: "b", guard: stateIn({ a: {} }) } },
    },
    b: {
      type: "parallel",
      states: {
        r: {
          initial: "r1",
          states: { r1: { always: { guard: "isReady", target: "r2" } }, r2: { type: "final" } },
        },
        s: {},
      },
      onDone: "c",
    },
    c: { invoke: { id: "job", src: "load", onDone: "d", onError: { target: "a", reenter: true } } },
    d: {
      initial: "d1",
      states: { d1: {}, h: { id: "old", type: "history", history: "deep", target: "d1" } },
      invoke: { src: fromPromise(async () => 1) },
    },
  },
});

function find(chart: ChartState, id: string): ChartState {
  const all = (state: ChartState): ChartState[] => [state, ...state.states.flatMap(all)];
  return all(chart).find((one) => one.id === id) as ChartState;
}

it("a chart has the states of its machine, and what leads from each to others", () => {
  const chart = chartOf(machine);
  expect(chart.states.map(({ key, type }) => `${key} ${type}`)).toEqual([
    "a atomic",
    "b parallel",
    "c atomic",
    "d compound",
  ]);
  expect(chart).toMatchObject({ id: "all", type: "compound", initial: "all.a", path: [] });
  expect(chart.transitions).toEqual([
    {
      trigger: "event",
      event: "reset",
      targets: ["all.a"],
      actions: [],
      reenter: false,
      description: "Begins again.",
    },
  ]);
  const a = find(chart, "all.a");
  // XState's own actions that begin and end the delays are none of the author's.
  expect([a.entry, a.exit, a.tags]).toEqual([["note", "assign"], ["note"], ["first"]]);
  expect(a.transitions).toMatchObject([
    { event: "go", guard: "and(isReady, not(isReady))", targets: ["all.b"], actions: ["note"] },
    { event: "go", guard: "inline", targets: ["old"] },
    { event: "mouse.*", targets: [], actions: ["inline"] },
    { trigger: "after", delay: 100, guard: 'stateIn({"a":{}})', targets: ["all.b"] },
    { trigger: "after", delay: "soon", targets: ["all.b"] },
  ]);
  expect(find(chart, "all.b").transitions).toMatchObject([
    { trigger: "done", event: "", targets: ["all.c"] },
  ]);
  expect(find(chart, "all.b.r.r1").transitions).toMatchObject([{ trigger: "always", guard: "isReady" }]);
  expect(find(chart, "all.b.r.r2").type).toBe("final");
  expect(find(chart, "all.c")).toMatchObject({
    invoke: [{ id: "job", src: "load" }],
    transitions: [
      { trigger: "done", event: "job", targets: ["all.d"] },
      { trigger: "error", event: "job", targets: ["all.a"], reenter: true },
    ],
  });
  expect(find(chart, "old")).toMatchObject({
    type: "history",
    history: "deep",
    path: ["d", "h"],
    transitions: [{ targets: ["all.d.d1"] }],
  });
  expect(find(chart, "all.d").invoke).toMatchObject([{ src: "inline" }]);
  expect(JSON.parse(JSON.stringify(chart))).toEqual(chart);
});

it("every type is described, with the schema of its events if it has one", async () => {
  const { call } = await served([order, counter]);
  const { body } = await call("GET", "/types/order");
  expect(body).toMatchObject({ type: "order", version: 1, index: ["customer"] });
  expect(body.events).toContain("scan");
  expect(body.chart).toEqual(chartOf(order.machine));
  const named = [...(body.eventSchema.oneOf ?? body.eventSchema.anyOf)].map(
    (one: { properties: { type: { const: string } } }) => one.properties.type.const,
  );
  expect(named).toContain("cancel");
  expect((await call("GET", "/types/counter")).body.chart.states).toHaveLength(2);
  expectProblem(await call("GET", "/types/none"), 404, "unknown_type");
  expectProblem(await call("GET", "/types/order?x=1"), 400, "invalid_options");
});

it("the machines that a machine invokes and spawns are described too, each once, also those without a name", async () => {
  const leaf = setup({}).createMachine({ id: "leaf", initial: "green", states: { green: {}, red: {} } });
  const tree = setup({
    actors: { leaf, load: fromPromise(async () => 1) },
  }).createMachine({
    id: "tree",
    initial: "small",
    states: { small: { invoke: [{ src: "leaf" }, { src: "load" }] }, tall: {} },
  });
  const wood = createMachine({
    id: "wood",
    initial: "here",
    states: {
      here: { invoke: [{ src: tree }, { src: leaf }] },
      gone: { entry: spawnChild(leaf) },
    },
  });
  const bush = setup({}).createMachine({ id: "bush" });
  const { call } = await served([
    defineActor({ type: "wood", machine: wood, children: { bush } }),
    defineActor({ type: "bush", machine: bush }),
  ]);
  const { chart, machines } = (await call("GET", "/types/wood")).body;
  const keys = machines.map((one: { chart: ChartState }) => one.chart.key);
  expect([...keys].sort()).toEqual(["bush", "leaf", "tree", "wood"]);
  expect(machines[0].chart).toEqual(chart);
  expect(machines[0].actors).toEqual({
    "xstate.invoke.0.wood.here": keys.indexOf("tree"),
    "xstate.invoke.1.wood.here": keys.indexOf("leaf"),
    "spawn.wood.gone.entry.0": keys.indexOf("leaf"),
    bush: keys.indexOf("bush"),
  });
  expect(machines[keys.indexOf("tree")].actors).toEqual({
    leaf: keys.indexOf("leaf"),
    bush: keys.indexOf("bush"),
  });
  expect((await call("GET", "/types/bush")).body).not.toHaveProperty("machines");
});

it("a chart is told to who may know of types, and to nobody else", async () => {
  const { call } = await served([order], {
    authorize: ({ action, type }) => action === "types" && type === "other",
  });
  expectProblem(await call("GET", "/types/order"), 403, "access_denied");
  expectProblem(await call("GET", "/actors/order/1/inspect"), 403, "access_denied");
});

it("an inspector is told of the machine, of some of the past, and of every turn that comes", async () => {
  const { server, node } = await served([counter]);
  const ref = node.client.actor(counter, "seen");
  for (let by = 1; by <= 4; by++) await ref.send({ type: "add", by });
  const listener = await Listener.open(server.url, "/actors/counter/seen/inspect?turns=2");
  // biome-ignore lint/suspicious/noExplicitAny: JSON of the protocol
  const next = async (): Promise<any> => (await listener.next())?.data;
  const common = { sessionId: "counter/seen", rootId: "counter/seen", _version: expect.any(String) };
  const first = await next();
  expect(first).toMatchObject({ type: "@xstate.actor", ...common, snapshot: { status: "active" } });
  expect(first.definition).toBe(configText(counter.machine));
  expect(JSON.parse(first.definition).states).toHaveProperty("on");
  for (const [by, count] of [
    [3, 6],
    [4, 10],
  ]) {
    expect(await next()).toMatchObject({ type: "@xstate.event", ...common, event: { type: "add", by } });
    expect(await next()).toMatchObject({
      type: "@xstate.snapshot",
      ...common,
      event: { type: "add", by },
      snapshot: { status: "active", value: "on", context: { count } },
    });
  }
  await Promise.all([5, 6, 7].map((by) => ref.send({ type: "add", by })));
  for (const by of [5, 6, 7]) {
    expect(await next()).toMatchObject({ type: "@xstate.event", event: { by } });
    expect(await next()).toMatchObject({ type: "@xstate.snapshot" });
  }
  await ref.delete();
  await ref.send({ type: "add", by: 8 });
  let told = await next();
  while (told.type !== "@xstate.event") told = await next();
  expect(told).toMatchObject({ event: { by: 8 } });
  listener.leave();
});

it("an inspector's question is checked", async () => {
  const { server } = await served([counter]);
  expectProblem(await ask(server.url, "GET", "/actors/counter/a/inspect?turns=0"), 400, "invalid_options");
  expectProblem(await ask(server.url, "GET", "/actors/none/a/inspect"), 404, "unknown_type");
});
