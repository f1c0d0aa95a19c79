/** The deterministic simulator: a whole cluster in virtual time, under a seed. */
export { audit, type Audit } from "./audit.ts";
export { Disk } from "./disk.ts";
export { type FaultRates, noFaults } from "./faults.ts";
export { Prng } from "./prng.ts";
export { type RunOptions, type RunResult, simulate } from "./run.ts";
export {
  type Calamity,
  describeScenario,
  drawScenario,
  type Scenario,
  type ScenarioOptions,
} from "./scenario.ts";
export {
  insist,
  type Result,
  resultOf,
  type RunningWorkload,
  type Visitor,
  type Workload,
  type WorkloadContext,
} from "./workload.ts";
