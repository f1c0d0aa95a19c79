/**
 * A key's book: how an event changes what is kept of a key, and what waits.
 *
 * Owns all decisions of a function type's turns, as functions from a context and an event to what changes; machine.ts puts
 * them into a machine. Talks to run.ts, which runs user code, keeping.ts for the states and
 * answers.ts.
 *
 * A context holds the states by their names (one that is missing has its initial value), and what events.ts names.
 *
 * Invariants:
 * 1. While a function runs outside, every other event waits, in order and within bounds; each is then processed as if it
 *    had come just now. An event that was taken is never dropped in silence: whoever called learns what became of it, and
 *    what nobody waits for becomes a dead letter.
 * 2. A turn that ends what ran outside, or goes on with what waits, cannot fail: what would make it fail is found before,
 *    and refuses the one event that is to blame. Otherwise the key would be stuck.
 */
import { moment, type Performance, type Wish } from "../engine/machine.ts";
import { KeyturnError } from "../words/errors.ts";
import { sizeOf } from "../words/values.ts";
import { keepAnswers } from "./answers.ts";
import {
  type Answer,
  CALL,
  DONE,
  DRAIN,
  EXPIRE,
  KEY,
  LATER,
  type Pending,
  QUEUE,
  REFUSED,
  RUNNING,
  SET,
  TAKEN,
  UPDATE,
} from "./events.ts";
import type { FunctionSpec } from "./function.ts";
import type { Home, Outcome } from "./invocation.ts";
import { type Context, expired, Keeping, type Patch, put, standing, valuesOf, wake } from "./keeping.ts";
import { type Compiled, compile, failure, failureOf, runHandler } from "./run.ts";
import { areKept, checkKept, deadLetter, spared, tooLarge } from "./settling.ts";
import type { State } from "./state.ts";
import { updated } from "./update.ts";

interface Event {
  readonly type: string;
  readonly [name: string]: unknown;
}

const none: readonly Wish[] = [];
/** In one turn, what waited may send so many messages, and so many bytes; the rest goes on in the next. */
const DRAIN_WISHES = 512;
const DRAIN_BYTES = 128 * 1024;
const REASON_LENGTH = 1_000;

export class Book {
  readonly home: Home;
  readonly #mailbox: number;
  readonly #functions = new Map<string, Compiled>();
  readonly #keeping: Keeping;
  /** What the turn that is being taken wants done. */
  #performance: Performance = { replied: false, reply: undefined, wishes: none };
  /** What clients wait for, of that turn. */
  #answers: Answer[] = [];

  constructor(home: Home, specs: readonly FunctionSpec[], mailbox: number) {
    this.home = home;
    this.#mailbox = mailbox;
    const states = new Map<string, State>();
    for (const spec of specs) {
      this.#functions.set(spec.name, compile(spec));
      for (const state of Object.values(spec.states)) {
        const known = states.get(state.name);
        if (known !== undefined && known !== state)
          throw new KeyturnError(
            "invalid_options",
            `"${home.type}" has two states "${state.name}". Declare it once, and name it where it is needed.`,
          );
        states.set(state.name, state);
      }
    }
    this.#keeping = new Keeping(states);
  }

  readonly performance = (): Performance => this.#performance;

  isFor(event: Event, name: string): boolean {
    // Whether it is a call that holds an event at all is for the turn to say.
    const inner = event.type === CALL ? (event.event as Event | undefined) : event;
    return inner?.type === name;
  }

