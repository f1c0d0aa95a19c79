/** All workloads of this repository. */
import type { Workload } from "../../../runtime/testing/simulator/index.ts";
import { askingWorkload } from "./asking.ts";
import { bankWorkload } from "./bank.ts";
import { cancellingWorkload } from "./cancelling.ts";
import { counterWorkload } from "./counter.ts";
import { emittingWorkload } from "./emitting.ts";
import { feedingWorkload } from "./feeding.ts";
import { familyWorkload } from "./family.ts";
import { findingWorkload } from "./finding.ts";
import { listWorkload } from "./list.ts";
import { poisonWorkload } from "./poison.ts";
import { rangingWorkload } from "./ranging.ts";
import { rebuildingWorkload } from "./rebuilding.ts";
import { registerWorkload } from "./register.ts";
import { rememberingWorkload } from "./remembering.ts";
import { retryWorkload } from "./retries.ts";
import { storingWorkload } from "./storing.ts";
import { timerWorkload } from "./timers.ts";
import { watchingWorkload } from "./watching.ts";
import { workingWorkload } from "./working.ts";

export const workloads: readonly Workload[] = [
  counterWorkload,
  registerWorkload,
  listWorkload,
  bankWorkload,
  timerWorkload,
  retryWorkload,
  poisonWorkload,
  familyWorkload,
  askingWorkload,
  workingWorkload,
];

/** Those that are only run by their names. */
export const namedWorkloads: readonly Workload[] = [
  findingWorkload,
  cancellingWorkload,
  emittingWorkload,
  feedingWorkload,
  rangingWorkload,
  rebuildingWorkload,
  rememberingWorkload,
  storingWorkload,
  watchingWorkload,
];
