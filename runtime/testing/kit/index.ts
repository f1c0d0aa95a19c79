/** The test kit for people who write actors: see each function's own words. */
export { TestFailure } from "./failure.ts";
export { type PendingTimer, testRuntime, type TestRuntime, type TestRuntimeOptions } from "./runtime.ts";
export {
  type Expectation,
  type ExpectedTimer,
  type Spec,
  spec,
  type SpecOptions,
  type SpecOutcome,
  type SpecStep,
  type SpecWhen,
} from "./spec.ts";
export { checkModel, type ModelFault, type ModelOptions, type ModelReport } from "./model.ts";
export { simulateActor, type SimulateOptions, type SimulateReport } from "./simulate.ts";
export { type WorkloadOptions, workloadOf } from "./workload.ts";
export type { Duration } from "../../words/duration.ts";
