/**
 * Model-based paths: the durable actor against the plain machine, after every step, while nodes crash.
 *
 * Owns how a path is played and what goes wrong meanwhile. Talks to the test runtime (the durable side), plain.ts (the
 * model) and paths.ts (what to play).
 */
import type { ActorRef, CallOptions } from "../../client/client.ts";
import type { ActorState, AnyActorDefinition, EventFor } from "../../engine/definition.ts";
import { isKeyturnError, KeyturnError, textOf } from "../../words/errors.ts";
import { Prng } from "../simulator/prng.ts";
import { type Result, resultOf } from "../simulator/workload.ts";
import { differences, show, showEvent, TestFailure } from "./failure.ts";
import { type AnyEvent, isTime, pathsOf } from "./paths.ts";
import { PlainActor } from "./plain.ts";
import { refuseQuestions } from "./questions.ts";
import { checkWhole, testRuntime, type TestRuntime } from "./runtime.ts";

export interface ModelOptions<D extends AnyActorDefinition> {
  /** Examples of events, of which paths are made; a type without an example is sent with nothing but its type. */
  readonly events?: readonly EventFor<D>[];
  /**
   * `shortest`: to every state the shortest way, and from there each event that it knows (the default). `simple`: ways
   * that visit no state twice.
   */
  readonly paths?: "shortest" | "simple";
  /** Decides which paths are taken if there are too many, and what goes wrong when. 1 by default. */
  readonly seed?: number;
  /** Probability of something going wrong at a step; 0.3 by default. */
  readonly crashes?: number;
  /** At most so many paths, over at most so many different states (value and context); 100 by default. */
  readonly limit?: number;
  /** Nodes that share the actors; 2 by default. */
  readonly nodes?: number;
  /** Other actors that take part. */
  readonly actors?: readonly AnyActorDefinition[];
}

/** What was played. */
export interface ModelReport {
  readonly paths: number;
  /** Events and waits that both took and after which both were compared. */
  readonly steps: number;
  /** Waits for a timer that the actor did not have at that moment, because another one came before it. */
  readonly skipped: number;
  /** How often each thing went wrong. */
  readonly faults: Readonly<Record<ModelFault, number>>;
}

export const modelFaults = [
  "crash on the way",
  "crash",
  "failover",
  "restart",
  "delivered several times",
] as const;
export type ModelFault = (typeof modelFaults)[number];

const LIMIT_MAX = 10_000;
/** Events of the virtual world after which a crash on the way strikes: from nothing sent to all answered. */
const CRASH_AFTER_MAX = 24;
/** An answer is asked for so often. */
const TRIES = 5;

/**
 * Plays paths through a definition's machine on a durable actor and on a plain XState actor of the same machine, and
 * compares value, context, status and output after every step (tags follow from the value), while, under a seed, nodes
 * crash, fail over, restart and frames arrive several times:
 *
 * ```ts
 * await checkModel(order, { events: [{ type: "place", cents: 500 }, { type: "pay", cents: 500 }], seed: 7 });
 * ```
 *
 * An `after` of the machine is a step too: both let its time pass. Custom actions run in both; machines that read a clock
 * or draw random numbers differ from themselves and are reported. A step at which the machine throws ends its path: the
 * durable actor must have refused the event and be as it was. A machine that asks other actors needs a stand-in for that:
 * `machine.provide({ actors: { ask: fromPromise(async () => answer) } })`.
 *
 * @returns what was played
 * @throws TestFailure with the path, the step, the seed and both states; KeyturnError `invalid_options`
 */
