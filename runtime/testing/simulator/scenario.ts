/**
 * The scenario of a seed: everything about a run that is not code.
 *
 * Owns how a seed becomes a cluster, its settings, the faults that may strike and how often. Every scenario enables
 * its own subset of faults (swarm testing; Groce et al. 2012), since faults that always come together hide bugs that
 * need one of them alone.
 */
import type { NodeSettings } from "../../words/limits.ts";
import { type FaultRates, noFaults } from "./faults.ts";
import { Prng } from "./prng.ts";

/** What the nemesis may do, and how likely it picks each. */
export const calamities = [
  "crash",
  "rack",
  "pause",
  "stop",
  "join",
  "partition",
  "jump",
  "powerLoss",
  "full",
] as const;
export type Calamity = (typeof calamities)[number];

export interface Scenario {
  readonly seed: number;
  readonly nodes: number;
  readonly shards: number;
  readonly clients: number;
  readonly settings: Partial<NodeSettings>;
  readonly rates: FaultRates;
  /** Weight of each calamity; absent ones do not happen. */
  readonly calamities: { readonly [K in Calamity]?: number };
  /** Mean time between two calamities. */
  readonly calm_ms: number;
  /** How long faults strike. */
  readonly safety_ms: number;
  /** How long the healed system may take to settle everything. */
  readonly liveness_ms: number;
  readonly skew_ms: number;
  readonly drift: number;
  readonly knowsListeners: boolean;
  /** Two of the nodes have one name. */
  readonly namesakes: boolean;
  /** A node comes back with the next version of every actor, so that several run side by side. */
  readonly upgrades: boolean;
  /** Nodes keep of the journal about so many bytes, however young they are, and what recovery needs; all if undefined. */
  readonly keepBytes?: number | undefined;
  /** Names of the workloads that run together. */
  readonly workloads: readonly string[];
  /** Requests that each client process of a workload makes. */
  readonly requests: number;
}

export interface ScenarioOptions {
  /** All that a seed may choose from. */
  readonly workloads: readonly string[];
  /** Run exactly these workloads. */
  readonly only?: readonly string[] | undefined;
  /** No faults at all. */
  readonly calm?: boolean | undefined;
  /** Some seeds trim the journal; false by default, as workloads have to bear it (see `keepsAll`). */
  readonly trims?: boolean | undefined;
}

/** Draws a cluster, its faults and its work from a seed. */
export function drawScenario(seed: number, options: ScenarioOptions): Scenario {
  const r = new Prng(seed, "scenario");
  const calm = options.calm === true;
  const nodes = r.pick([1, 1, 2, 3, 3, 4, 5]);
  const lease_ms = r.pick([300, 600, 1_500, 5_000]);
  const tiny = r.chance(0.6);
  const settings: Partial<NodeSettings> = {
    lease_ms,
    heartbeat_ms: Math.floor(lease_ms / r.pick([3, 3.5, 5])),
    activeActors: tiny ? r.whole(1, 12) : 50_000,
    checkpointRecords: tiny ? r.whole(1, 60) : 5_000,
    checkpoint_ms: r.pick([500, 2_000, 30_000]),
    snapshotBatch: r.pick([1, 3, 512]),
    intakeMessages: r.chance(0.15) ? r.whole(4, 64) : 65_536,
    mailboxMessages: r.chance(0.15) ? r.whole(2, 4) : 8_192,
  };
  settings.mailboxMessages = Math.min(settings.mailboxMessages as number, settings.intakeMessages as number);
  const lossy = !calm && r.chance(0.6);
  const flaky = !calm && r.chance(0.6);
  const rates: FaultRates = calm
    ? noFaults
    : {
        loss: lossy && r.chance(0.7) ? r.between(0, 0.3) * r.next() : 0,
        repetition: lossy && r.chance(0.7) ? r.between(0, 0.5) * r.next() : 0,
        straggling: lossy && r.chance(0.7) ? r.between(0, 0.2) : 0,
        delayMin_ms: r.logarithmic(0.01, 2),
        delayMean_ms: r.logarithmic(0.05, 8),
        delayMax_ms: r.logarithmic(1, lease_ms * 0.5),
        ordered: r.chance(0.4),
        requestLoss: flaky && r.chance(0.6) ? r.between(0, 0.08) : 0,
        answerLoss: flaky && r.chance(0.6) ? r.between(0, 0.08) : 0,
        requestRepetition: flaky && r.chance(0.5) ? r.between(0, 0.3) : 0,
        refusal: flaky && r.chance(0.5) ? r.between(0, 0.08) : 0,
        storeMean_ms: r.logarithmic(0.05, 5),
        storeTimeout_ms: r.logarithmic(10, 400),
        flush_ms: r.logarithmic(0.05, 8),
        lag_ms: flaky && r.chance(0.6) ? r.logarithmic(1, lease_ms) : 0,
      };
  const weights: { [K in Calamity]?: number } = {};
  for (const calamity of calamities) {
    const weight = r.between(0.2, 1);
    if (!calm && r.chance(0.45)) weights[calamity] = weight;
  }
  // Of a stream of its own, as below.
  const late = new Prng(seed, "overdue");
  if (late.chance(0.5)) {
    settings.overdue_ms = late.pick([1, 20, 200]);
    settings.overduePerSecond = late.pick([20, 100, 2_000]);
  }
  const trims = new Prng(seed, "trims");
  const keepBytes =
    options.trims === true && !calm && trims.chance(0.3) ? trims.pick([0, 2_000, 20_000]) : undefined;
  if (keepBytes !== undefined) settings.trim_ms = trims.pick([lease_ms / 3, lease_ms, 2_000]);
  const drawn = r.shuffle(options.workloads).slice(0, r.whole(1, Math.min(3, options.workloads.length)));
  return {
    seed,
    nodes,
    shards: r.pick([1, 2, 3, 5, 8, 16]),
    clients: r.whole(1, 4),
    settings,
    rates,
    calamities: weights,
    calm_ms: r.logarithmic(lease_ms * 0.3, lease_ms * 4),
    safety_ms: Math.min(12_000, lease_ms * r.between(4, 12)),
    liveness_ms: 120_000,
    skew_ms: r.chance(0.5) ? r.logarithmic(1, 3_600_000) : 0,
    drift: r.chance(0.5) ? 0.02 : 0,
    knowsListeners: r.chance(0.5),
    namesakes: r.chance(0.1),
    // Of a stream of its own: what else a seed draws does not depend on it.
    upgrades: new Prng(seed, "upgrades").chance(0.2),
    keepBytes,
    workloads: options.only ?? drawn,
    requests: r.whole(10, 60),
  };
}

/** The scenario in a few lines, for people. */
export function describeScenario(s: Scenario): string {
  return JSON.stringify(
    s,
    (_, value: unknown) => (typeof value === "number" ? Number(value.toPrecision(4)) : value),
    1,
  )
    .replaceAll(/\n\s+/g, " ")
    .replaceAll('"', "");
}
