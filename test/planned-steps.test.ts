/** Planned steps beside XState's own: random machines and events, step by step, and what is left to XState. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  and,
  type AnyActorRef,
  assign,
  cancel,
  createActor,
  createMachine,
  emit,
  enqueueActions,
  log,
  not,
  or,
  raise,
  sendTo,
  stateIn,
} from "xstate";
import type {
  ExecutableAction,
  Machine,
  MachineSnapshot,
  Scope,
} from "../runtime/engine/machine/internals.ts";
import { PlannedSteps, settle } from "../runtime/engine/machine/planned.ts";

const EVENTS = ["a", "b", "c", "d.x", "d.y.z"] as const;
const DESCRIPTORS = ["a", "b", "c", "d.x", "*", "d.*", "d.y.*"] as const;

interface Shape {
  readonly kind: "atomic" | "compound" | "parallel" | "final" | "history";
  readonly children: readonly Shape[];
}

interface Doing {
  readonly state: number;
  readonly descriptor: string;
  /** Numbers of states; undefined for a transition without a target. */
  readonly target: number | undefined;
  readonly reenter: boolean;
  readonly guard: string;
  readonly actions: readonly string[];
}

interface Spec {
  readonly shape: Shape;
  readonly transitions: readonly Doing[];
  readonly entries: readonly (readonly [state: number, action: string])[];
  readonly exits: readonly (readonly [state: number, action: string])[];
  readonly always: readonly Doing[];
  readonly afters: readonly (readonly [state: number, target: number])[];
  readonly tags: readonly (readonly [state: number, tag: string])[];
  /** States whose initial transition does something. */
  readonly initials: readonly (readonly [state: number, action: string])[];
}

const leaf: fc.Arbitrary<Shape> = fc.oneof(
  { weight: 12, arbitrary: fc.constant<Shape>({ kind: "atomic", children: [] }) },
  { weight: 1, arbitrary: fc.constant<Shape>({ kind: "final", children: [] }) },
  { weight: 1, arbitrary: fc.constant<Shape>({ kind: "history", children: [] }) },
);

function shapes(depth: number): fc.Arbitrary<Shape> {
  if (depth === 0) return leaf;
  const children = fc.array(shapes(depth - 1), { minLength: 1, maxLength: 3 });
  const inner = fc.record({ kind: fc.constantFrom("compound" as const, "parallel" as const), children });
  return depth === 3 ? inner : fc.oneof({ weight: 2, arbitrary: leaf }, { weight: 3, arbitrary: inner });
}

const ACTIONS = [
  "count",
  "double",
  "named",
  "act",
  "shown",
  "noted",
  "told",
  "later",
  "cancelled",
  "queued",
  "raised",
] as const;
const GUARDS = ["none", "none", "even", "small", "both", "either", "inverse", "within", "given"] as const;

const states = fc.nat(20);
const action = fc.constantFrom(...ACTIONS);
const doing = fc.record<Doing>({
  state: states,
  descriptor: fc.constantFrom(...DESCRIPTORS),
  target: fc.option(states, { nil: undefined, freq: 3 }),
  reenter: fc.boolean(),
  guard: fc.constantFrom(...GUARDS),
  actions: fc.array(action, { maxLength: 3 }),
});
const pairs = fc.array(fc.tuple(states, action), { maxLength: 3 });
const specs = fc.record<Spec>({
  shape: shapes(3),
  transitions: fc.array(doing, { minLength: 3, maxLength: 14 }),
  entries: pairs,
  exits: pairs,
  always: fc.oneof(
    { weight: 5, arbitrary: fc.constant<Doing[]>([]) },
    { weight: 1, arbitrary: fc.array(doing, { maxLength: 1 }) },
  ),
  afters: fc.array(fc.tuple(states, states), { maxLength: 1 }),
  tags: fc.array(fc.tuple(states, fc.constantFrom("red", "green")), { maxLength: 2 }),
  initials: pairs,
});

interface Context {
  readonly n: number;
  readonly seen?: string;
}
type Args = { readonly context: Context; readonly event: { readonly type: string } };

const actions = {
  count: assign({ n: ({ context }: Args) => context.n + 1 }),
  double: assign(({ context, event }: Args) => ({ n: (context.n * 2) % 1_000, seen: event.type })),
  act: () => undefined,
  shown: emit(({ context }: Args) => ({ type: "shown", n: context.n })),
  noted: log(({ context }: Args) => context.n, "noted"),
  told: sendTo(({ self }: { self: AnyActorRef }) => self, { type: "a" }, { delay: 5 }),
  later: raise({ type: "b" }, { id: "later", delay: 1_000 }),
  cancelled: cancel("later"),
  raised: raise({ type: "c" }),
  queued: enqueueActions(({ enqueue, check, context }) => {
    enqueue.assign({ n: (context as Context).n + 3 });
    if (check("even")) enqueue("act");
    enqueue.emit({ type: "queued" });
  }),
};