export async function checkModel<D extends AnyActorDefinition>(
  definition: D,
  options: ModelOptions<D> = {},
): Promise<ModelReport> {
  if (typeof options !== "object" || options === null)
    throw new KeyturnError(
      "invalid_options",
      "checkModel takes a definition and { events, paths, seed, crashes, limit }.",
    );
  const {
    events = [],
    paths = "shortest",
    seed = 1,
    crashes = 0.3,
    limit = 100,
    nodes = 2,
    actors = [],
  } = options;
  checkWhole("The seed", seed, 0, Number.MAX_SAFE_INTEGER);
  checkWhole("The limit", limit, 1, LIMIT_MAX);
  if (!(typeof crashes === "number" && crashes >= 0 && crashes <= 1))
    throw new KeyturnError(
      "invalid_options",
      `crashes is ${String(crashes)}; it is a probability from 0 to 1.`,
    );
  if (paths !== "shortest" && paths !== "simple")
    throw new KeyturnError("invalid_options", `paths is "${String(paths)}"; it is "shortest" or "simple".`);
  const t = await testRuntime({ actors: [definition, ...actors], seed, nodes });
  try {
    refuseQuestions(definition);
    const random = new Prng(seed, "model");
    const input = { type: definition.type, key: "graph" };
    const found = generated(definition, {
      events: events as readonly AnyEvent[],
      paths,
      limit,
      random,
      input,
    });
    const game = new Game(t, definition, random, crashes, seed);
    for (const [at, path] of found.entries()) await game.play(`path-${at + 1}`, path);
    return game.report(found.length);
  } finally {
    await t.stop();
  }
}

function generated({ machine }: AnyActorDefinition, options: Parameters<typeof pathsOf>[1]): AnyEvent[][] {
  let found: AnyEvent[][];
  try {
    found = pathsOf(machine, options);
  } catch (cause) {
    throw new KeyturnError(
      "invalid_options",
      `No paths can be made of this machine: it threw "${textOf(cause)}" for one of its events. Give examples: checkModel(definition, { events: [{ type: "place", cents: 5 }] }).`,
      { cause },
    );
  }
  if (found.length > 0) return found;
  throw new KeyturnError(
    "invalid_options",
    "The machine names no event in its initial state, so there is no path. Give examples of those that its wildcards take: checkModel(definition, { events }).",
  );
}

class Game {
  readonly #t: TestRuntime;
  readonly #definition: AnyActorDefinition;
  readonly #random: Prng;
  readonly #crashes: number;
  readonly #seed: number;
  readonly #faults = new Map<ModelFault, number>(modelFaults.map((fault) => [fault, 0]));
  #steps = 0;
  #skipped = 0;

  constructor(t: TestRuntime, definition: AnyActorDefinition, random: Prng, crashes: number, seed: number) {
    this.#t = t;
    this.#definition = definition;
    this.#random = random;
    this.#crashes = crashes;
    this.#seed = seed;
  }

