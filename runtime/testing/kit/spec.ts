/**
 * Given, when, then: what one event, or some time that passes, makes of an actor with a past.
 *
 * Owns the three words and what they compare. Runs on a test runtime, so that schemas, limits and refusals are those of
 * the real engine; what is compared is read through the public client only. The words are those of emmett's
 * `DeciderSpecification`.
 */
import type { AnyActorDefinition, EventFor, StateFor } from "../../engine/definition.ts";
import type { HistoryTurn } from "../../engine/history.ts";
import { type Duration, durationOf, durationText } from "../../words/duration.ts";
import { type ErrorCode, isErrorCode, KeyturnError } from "../../words/errors.ts";
import { differences, show, showEvent, TestFailure } from "./failure.ts";
import { type PendingTimer, testRuntime, type TestRuntime } from "./runtime.ts";

export interface SpecOptions {
  /** Of the actor; "spec" by default. Machines see it in their input. */
  readonly key?: string;
  /** Other actors that take part. What is told to others is compared all the same; it is not delivered. */
  readonly actors?: readonly AnyActorDefinition[];
  /** What the clock shows at the beginning, milliseconds since the epoch or a Date; 2030-01-01T00:00Z by default. */
  readonly at?: number | Date;
  readonly seed?: number;
}

/** An event, or a duration such as "3 days" that passes. */
export type SpecStep<D extends AnyActorDefinition> = EventFor<D> | (string & { readonly type?: never });

/** Any part of a value; arrays are whole. */
export type PartOf<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [K in keyof T]?: PartOf<T[K]> }
    : T;

export interface ExpectedTimer {
  /** From now. */
  readonly in: Duration;
  readonly id?: string;
  readonly event?: { readonly type: string; readonly [name: string]: unknown };
}

/** What is expected; what is left out is not looked at. */
export interface Expectation<D extends AnyActorDefinition> {
  readonly value?: StateFor<D>["value"];
  /** Names that are left out are not looked at, at any depth; arrays are compared as a whole. */
  readonly context?: PartOf<StateFor<D>["context"]>;
  readonly status?: StateFor<D>["status"];
  readonly output?: unknown;
  /** What the machine replied; `undefined` says that it gave no reply of its own. */
  readonly reply?: unknown;
  /** All that was told, in order. */
  readonly told?: readonly {
    readonly to: string;
    readonly event: { readonly type: string; readonly [name: string]: unknown };
  }[];
  /** All that was emitted, in order. */
  readonly emitted?: readonly unknown[];
  /** All timers that stand in the state, earliest first; `id` and `event` are compared where they are given. */
  readonly timers?: readonly ExpectedTimer[];
}

/** What came of it. */
export interface SpecOutcome<D extends AnyActorDefinition> {
  readonly before: StateFor<D>;
  readonly state: StateFor<D>;
  /** Why the event was refused, if it was. */
  readonly rejected: KeyturnError | undefined;
  readonly reply: unknown;
  readonly told: readonly { readonly to: string; readonly event: unknown }[];
  readonly emitted: readonly unknown[];
  readonly timers: readonly PendingTimer[];
}

const expectations = ["value", "context", "status", "output", "reply", "told", "emitted", "timers"] as const;
const STEPS_MAX = 10_000;

/**
 * Says what an actor does, without a word about how it is run:
 *
 * ```ts
 * await spec(order)
 *   .given({ type: "place", cents: 500 }, "2 days")
 *   .when({ type: "pay", cents: 500 })
 *   .then({ value: "paid", context: { paid: 500 }, told: [{ to: "ledger/shop", event: { type: "add", cents: 500 } }] });
 *
 * await spec(order).given({ type: "place", cents: 500 }).when("3 days").then({ value: "cancelled", timers: [] });
 * await spec(order).when({ type: "pay", cents: -1 }).thenRejected("invalid_event");
 * ```
 *
 * The actor runs on a durable runtime in memory, in virtual time (see `testRuntime`). What does not hold is thrown as a
 * TestFailure that lists every difference; so it works in any test runner.
 *
 * @throws KeyturnError `invalid_options`
 */
export function spec<D extends AnyActorDefinition>(definition: D, options: SpecOptions = {}): Spec<D> {
  if (typeof options !== "object" || options === null)
    throw new KeyturnError("invalid_options", "spec takes a definition and { key, actors, at, seed }.");
  return new Spec(definition, options, []);
}

/** What an actor was given, and what shall happen then. Made by `spec(definition)`; each step gives a new one. */
export class Spec<D extends AnyActorDefinition> {
  readonly #definition: D;
  readonly #options: SpecOptions;
  readonly #past: readonly SpecStep<D>[];