const guards = {
  even: ({ context }: Args) => context.n % 2 === 0,
  small: ({ context }: { readonly context: { readonly n?: number } }) => (context.n ?? 0) < 40,
  below: ({ context }: Args, { limit }: { limit: number }) => context.n < limit,
};

/** A machine as its description says, with what does not fit together left out. */
function build(spec: Spec): Machine {
  const configs: Record<string, unknown>[] = [];
  const kinds: Shape["kind"][] = [];
  const make = ({ kind, children }: Shape, isTop: boolean): Record<string, unknown> => {
    const config: Record<string, unknown> = { id: `s${configs.length}`, on: {} };
    configs.push(config);
    kinds.push(kind);
    if (kind === "final" || kind === "history") config.type = kind;
    if (kind === "parallel") config.type = "parallel";
    if (kind === "compound" || kind === "parallel") {
      // A region, and what begins, is neither final nor a history; at the top, nothing ends at once.
      const fit = children.map((child) =>
        child.children.length === 0 && (kind === "parallel" || isTop)
          ? ({ kind: "atomic", children: [] } as const)
          : child,
      );
      const made = [{ kind: "atomic", children: [] } as const, ...fit].map(
        (child, at) => [`k${at}`, make(child, false)] as const,
      );
      config.states = Object.fromEntries(made);
      if (kind === "compound") config.initial = "k0";
    }
    return config;
  };
  const root = make(spec.shape, true);
  const isPlain = (at: number): boolean => kinds[at] !== "final" && kinds[at] !== "history";
  const named = (at: number): string => `#s${at % configs.length}`;
  const guardOf = (guard: string): unknown =>
    ({
      none: undefined,
      even: "even",
      small: guards.small,
      both: and(["even", guards.small]),
      either: or(["even", not("even")]),
      inverse: not("even"),
      within: stateIn("#s1"),
      given: { type: "below", params: { limit: 9 } },
    })[guard];
  const actionOf = (name: string): unknown =>
    name === "named" ? { type: "act", params: ({ context }: Args) => ({ n: context.n }) } : name;
  const transition = ({ target, reenter, guard, actions: done }: Doing): object => ({
    ...(target === undefined || target % configs.length === 0 ? {} : { target: named(target) }),
    reenter,
    guard: guardOf(guard),
    actions: done.map(actionOf),
  });
  for (const one of spec.transitions) {
    const at = one.state % configs.length;
    if (!isPlain(at)) continue;
    const on = (configs[at] as { on: Record<string, object[]> }).on;
    on[one.descriptor] = [...(on[one.descriptor] ?? []), transition(one)];
  }
  for (const [list, field] of [
    [spec.entries, "entry"],
    [spec.exits, "exit"],
  ] as const)
    for (const [state, name] of list) {
      const config = configs[state % configs.length] as Record<string, unknown>;
      if (isPlain(state % configs.length)) config[field] = [...((config[field] as []) ?? []), actionOf(name)];
    }
  for (const one of spec.always)
    if (isPlain(one.state % configs.length))
      (configs[one.state % configs.length] as Record<string, unknown>).always = transition(one);
  for (const [state, target] of spec.afters)
    if (isPlain(state % configs.length) && target % configs.length !== 0)
      (configs[state % configs.length] as Record<string, unknown>).after = { 1000: named(target) };
  for (const [state, name] of spec.initials)
    if (kinds[state % configs.length] === "compound")
      (configs[state % configs.length] as Record<string, unknown>).initial = {
        target: "k0",
        actions: [actionOf(name)],
      };
  for (const [state, tag] of spec.tags)
    if (kinds[state % configs.length] !== "history")
      (configs[state % configs.length] as Record<string, unknown>).tags = [tag];
  return createMachine(
    { ...root, context: { n: 0 }, options: { maxIterations: 50 } } as never,
    { actions, guards } as never,
  ) as Machine;
}

const self = createActor(createMachine({}));