  report(paths: number): ModelReport {
    const faults = Object.fromEntries(this.#faults) as Record<ModelFault, number>;
    return { paths, steps: this.#steps, skipped: this.#skipped, faults };
  }

  async play(key: string, path: readonly AnyEvent[]): Promise<void> {
    const ref = this.#t.client.actor(this.#definition, key);
    const done: string[] = [];
    let plain: PlainActor | undefined;
    const begun = (): PlainActor => {
      // A durable actor begins with its first message, and so do its timers.
      plain ??= new PlainActor(this.#definition.machine, { type: this.#definition.type, key }, this.#t.now());
      plain.moveTo(this.#t.now());
      return plain;
    };
    try {
      for (const [at, event] of path.entries()) {
        const fault = this.#random.chance(this.#crashes) ? this.#random.pick(modelFaults) : undefined;
        if (fault !== undefined) this.#faults.set(fault, (this.#faults.get(fault) ?? 0) + 1);
        done.push(
          `${isTime(event) ? `(time: ${event.type})` : showEvent(event)}${fault === undefined ? "" : `   [${fault}]`}`,
        );
        const fail = (lines: readonly string[], cause?: unknown): never =>
          this.#fail(key, done, path, lines, cause);
        const taken = await this.#step(ref, event, `${key}:${at}`, fault, begun, fail);
        if (taken === "skipped") {
          this.#skipped++;
          done.push(`${done.pop()}   (no such timer now)`);
          continue;
        }
        this.#steps++;
        if (taken === "over") return;
      }
      await ref.delete();
    } finally {
      plain?.stop();
    }
  }

  async #step(
    ref: ActorRef,
    event: AnyEvent,
    requestId: string,
    fault: ModelFault | undefined,
    begun: () => PlainActor,
    fail: (lines: readonly string[], cause?: unknown) => never,
  ): Promise<"taken" | "skipped" | "over"> {
    const t = this.#t;
    if (isTime(event)) {
      const timer = (await t.timers(ref)).find((pending) => pending.event.type === event.type);
      if (timer === undefined) return "skipped";
      await this.#with(fault, ref, () => t.advance(Math.max(0, timer.in_ms)));
      begun();
    } else {
      const before = (await ref.get()) as ActorState;
      const plain = begun();
      plain.send(event);
      const result = await this.#with(fault, ref, () => this.#asked(ref, event, requestId));
      if (result.outcome !== "ok") {
        if (isKeyturnError(result.error, "invalid_event") || isKeyturnError(result.error, "reserved_event")) {
          throw new KeyturnError(
            "invalid_options",
            `The event ${showEvent(event)} does not fit the actor "${ref.type}": ${result.error.message} Give an example that does: checkModel(definition, { events }).`,
            { cause: result.error },
          );
        }
        const { code, message } = result.error;
        if (plain.failure === undefined)
          fail(
            [`the durable actor refused it with ${code}: ${message}`, "the plain machine took it"],
            result.error,
          );
        const after = (await ref.get()) as ActorState;
        const changed = differences("state", { ...before }, { ...after }, false);
        if (changed.length > 0) fail(["the durable actor refused it, and yet it changed:", ...changed]);
        return "over";
      }
      if (plain.failure !== undefined)
        fail([`the plain machine threw ${textOf(plain.failure.error)}`, "the durable actor took it"]);
    }
    await t.settle();
    t.deliveredTwice(false);
    const plain = begun();
    const { value, context, status, output } = (await ref.get()) as ActorState;
    const is = { value, context, status, output };
    const lines = differences("state", plain.state, is, false);
    if (lines.length > 0)
      fail([...lines, `plain machine: ${show(plain.state)}`, `durable actor: ${show(is)}`]);
    return "taken";
  }

  /** Does something while something else goes wrong. */
  async #with<T>(fault: ModelFault | undefined, ref: ActorRef, run: () => Promise<T>): Promise<T> {
    const t = this.#t;
    if (fault === "delivered several times") t.deliveredTwice();
    if (fault !== "crash on the way") {
      const done = await run();
      if (fault === "crash") await t.crash();
      if (fault === "failover") await t.failover(ref);
      if (fault === "restart") await t.restart();
      return done;
    }
    const running = run();
    // Its failure is reported when it is awaited.
    running.catch(() => undefined);
    await t.pass(this.#random.whole(1, CRASH_AFTER_MAX));
    await t.crash();
    return running;
  }

  /** Asks until it is answered: under an id of its own, or as the error says. */
  async #asked(ref: ActorRef, event: AnyEvent, requestId: string): Promise<Result<unknown>> {
    let options: CallOptions = this.#random.chance(0.5) ? { requestId } : {};
    for (let tries = 1; ; tries++) {
      const result = await resultOf(ref.ask(event as never, options));
      if (result.outcome === "ok" || !result.error.retryable || tries >= TRIES) return result;
      // Without an id it would be another request.
      const id = options.requestId ?? result.error.requestId;
      if (result.outcome === "unknown" && id === undefined) return result;
      if (result.outcome === "unknown") options = { requestId: id };
    }
  }

  #fail(
    key: string,
    done: readonly string[],
    path: readonly AnyEvent[],
    lines: readonly string[],
    cause?: unknown,
  ): never {
    const { type } = this.#definition;
    throw new TestFailure(
      `The durable actor "${type}/${key}" differs from its plain machine after step ${done.length} of ${path.length}, seed ${this.#seed}:\n` +
        `${done.map((step, at) => `  ${at + 1}. ${step}`).join("\n")}\n  ${lines.join("\n  ")}`,
      { cause, seed: this.#seed },
    );
  }
}
