/**
 * The form in which statecharts are told to those who draw them. JSON, so other programs may read it; types only.
 */

export type ChartStateType = "atomic" | "compound" | "parallel" | "final" | "history";

/** What makes a transition be taken. */
export type ChartTrigger = "event" | "always" | "after" | "done" | "error" | "snapshot";

export interface ChartTransition {
  readonly trigger: ChartTrigger;
  /** The event's type or pattern; of `done`, `error` and `snapshot` the id of what is invoked, "" for the state itself. */
  readonly event: string;
  /** Of `after`: milliseconds, or the delay's name. */
  readonly delay?: number | string;
  /** As its author named it: `isPaid`, `not(isPaid)`, `stateIn(#a)`; "inline" for a function in the machine. */
  readonly guard?: string;
  /** Ids of states. Without one the state stays. */
  readonly targets: readonly string[];
  readonly actions: readonly string[];
  readonly reenter: boolean;
  readonly description?: string;
}

export interface ChartInvoke {
  readonly id: string;
  readonly src: string;
}

export interface ChartState {
  readonly id: string;
  readonly key: string;
  /** Keys from the root, without it: `["waiting", "payment"]`. */
  readonly path: readonly string[];
  readonly type: ChartStateType;
  readonly history?: "shallow" | "deep";
  /** Of a compound state: id of the state that is entered first. */
  readonly initial?: string;
  readonly description?: string;
  readonly tags: readonly string[];
  readonly entry: readonly string[];
  readonly exit: readonly string[];
  readonly invoke: readonly ChartInvoke[];
  readonly transitions: readonly ChartTransition[];
  readonly states: readonly ChartState[];
}
