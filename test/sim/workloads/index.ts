/** All workloads of this repository. */
import type { Workload } from "../../../runtime/testing/simulator/index.ts";
import { counterWorkload } from "./counter.ts";

export const workloads: readonly Workload[] = [counterWorkload];
