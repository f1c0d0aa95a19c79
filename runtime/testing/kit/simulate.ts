/**
 * A user's own machine in the simulator, in one line.
 *
 * Owns the loop over seeds and the report of one that fails. Talks to the simulator.
 */
import type { AnyActorDefinition, EventFor } from "../../engine/definition.ts";
import { registryOf } from "../../engine/definition.ts";
import { KeyturnError } from "../../words/errors.ts";
import type { Disk } from "../simulator/disk.ts";
import { simulate } from "../simulator/run.ts";
import { describeScenario, drawScenario, type Scenario } from "../simulator/scenario.ts";
import { TestFailure } from "./failure.ts";
import { checkWhole } from "./runtime.ts";
import { type WorkloadOptions, workloadOf } from "./workload.ts";

export interface SimulateOptions<D extends AnyActorDefinition, E extends EventFor<D> = EventFor<D>>
  extends WorkloadOptions<D, E> {
  /** How many seeds are played; 100 by default. */
  readonly seeds?: number;
  /** The first of them; 1 by default. */
  readonly from?: number;
  /** No faults: for the look whether the machine itself is sound. */
  readonly calm?: boolean;
  /** Parts of the scenario that every seed has, for example `{ nodes: 3 }`. */
  readonly scenario?: Partial<Scenario>;
  /** Is given every line of the trace. */
  readonly trace?: (line: string) => void;
  /** Called with a run's disk before it begins. To plant bugs. */
  readonly prepare?: (disk: Disk) => void;
}

export interface SimulateReport {
  readonly seeds: number;
  /** Turns in the journals. */
  readonly turns: number;
  /** Virtual milliseconds. */
  readonly virtual_ms: number;
  /** How often each fault struck. */
  readonly faults: Readonly<Record<string, number>>;
}

const SEEDS_MAX = 10_000_000;

/**
 * Runs a definition's actors on whole clusters in virtual time, under seeded faults: nodes that crash, pause, join and are
 * cut off, frames that are lost, repeated and late, a store that fails, fills up and loses power. For each seed every
 * actor's history must be explained by the plain machine and by what clients asked, each answered request exactly once
 * (see workload.ts), and the cluster must come to rest once the faults are over.
 *
 * ```ts
 * await simulateActor(order, { events: (random) => random.pick([{ type: "place", cents: 5 }, { type: "pay", cents: 5 }]) });
 * ```
 *
 * The machine must come to rest too when nobody asks any more: one whose timers set themselves anew for ever does not.
 * Machines that read a clock or draw random numbers differ from themselves when they are replayed, and are reported.
 *
 * @returns what was played
 * @throws TestFailure for the first seed that violates anything; its `seed`, given as `{ from: seed, seeds: 1 }`, replays
 *   it event by event. KeyturnError `invalid_options`
 */
export async function simulateActor<D extends AnyActorDefinition, const E extends EventFor<D>>(
  definition: D,
  options: SimulateOptions<D, E>,
): Promise<SimulateReport> {
  if (typeof options !== "object" || options === null)
    throw new KeyturnError("invalid_options", "simulateActor takes a definition and { events }.");
  const { seeds = 100, from = 1, calm = false, scenario: fixed = {}, trace, prepare } = options;
  checkWhole("The number of seeds", seeds, 1, SEEDS_MAX);
  checkWhole("The first seed", from, 0, Number.MAX_SAFE_INTEGER - SEEDS_MAX);
  const workload = workloadOf(definition, options);
  registryOf(workload.actors);
  const faults: Record<string, number> = {};
  let turns = 0;
  let virtual_ms = 0;
  for (let seed = from; seed < from + seeds; seed++) {
    const drawn = drawScenario(seed, { workloads: [workload.name], calm });
    const scenario: Scenario = { ...drawn, ...fixed, seed, workloads: [workload.name] };
    const result = await simulate(scenario, { workloads: [workload], trace, prepare });
    if (result.violations.length > 0) throw failed(definition, seed, scenario, result.violations);
    turns += result.records;
    virtual_ms += result.virtual_ms;
    for (const [name, count] of result.faults) faults[name] = (faults[name] ?? 0) + count;
  }
  return { seeds, turns, virtual_ms, faults };
}

function failed(
  { type }: AnyActorDefinition,
  seed: number,
  scenario: Scenario,
  violations: readonly string[],
): TestFailure {
  return new TestFailure(
    `Seed ${seed} of "${type}" violates what is promised:\n${violations.map((text) => `  ${text}`).join("\n")}\n` +
      `Replay it with simulateActor(definition, { …, from: ${seed}, seeds: 1, trace: console.log }).\n` +
      `Scenario: ${describeScenario(scenario)}`,
    { seed },
  );
}
