/** History checkers: record with `HistoryRecorder`, then ask the checks. */

export {
  checkAppendList,
  checkCounter,
  checkSetAdd,
  type Final,
  type SetInput,
  type Violation,
} from "./checks.ts";
export {
  type BankExpectation,
  type BankRead,
  checkBank,
  checkExactlyOnce,
  checkSenderFifo,
  checkTimersOnce,
  type SentEntry,
  type TimerCheckOptions,
  type TimerFiring,
  type TimerRecord,
} from "./final-checks.ts";
export {
  describeOperation,
  HistoryRecorder,
  type HistoryRecorderOptions,
  type Operation,
  type OperationHandle,
  type Outcome,
  partitionByKey,
} from "./history.ts";
export {
  assertLinearizable,
  checkLinearizability,
  type LinearizabilityOptions,
  type LinearizabilityResult,
} from "./linearizability.ts";
export {
  type CounterInput,
  counterModel,
  type ListInput,
  type ListOutput,
  listModel,
  type Model,
  type RegisterInput,
  type RegisterOutput,
  registerModel,
  type Scalar,
  type Step,
} from "./models.ts";