  /** @internal */
  constructor(definition: D, options: SpecOptions, past: readonly SpecStep<D>[]) {
    this.#definition = definition;
    this.#options = options;
    this.#past = past;
  }

  /** What happened before, in this order; every event must be accepted. Given again, it is added. */
  given(...steps: readonly SpecStep<D>[]): Spec<D> {
    const past = [...this.#past, ...steps];
    if (past.length > STEPS_MAX)
      throw new KeyturnError("invalid_options", `A past has at most ${STEPS_MAX} steps, not ${past.length}.`);
    return new Spec(this.#definition, this.#options, past);
  }

  /** The event in question, or the time that passes. Nothing runs before something is expected. */
  when(step: SpecStep<D>): SpecWhen<D> {
    return new SpecWhen(this.#definition, this.#options, this.#past, step);
  }
}

/** An event or some time in question. */
export class SpecWhen<D extends AnyActorDefinition> {
  readonly #definition: D;
  readonly #options: SpecOptions;
  readonly #past: readonly SpecStep<D>[];
  readonly #step: SpecStep<D>;

  /** @internal */
  constructor(definition: D, options: SpecOptions, past: readonly SpecStep<D>[], step: SpecStep<D>) {
    this.#definition = definition;
    this.#options = options;
    this.#past = past;
    this.#step = step;
  }

  /**
   * What must have come of it.
   * @throws TestFailure with all differences, also if the event was refused; KeyturnError `invalid_options`
   */
  // biome-ignore lint/suspicious/noThenProperty: the word of the pattern
  then(expected: Expectation<D>): Promise<void>;
  // biome-ignore lint/suspicious/noThenProperty: see above
  then(expected: Expectation<D>, onError?: unknown): Promise<void> {
    if (typeof expected !== "function") return this.#expect(expected);
    // `await` of what has no expectation calls this with two functions. A test that checks nothing must not pass.
    const forgotten = new KeyturnError(
      "invalid_options",
      "Nothing is expected: end with then({ … }), thenRejected(), thenNothing() or outcome().",
    );
    if (typeof onError !== "function") return Promise.reject(forgotten);
    onError(forgotten);
    return Promise.resolve();
  }

  /** What came of it, for assertions of your own. */
  outcome(): Promise<SpecOutcome<D>> {
    return this.#run();
  }

  /**
   * The event must have been refused, and the actor be as it was.
   * @param code which error; any if it is left out
   * @param text what must be in the error's text, or a pattern
   * @throws TestFailure
   */
  async thenRejected(code?: ErrorCode, text?: string | RegExp): Promise<void> {
    if (code !== undefined && !isErrorCode(code))
      throw new KeyturnError("invalid_options", `There is no error code "${String(code)}".`);
    const { rejected, before, state } = await this.#run();
    if (rejected === undefined)
      throw this.#failure([`it was not rejected; the state is ${show(state.value)}, ${show(state.context)}`]);
    const lines: string[] = [];
    if (code !== undefined && rejected.code !== code)
      lines.push(`expected to be rejected with ${code}, was with ${rejected.code}: ${rejected.message}`);
    const fits =
      text === undefined ||
      (typeof text === "string" ? rejected.message.includes(text) : text.test(rejected.message));
    if (!fits) lines.push(`expected the error to say ${show(text)}, it says ${show(rejected.message)}`);
    if (state.turn !== before.turn)
      lines.push(`it was rejected, and yet a turn was taken: ${show(state.value)}`);
    if (lines.length > 0) throw this.#failure(lines, rejected);
  }

  /** It must have changed nothing: same state, same timers, nothing replied, told or emitted. */
  async thenNothing(): Promise<void> {
    const outcome = await this.#run();
    this.#accepted(outcome);
    const { before, state, reply, told, emitted } = outcome;
    const lines = [
      ...differences("value", before.value, state.value, false),
      ...differences("context", before.context, state.context, false),
      ...differences("status", before.status, state.status, false),
      ...differences("reply", undefined, reply, false),
      ...differences("told", [], told, false),
      ...differences("emitted", [], emitted, false),
    ];
    if (lines.length > 0) throw this.#failure(lines);
  }

  async #expect(expected: Expectation<D>): Promise<void> {
    checkExpectation(expected ?? {});
    const outcome = await this.#run();
    this.#accepted(outcome);
    const { state } = outcome;
    const lines: string[] = [];
    const look = (name: (typeof expectations)[number], actual: unknown, partial = false): void => {
      if (Object.hasOwn(expected, name)) lines.push(...differences(name, expected[name], actual, partial));
    };
    look("value", state.value);
    look("context", state.context, true);
    look("status", state.status);
    look("output", state.output);
    look("reply", outcome.reply);
    look("told", outcome.told);
    look("emitted", outcome.emitted);
    if (expected.timers !== undefined) lines.push(...timerDifferences(expected.timers, outcome.timers));
    if (lines.length > 0) throw this.#failure(lines);
  }

  #accepted({ rejected }: SpecOutcome<D>): void {
    if (rejected !== undefined)
      throw this.#failure([`it was rejected with ${rejected.code}: ${rejected.message}`], rejected);
  }

  async #run(): Promise<SpecOutcome<D>> {
    const { key = "spec", actors = [], at, seed } = this.#options;
    const definition: AnyActorDefinition = this.#definition;
    const t = await testRuntime({
      actors: [definition, ...actors],
      ...(at === undefined ? {} : { at }),
      ...(seed === undefined ? {} : { seed }),
    });
    try {
      const ref = t.client.actor(definition, key);
      for (const step of this.#past) {
        const refused = await take(t, ref, step);
        if (refused !== undefined) {
          throw new TestFailure(
            `Given ${shown(step)} was rejected with ${refused.code}: ${refused.message}\n${this.#title()}`,
            { cause: refused },
          );
        }
      }
      const before = await ref.get();
      const rejected = await take(t, ref, this.#step);
      const state = await ref.get();
      const turns: HistoryTurn[] = [];
      for await (const turn of ref.history()) {
        if (turn.turn <= before.turn) break;
        turns.unshift(turn);
      }
      return {
        before: before as StateFor<D>,
        state: state as StateFor<D>,
        rejected,
        reply: turns.find(({ replied }) => replied)?.reply,
        told: turns.flatMap(({ told }) => told),
        emitted: turns.flatMap(({ emitted }) => emitted),
        timers: await t.timers(ref),
      };
    } finally {
      await t.stop();
    }
  }

  #title(): string {
    const past = this.#past.length === 0 ? "nothing" : this.#past.map(shown).join(", ");
    return `  given ${past}\n  when ${shown(this.#step)}`;
  }

