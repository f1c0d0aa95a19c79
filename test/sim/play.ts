/** One seed of this repository's simulation: its scenario, its workloads and, if wanted, a seeded bug. */
import {
  drawScenario,
  type RunResult,
  type Scenario,
  simulate,
} from "../../runtime/testing/simulator/index.ts";
import { type Bug, bugs, Patcher } from "./bugs/index.ts";
import { forgetIndexes } from "./forgetful.ts";
import { namedWorkloads, workloads } from "./workloads/index.ts";

const all = [...workloads, ...namedWorkloads];

export interface PlayOptions {
  /** Run exactly these workloads; otherwise the seed chooses. */
  readonly only?: readonly string[] | undefined;
  readonly bug?: string | undefined;
  readonly calm?: boolean | undefined;
  readonly trace?: ((line: string) => void) | undefined;
}

export function scenarioOf(seed: number, { only, calm, bug }: PlayOptions): Scenario {
  const names = workloads.map(({ name }) => name);
  const among = only ?? bugOf(bug)?.workloads;
  const unknown = only?.find((name) => all.every((workload) => workload.name !== name));
  if (unknown !== undefined)
    throw new RangeError(`There is no workload ${unknown}, only ${all.map(({ name }) => name).join(", ")}.`);
  const trims = !all.some(({ name, needsAll }) => needsAll === true && among?.includes(name) === true);
  const drawn = drawScenario(seed, { workloads: names, only: among, calm, trims });
  // A bug is looked for among nodes of one version, if it does not say otherwise.
  return bug === undefined ? drawn : { ...drawn, upgrades: false, ...bugOf(bug)?.focus };
}

export async function play(seed: number, options: PlayOptions = {}): Promise<RunResult> {
  const patcher = new Patcher();
  const bug = bugOf(options.bug);
  try {
    return await simulate(scenarioOf(seed, options), {
      workloads: all,
      trace: options.trace,
      prepare: (disk) => {
        if (seed % 2 === 1) forgetIndexes(patcher);
        bug?.install(disk, patcher);
      },
    });
  } finally {
    patcher.undo();
  }
}

export function bugOf(name: string | undefined): Bug | undefined {
  if (name === undefined) return undefined;
  const found = bugs.find((bug) => bug.name === name);
  if (found === undefined)
    throw new RangeError(`There is no bug ${name}, only ${bugs.map((bug) => bug.name).join(", ")}.`);
  return found;
}

/** The command that repeats a seed. */
export function commandOf(seed: number, { only, bug, calm }: PlayOptions): string {
  const workload = only === undefined ? "" : ` --workload ${only.join(",")}`;
  return `npm run sim -- --seed ${seed}${workload}${bug === undefined ? "" : ` --bug ${bug}`}${calm ? " --calm" : ""}`;
}