/** One copy of a machine, stepped by XState or by plans, and all that it does. */
class Stepped {
  readonly machine: Machine;
  readonly collected: unknown[] = [];
  snapshot: MachineSnapshot;
  planned = 0;
  readonly #plans: PlannedSteps | undefined;
  readonly #scope: Scope = {
    self,
    system: self.system,
    id: "x",
    sessionId: "x",
    defer: () => undefined,
    logger: () => undefined,
    stopChild: () => undefined,
    emit: () => undefined,
    actionExecutor: ({ type, info, params, exec }: ExecutableAction) => {
      const { context, event } = info;
      this.collected.push({ type, context, event, params, isRun: exec !== undefined });
    },
  } as unknown as Scope;

  constructor(machine: Machine, isPlanned: boolean) {
    this.machine = machine.provide({}) as Machine;
    this.#plans = isPlanned ? new PlannedSteps(this.machine) : undefined;
    this.snapshot = this.machine.getInitialSnapshot(
      this.#scope as never,
      undefined as never,
    ) as MachineSnapshot;
    this.#settle(undefined);
  }

  step(type: string): void {
    const before = this.snapshot;
    const event = { type };
    const planned = this.#plans?.step(before, event, this.#scope);
    if (planned !== undefined) this.planned++;
    this.snapshot =
      planned ?? (this.machine.transition(before, event as never, this.#scope as never) as MachineSnapshot);
    this.#settle(before);
  }

  #settle(before: MachineSnapshot | undefined): void {
    settle(this.snapshot);
    this.#plans?.share(this.snapshot);
    // As the host does: who is in the same states keeps the value, and the order of its names.
    if (this.snapshot._nodes === before?._nodes) (this.snapshot as { value: unknown }).value = before?.value;
  }

  get shown(): unknown {
    const { value, context, status, output, error, historyValue, tags, _nodes } = this.snapshot;
    const history = Object.entries(historyValue as Record<string, { id: string }[]>).map(([id, nodes]) => [
      id,
      nodes.map((node) => node.id),
    ]);
    return {
      value: JSON.stringify(value),
      context,
      contextNames: Object.keys(context as object),
      status,
      output,
      error,
      history,
      // Their order, which XState takes from the way to the states, is that of the document here.
      tags: [...tags].sort(),
      nodes: _nodes.map(({ id }) => id),
      fields: Object.keys(this.snapshot),
    };
  }
}