  #failure(lines: readonly string[], cause?: unknown): TestFailure {
    const { type } = this.#definition;
    return new TestFailure(
      `An actor of type "${type}" does not do what is expected:\n${this.#title()}\n  then ${lines.join("\n       ")}`,
      { cause },
    );
  }
}

/** One step of a past; answers why it was refused. */
async function take(
  t: TestRuntime,
  ref: ReturnType<TestRuntime["client"]["actor"]>,
  step: unknown,
): Promise<KeyturnError | undefined> {
  if (typeof step === "string") {
    await t.advance(step);
    return undefined;
  }
  try {
    await ref.send(step as { type: string });
  } catch (error) {
    if (!(error instanceof KeyturnError)) throw error;
    return error;
  }
  await t.settle();
  return undefined;
}

function shown(step: unknown): string {
  if (typeof step === "string") return `${step} pass`;
  const isEvent =
    typeof step === "object" && step !== null && typeof (step as { type?: unknown }).type === "string";
  return isEvent ? showEvent(step) : show(step);
}

function timerDifferences(expected: readonly ExpectedTimer[], actual: readonly PendingTimer[]): string[] {
  const wanted = expected
    .map((timer) => ({ ...timer, in_ms: durationOf(timer.in, "An expected timer") }))
    .sort((a, b) => a.in_ms - b.in_ms);
  const text = (list: readonly { in_ms: number; event?: unknown }[]): string =>
    list.length === 0
      ? "no timers"
      : list
          .map(
            ({ in_ms, event }) => `${durationText(in_ms)}${event === undefined ? "" : ` (${shown(event)})`}`,
          )
          .join(", ");
  if (wanted.length !== actual.length) return [`timers: expected ${text(wanted)}, is ${text(actual)}`];
  return wanted.flatMap((timer, at) => {
    const { in_ms, id, event } = actual[at] as PendingTimer;
    return [
      ...differences(`timers[${at}].in`, durationText(timer.in_ms), durationText(in_ms), false),
      ...(timer.id === undefined ? [] : differences(`timers[${at}].id`, timer.id, id, false)),
      ...(timer.event === undefined ? [] : differences(`timers[${at}].event`, timer.event, event, false)),
    ];
  });
}

function checkExpectation(expected: object): void {
  const names = Object.keys(expected);
  const unknown = names.find((name) => !(expectations as readonly string[]).includes(name));
  if (unknown === undefined && names.length > 0) return;
  throw new KeyturnError(
    "invalid_options",
    unknown === undefined
      ? `Nothing is expected. Say at least one of ${expectations.join(", ")}, or thenNothing().`
      : `Nothing called "${unknown}" can be expected, only ${expectations.join(", ")}.`,
  );
}