  #isAsync(event: Event): boolean {
    return this.#functions.get(event.type)?.spec.work !== undefined;
  }

  // ---- Events, while nothing runs outside -------------------------------------------------------------------------

  take(context: Context, event: Event): Patch {
    const compiled = this.#functions.get(event.type);
    if (compiled !== undefined) {
      const { now } = moment;
      const values = valuesOf(compiled, context, now);
      const outcome = runHandler(this.home, compiled, event, values, context[KEY] as string, now);
      const { state, result, wishes } = outcome;
      this.#performance = { replied: true, reply: result, wishes };
      if (!compiled.expires) return state ?? {};
      const more = [...wishes];
      const next = this.#keeping.write({ ...context }, compiled, state, now, more);
      this.#performance = { replied: true, reply: result, wishes: more };
      return next;
    }
    const next = { ...context };
    const called = event.type === CALL;
    const outcome = this.#apply(next, called ? innerOf(event) : event, moment.now);
    this.#performance = {
      replied: true,
      reply: called ? { result: outcome.result } : outcome.result,
      wishes: outcome.wishes,
    };
    return next;
  }

  /** An event for a function that runs outside; the machine goes to it. */
  begin(context: Context, event: Event): Patch {
    const pending = this.#pending(context, event);
    this.#reply(pending);
    return { [TAKEN]: pending.ticket, [RUNNING]: pending };
  }

  // ---- Events, while something does -------------------------------------------------------------------------------

  wait(context: Context, event: Event): Patch {
    const queue = queueOf(context);
    const pending = this.#pending(context, event);
    // What was told or comes from a timer has nobody who could try again: it is refused later.
    const most = pending.called ? this.#mailbox : this.#mailbox * 4;
    if (queue.length >= most)
      throw new KeyturnError(
        "mailbox_full",
        `${queue.length} events wait for ${this.#address(context)}, which runs "${runningOf(context)?.event.type ?? "what waited"}". Try again later.`,
      );
    this.#reply(pending);
    return { [TAKEN]: pending.ticket, [QUEUE]: [...queue, pending] };
  }

  settle(context: Context, outcome: Outcome): Patch {
    const { now } = moment;
    return this.#end(context, (next, compiled) => {
      if (outcome.error !== undefined) throw failureOf(compiled.spec.name, outcome.error);
      const wishes = [...outcome.wishes];
      this.#keeping.write(next, compiled, outcome.state, now, wishes);
      return { ...outcome, wishes };
    });
  }

  fail(context: Context, error: unknown): Patch {
    return this.#end(context, (_next, { spec }) => {
      throw failureOf(spec.name, error);
    });
  }

  timeOut(context: Context): Patch {
    return this.#end(context, (_next, { spec }) => {
      const text = `"${spec.name}" did not end within ${spec.timeout_ms} ms. Nothing of it counts, but what it did outside may be done.`;
      throw new KeyturnError("function_timed_out", text);
    });
  }

  /** Goes on with what waits. */
  drain(context: Context): Patch {
    const next = { ...context };
    const wishes: Wish[] = [];
    this.#answers = [];
    this.#drain(next, wishes);
    keepAnswers(next, next, this.#answers);
    this.#performance = { replied: false, reply: undefined, wishes };
    return next;
  }

  /** Once more what waits, and then an event that has come meanwhile. */
  waitAndDrain(context: Context, event: Event): Patch {
    const waiting = this.wait(context, event);
    const { reply } = this.#performance;
    const next = this.drain({ ...context, ...waiting });
    const deferred = moment.asker !== undefined;
    this.#performance = { ...this.#performance, replied: true, reply, deferred };
    return next;
  }

  // ---- Timers, and what is refused --------------------------------------------------------------------------------

  /** Whether an event is of a timer of ours, or a refusal: nothing waits for those. */
  isOwn({ type }: Event): boolean {
    return type === LATER || type === EXPIRE || type === REFUSED;
  }

  own(context: Context, { type, to, event, code, message }: Event): Patch {
    if (type === EXPIRE) {
      const wishes: Wish[] = [];
      const next = expired(context, moment.now, wishes);
      this.#performance = { replied: false, reply: undefined, wishes };
      return next;
    }
    if (type === REFUSED) throw failureOf(this.home.type, { code, message });
    this.#performance = {
      replied: false,
      reply: undefined,
      wishes: [{ kind: "tell", to: to as string, event }],
    };
    return {};
  }

  // ---- What runs outside ------------------------------------------------------------------------------------------

  running(context: Context): string | undefined {
    return runningOf(context)?.event.type;
  }

  waits(context: Context): boolean {
    return queueOf(context).length > 0;
  }

  /** What an invocation is given of the states: as they were when it began, also when it is run again. */
  input(context: Context): Record<string, unknown> {
    const { event, now } = runningOf(context) as Pending;
    const { states } = this.#functions.get(event.type) as Compiled;
    const values: Record<string, unknown> = {};
    for (const [, state] of states) values[state.name] = standing(state, context, now);
    return values;
  }

  /** What runs: it stands in the context for as long as it does. */
  pending(context: Context): Pending {
    return runningOf(context) as Pending;
  }

  // -----------------------------------------------------------------------------------------------------------------

  #address(context: Context): string {
    return `${this.home.type}/${String(context[KEY])}`;
  }

  #pending(context: Context, event: Event): Pending {
    const ticket = ((context[TAKEN] as number | undefined) ?? 0) + 1;
    const pending = { ticket, event: innerOf(event), now: moment.now, called: event.type === CALL };
    return moment.asker === undefined ? pending : { ...pending, asker: moment.asker };
  }

  #reply({ ticket, asker }: Pending): void {
    const deferred = asker !== undefined;
    this.#performance = { replied: true, reply: { waits: ticket }, wishes: none, deferred };
  }

  /** What ran is over. */
  #end(context: Context, outcome: (next: Patch, compiled: Compiled) => Outcome): Patch {
    const wishes: Wish[] = [];
    const pending = runningOf(context) as Pending;
    const compiled = this.#functions.get(pending.event.type) as Compiled;
    this.#answers = [];
    if (queueOf(context).length === 0) return this.#endAlone(context, pending, compiled, wishes, outcome);
    const next: Patch = { ...context, [RUNNING]: undefined };
    this.#attempt(next, pending, wishes, (draft) => outcome(draft, compiled));
    this.#drain(next, wishes);
    keepAnswers(next, next, this.#answers);
    this.#performance = { replied: false, reply: undefined, wishes };
    return next;
  }

  /** Nothing waits. If the engine cannot keep what comes of it, it has this function fail with that instead. */
  #endAlone(
    context: Context,
    pending: Pending,
    compiled: Compiled,
    wishes: Wish[],
    outcome: (next: Patch, compiled: Compiled) => Outcome,
  ): Patch {
    // What expires is looked at; else only what changes has to be there.
    const next: Patch = compiled.expires ? { ...context } : {};
    next[RUNNING] = undefined;
    next[DONE] = pending.ticket;
    try {
      const { result, wishes: more } = outcome(next, compiled);
      for (const wish of more) wishes.push(wish);
      this.#answer(pending, result, wishes);
    } catch (thrown) {
      this.#refuse(context, pending, thrown, wishes);
    }
    keepAnswers(context, next, this.#answers);
    this.#performance = { replied: false, reply: undefined, wishes };
    return next;
  }

  #drain(next: Patch, wishes: Wish[]): void {
    const queue = [...queueOf(next)];
    const first = wishes.length;
    while (queue.length > 0) {
      if (wishes.length > first && (wishes.length > DRAIN_WISHES || sizeOf(wishes) > DRAIN_BYTES)) {
        wishes.push({ kind: "later", id: "~drain", delay_ms: 0, event: { type: DRAIN } });
        break;
      }
      const pending = queue.shift() as Pending;
      const { now } = moment;
      if (this.#isAsync(pending.event)) {
        if (!this.#fits(next, pending, wishes)) continue;
        next[RUNNING] = { ...pending, now };
        break;
      }
      this.#attempt(next, pending, wishes, (draft) => this.#apply(draft, pending.event, now));
    }
    if (queue.length !== queueOf(next).length) next[QUEUE] = queue;
  }

  /** Whether an invocation can begin: its states go with it, so they are kept twice. */
  #fits(next: Patch, pending: Pending, wishes: Wish[]): boolean {
    if (areKept(next, this.input({ ...next, [RUNNING]: pending }))) return true;
    this.#attempt(next, pending, wishes, () => {
      throw tooLarge(this.#address(next));
    });
    return false;
  }

  /** Tries what an event wants in a draft; it is kept if all of it can be stored. */
  #attempt(next: Patch, pending: Pending, wishes: Wish[], work: (draft: Patch) => Outcome): void {
    const { ticket } = pending;
    next[DONE] = ticket;
    try {
      const draft = { ...next };
      const outcome = work(draft);
      const address = this.#address(next);
      checkKept(address, draft, outcome.result, outcome.wishes, wishes.length);
      Object.assign(next, draft);
      for (const wish of outcome.wishes) wishes.push(spared(address, wish));
      this.#answer(pending, outcome.result, wishes);
    } catch (thrown) {
      this.#refuse(next, pending, thrown, wishes);
    }
  }

  #answer({ ticket, called, asker }: Pending, value: unknown, wishes: Wish[]): void {
    if (asker !== undefined) wishes.push({ kind: "answer", to: asker, value });
    else if (called) this.#answers.push({ ticket, value });
  }

  #refuse(next: Context, { ticket, event, called, asker }: Pending, thrown: unknown, wishes: Wish[]): void {
    const fault = failure(event.type, thrown);
    const error = { code: fault.code, message: fault.message.slice(0, REASON_LENGTH) };
    if (asker !== undefined) wishes.push({ kind: "answer", to: asker, value: undefined, error });
    else if (called) this.#answers.push({ ticket, error });
    else wishes.push(deadLetter(this.#address(next), event, error));
  }

  /** What an event that does not run outside does. Writes into `next`. */
  #apply(next: Patch, event: Event, now: number): Outcome {
    const compiled = this.#functions.get(event.type);
    if (compiled !== undefined) {
      const values = valuesOf(compiled, next, now);
      const outcome = runHandler(this.home, compiled, event, values, next[KEY] as string, now);
      const wishes = [...outcome.wishes];
      this.#keeping.write(next, compiled, outcome.state, now, wishes);
      return { ...outcome, wishes };
    }
    if (event.type !== UPDATE && event.type !== SET)
      throw new KeyturnError(
        "invalid_event",
        `"${this.home.type}" has no function "${String(event.type).slice(0, 80)}". It has: ${[...this.#functions.keys()].join(", ")}.`,
      );
    const state = this.#keeping.states.get(event.state as string);
    if (state === undefined)
      throw new KeyturnError(
        "invalid_event",
        `"${this.home.type}" has no state "${String(event.state).slice(0, 80)}".`,
      );
    const value =
      event.type === SET
        ? event.value
        : updated(state.name, standing(state, next, now), event.operand, event.operation);
    const wishes: Wish[] = [];
    put(next, state, value, now);
    wake(next, now, wishes);
    return { state: undefined, result: value === undefined ? state.initial : value, wishes };
  }
}

function innerOf(event: Event): Event {
  if (event.type !== CALL) return event;
  const inner = event.event as Event | undefined;
  if (typeof inner?.type !== "string")
    throw new KeyturnError(
      "invalid_event",
      `A call holds the event that it is about: { type: "${CALL}", event }.`,
    );
  return inner;
}

function queueOf(context: Context): readonly Pending[] {
  return (context[QUEUE] as readonly Pending[] | undefined) ?? [];
}

function runningOf(context: Context): Pending | undefined {
  return context[RUNNING] as Pending | undefined;
}