function outcome(work: () => void): string {
  try {
    work();
    return "done";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Steps both, and compares after each step. Returns how many steps there were and how many of them were planned. */
function compare(machine: Machine, events: readonly string[]): readonly [steps: number, planned: number] {
  let xstate: Stepped | undefined;
  let planned: Stepped | undefined;
  const made = outcome(() => {
    xstate = new Stepped(machine, false);
  });
  const same = outcome(() => {
    planned = new Stepped(machine, true);
  });
  expect(same).toBe(made);
  if (xstate === undefined || planned === undefined) return [0, 0];
  let steps = 0;
  for (const type of events) {
    if (xstate.snapshot.status !== "active") break;
    xstate.collected.length = 0;
    planned.collected.length = 0;
    const [one, other] = [xstate, planned];
    const before = planned.snapshot;
    const by = outcome(() => one.step(type));
    expect(outcome(() => other.step(type))).toBe(by);
    if (by !== "done") break;
    expect(planned.collected).toEqual(xstate.collected);
    expect(planned.shown).toEqual(xstate.shown);
    expect(before.status).toBe("active");
    steps++;
  }
  return [steps, planned.planned];
}

describe("planned steps", () => {
  it("are XState's steps: states, context, actions and their order, tags, history, errors", () => {
    let steps = 0;
    let planned = 0;
    fc.assert(
      fc.property(
        specs,
        fc.array(fc.constantFrom(...EVENTS), { minLength: 20, maxLength: 40 }),
        (spec, events) => {
          const [some, ofThem] = compare(build(spec), events);
          steps += some;
          planned += ofThem;
        },
      ),
      { numRuns: 500 },
    );
    // The comparison is one only where plans were taken, and where XState was left something.
    expect(planned).toBeGreaterThan(steps / 2);
    expect(planned).toBeLessThan(steps);
  });

  const plannedOf = (config: object, events: readonly string[]): readonly [steps: number, planned: number] =>
    compare(
      createMachine({ context: { n: 0 }, ...config } as never, { actions, guards } as never) as Machine,
      events,
    );

  it.each([
    ["a change of context", { on: { a: { actions: "count" } } }],
    ["a change of state", { initial: "x", states: { x: { on: { a: "y" } }, y: { on: { a: "x" } } } }],
    ["nothing", { on: { b: {} } }],
    ["raised events", { on: { a: { actions: "raised" }, c: { actions: "count" } } }],
    [
      "eventless transitions",
      {
        initial: "x",
        states: {
          x: { on: { a: { actions: "count" } }, always: { guard: "even", target: "y", actions: "shown" } },
          y: { always: { actions: "double", target: "z" } },
          z: { on: { a: { target: "x", actions: "raised" }, c: { actions: "count" } } },
        },
      },
    ],
    [
      "a delay, set and cancelled",
      { initial: "x", states: { x: { after: { 1000: "y" }, on: { a: "y" } }, y: { on: { a: "x" } } } },
    ],
    [
      "regions that all take part",
      {
        type: "parallel",
        states: {
          p: { initial: "x", states: { x: { on: { a: "y" } }, y: { on: { a: "x" } } } },
          q: { on: { a: { actions: ["count", "shown"] } } },
        },
      },
    ],
  ])("plan %s", (_, config) => {
    expect(plannedOf(config, ["a", "a", "a", "a"])).toEqual([4, 4]);
  });

  it("keep regions that are entered anew in XState's order", () => {
    const config = {
      type: "parallel",
      states: {
        p: {
          id: "p",
          initial: "x",
          states: { x: { on: { a: "y" } }, y: {} },
          on: { b: { target: "#p", reenter: true }, c: { actions: "count" } },
        },
        q: { on: { c: { actions: "double" } } },
      },
    };
    expect(plannedOf(config, ["a", "c", "b", "c", "c", "a", "c"])).toEqual([7, 7]);
  });

  it.each([
    ["a final state", { initial: "x", states: { x: { on: { a: "y" } }, y: { type: "final" } } }],
    [
      "a state with a history",
      {
        initial: "x",
        states: {
          x: { initial: "u", states: { u: {}, h: { type: "history" } }, on: { a: "y" } },
          y: {},
        },
      },
    ],
    [
      "an error",
      {
        on: {
          a: {
            actions: assign(() => {
              throw new Error("thrown");
            }),
          },
        },
      },
    ],
  ])("leave %s to XState", (_, config) => {
    const [, planned] = plannedOf(config, ["a"]);
    expect(planned).toBe(0);
  });

  it("collect nothing in a step that is left to XState in its middle", () => {
    const machine = createMachine(
      {
        initial: "x",
        context: { n: 0 },
        states: { x: { on: { a: { actions: ["shown", "count", "raised"] }, c: "y" } }, y: { type: "final" } },
      } as never,
      { actions, guards } as never,
    ) as Machine;
    const stepped = new Stepped(machine, true);
    stepped.step("a");
    expect(stepped.planned).toBe(0);
    const types = stepped.collected.map((one) => (one as { type: string }).type);
    expect(types).toEqual(["xstate.emit", "xstate.raise"]);
    expect(stepped.snapshot.context).toEqual({ n: 1 });
    expect(stepped.snapshot.status).toBe("done");
  });

  it("let snapshots of different actors share their states", () => {
    const machine = createMachine({
      initial: "x",
      states: { x: { tags: ["red"], on: { a: "y" } }, y: { on: { a: "x" } } },
    }) as Machine;
    const plans = new PlannedSteps(machine);
    const first = machine.resolveState({ value: "x" } as never) as MachineSnapshot;
    const second = machine.resolveState({ value: "x" } as never) as MachineSnapshot;
    expect(first._nodes).not.toBe(second._nodes);
    for (const one of [first, second]) plans.share(one);
    expect(first._nodes).toBe(second._nodes);
    expect(first.tags).toBe(second.tags);
    expect([...first.tags]).toEqual(["red"]);
  });

  it("keep no more configurations and event types than they may", () => {
    // 2^13 sets of active states, and more event types than are kept: all the same in both.
    const regions = Array.from({ length: 13 }, (_, at) => [
      `r${at}`,
      {
        initial: "x",
        states: { x: { on: { [`t${at}`]: "y" } }, y: { on: { [`t${at}`]: "x" } } },
      },
    ]);
    const machine = createMachine({
      type: "parallel",
      context: { n: 0 },
      states: Object.fromEntries(regions),
      on: { "*": { actions: assign({ n: ({ context }: Args) => context.n + 1 }) } },
    } as never) as Machine;
    // A Gray code goes through all sets, changing one region at a time.
    const gray = Array.from({ length: 5_000 }, (_, at) => `t${31 - Math.clz32((at + 1) & -(at + 1))}`);
    const [steps, planned] = compare(machine, gray);
    expect(steps).toBe(5_000);
    expect(planned).toBeGreaterThan(4_000);
    expect(planned).toBeLessThan(5_000);
    const many = Array.from({ length: 1_000 }, (_, at) => `other${at}`);
    const [allSteps, fewer] = compare(machine, many);
    expect(allSteps).toBe(1_000);
    expect(fewer).toBe(256);
  });
});
