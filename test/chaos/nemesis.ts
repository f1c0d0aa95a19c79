/**
 * The nemesis: throws faults by a seeded schedule until it is told to stop, and waits until all are healed.
 *
 * Owns who is the victim of what, and the windows of the faults in the meter. Talks to the catalogue.
 *
 * Which fault comes next, for how long and to whom is drawn from the seed; what the processes make of it is not, so a run
 * cannot be replayed bit by bit: the simulator can.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Prng } from "../../runtime/testing/simulator/index.ts";
import { type Fault, type FaultContext, faults } from "./faults.ts";
import type { Meter } from "./meter.ts";
import type { Stage, StageNode } from "./stage.ts";

export interface NemesisOptions {
  readonly stage: Stage;
  readonly random: Prng;
  readonly meter: Meter;
  readonly lease_ms: number;
  readonly say: (text: string) => void;
  readonly violated: (text: string) => void;
  readonly flood: (node: StageNode) => Promise<void>;
  /** Kinds to throw; all by default. */
  readonly only?: readonly string[] | undefined;
}

const GAP_MIN_MS = 1_000;
const GAP_MAX_MS = 10_000;
/** After so many faults are healed and the next is thrown only then: what one does by itself is to be seen too. */
const ALONE = 0.4;
/** How long the app is left in peace before and after one that is thrown alone. */
const PEACE_MS = 3_000;

export class Nemesis {
  readonly #options: NemesisOptions;
  readonly #faults: readonly Fault[];
  /** Victims of the faults that are not healed yet. */
  readonly #victims = new Set<string>();
  readonly #running = new Set<Promise<void>>();
  /** Told of each fault that is thrown. */
  readonly #listeners = new Set<() => void>();
  /** Kinds that were not thrown yet. */
  readonly #fresh: Set<string>;
  #stopping = false;

  constructor(options: NemesisOptions) {
    this.#options = options;
    const { only } = options;
    this.#faults = only === undefined ? faults : faults.filter(({ kind }) => only.includes(kind));
    this.#fresh = new Set(this.#faults.map(({ kind }) => kind));
  }

  /** Throws faults for so long, and resolves when all are healed. */
  async run(duration_ms: number): Promise<void> {
    const until_ms = performance.now() + duration_ms;
    const { random } = this.#options;
    while (performance.now() < until_ms && !this.#stopping) {
      const alone = random.chance(ALONE);
      if (alone) {
        await Promise.all(this.#running);
        await sleep(PEACE_MS);
      }
      this.#throwOne();
      if (alone) {
        await Promise.all(this.#running);
        await sleep(PEACE_MS);
      } else await sleep(random.between(GAP_MIN_MS, GAP_MAX_MS));
    }
    await Promise.all(this.#running);
  }

  stop(): void {
    this.#stopping = true;
  }

  #throwOne(): void {
    const { random, meter, say, violated } = this.#options;
    const context = this.#context();
    // Each kind once, before any comes often.
    const order = weighted(this.#faults, random).sort(
      (a, b) => Number(this.#fresh.has(b.kind)) - Number(this.#fresh.has(a.kind)),
    );
    for (const fault of order) {
      const thrown = fault.prepare(context);
      if (thrown === undefined || thrown.victims.some((victim) => this.#victims.has(victim))) continue;
      this.#fresh.delete(fault.kind);
      for (const victim of thrown.victims) this.#victims.add(victim);
      for (const listener of [...this.#listeners]) listener();
      const window = meter.begin(fault.kind, performance.now());
      const run = thrown
        .run()
        .catch((error: unknown) => {
          violated(`${fault.kind} of ${thrown.victims.join()} was not overcome: ${String(error)}`);
          this.#stopping = true;
        })
        .then(() => {
          window.to_ms = performance.now();
          for (const victim of thrown.victims) this.#victims.delete(victim);
          this.#running.delete(run);
        });
      this.#running.add(run);
      return;
    }
    say("every victim has a fault already");
  }

  #context(): FaultContext {
    const { stage, random, lease_ms, say, violated, flood } = this.#options;
    return {
      stage,
      random,
      lease_ms,
      say,
      violated,
      flood,
      freeNodes: [...stage.nodes.values()].filter(
        ({ name, process }) => !this.#victims.has(name) && process.alive && name !== "guest",
      ),
      excuses: (victim) => this.#excuses(victim),
    };
  }

  #excuses(victim: string): () => boolean {
    let excused = false;
    // Somebody must have been there all the time, undisturbed, and so must the servers.
    const able = new Set(this.#options.stage.nodes.keys());
    able.delete(victim);
    const look = (): void => {
      if (this.#victims.has("servers")) excused = true;
      for (const name of this.#victims) able.delete(name);
      if (able.size === 0) excused = true;
    };
    look();
    this.#listeners.add(look);
    return () => {
      this.#listeners.delete(look);
      return excused;
    };
  }
}

/** The faults in a drawn order, in which those that weigh more tend to be early. */
function weighted(all: readonly Fault[], random: Prng): Fault[] {
  return all
    .map((fault) => ({ fault, at: -Math.log(1 - random.next()) / fault.weight }))
    .sort((a, b) => a.at - b.at)
    .map(({ fault }) => fault);
}
