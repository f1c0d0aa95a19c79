/**
 * Requests to actors: in order, repeated until their outcome is known, applied once.
 *
 * Owns a lane for each actor that is being asked: what one page asks of one actor goes one behind the other, since two
 * requests on two connections would overtake each other. What came while another was on its way goes together, as one
 * batch. Talks to http.ts.
 *
 * Invariants:
 * 1. From one client to one actor: first in, first out, also over repetitions.
 * 2. A request that may be a turn has an id, the same in all its repetitions, so that it is applied once. A deletion has
 *    none, and is not repeated unless it was certainly not applied.
 * 3. Every call is settled: when its answer is there, its time is over, its signal says so, or the client is closed.
 */
import { fromJson } from "../http/json.ts";
import { KeyturnError } from "../words/errors.ts";
import { errorOf, Failure, type Asked, type Http } from "./http.ts";
import { pause, pauseAfter } from "./pause.ts";

export type Mode = "ask" | "send" | "create" | "get" | "delete";

/** What is asked of an actor. `given` is JSON already. */
export interface Wanted {
  readonly mode: Mode;
  readonly type: string;
  readonly key: string;
  readonly given?: unknown;
  readonly requestId?: string | undefined;
  readonly timeout_ms: number;
  readonly signal?: AbortSignal | undefined;
}

/** What was answered. Position and turn are of the state. */
export interface Answer {
  readonly value?: unknown;
  readonly replied?: boolean;
  readonly state?: unknown;
}

/** Requests that go together: what they answer together has to fit into one answer of the server. */
const TOGETHER = 16;
const TOGETHER_LENGTH = 1024 * 1024;
/** How long one try may take, milliseconds: a connection may be dead without anybody having said so. */
const TRY_MIN_MS = 1_000;
const TRY_MAX_MS = 5_000;
/** What the way takes at most, on top of what the server itself waits. */
const WAY_MS = 1_000;
const FIRST_PAUSE_MS = 150;
const LAST_PAUSE_MS = 3_000;

/** One call until it is settled. */
class Call {
  readonly wanted: Wanted;
  readonly end_ms: number;
  readonly text: string;
  isSettled = false;
  /** What the last try came to; undefined before it was sent. */
  last: KeyturnError | undefined;
  /** A try that is over may have been applied; and whether one is on its way now. */
  maybe = false;
  isOnWay = false;
  /** Called once, when it is settled. */
  settled: () => void = () => undefined;
  readonly #resolve: (answer: Answer) => void;
  readonly #reject: (error: unknown) => void;
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #abort = (): void => this.fail(this.wanted.signal?.reason);

  constructor(wanted: Wanted, resolve: (answer: Answer) => void, reject: (error: unknown) => void) {
    this.wanted = wanted;
    this.text = wanted.given === undefined ? "" : JSON.stringify(wanted.given);
    this.#resolve = resolve;
    this.#reject = reject;
    this.end_ms = performance.now() + wanted.timeout_ms;
    this.#timer = setTimeout(() => this.fail(this.#late()), wanted.timeout_ms);
    wanted.signal?.addEventListener("abort", this.#abort);
    if (wanted.signal?.aborted === true) this.#abort();
  }

  done(answer: Answer): void {
    if (this.#settle()) this.#resolve(answer);
  }

  fail(error: unknown): void {
    if (this.#settle()) this.#reject(error);
  }

  #settle(): boolean {
    if (this.isSettled) return false;
    this.isSettled = true;
    clearTimeout(this.#timer);
    this.wanted.signal?.removeEventListener("abort", this.#abort);
    this.settled();
    return true;
  }

  /** Its time is over. */
  #late(): KeyturnError {
    const { requestId, timeout_ms } = this.wanted;
    const options = { cause: this.last, ...(requestId === undefined ? {} : { requestId }) };
    const isUnknown = this.maybe || this.isOnWay;
    if (this.last === undefined && !isUnknown)
      return new KeyturnError(
        "overloaded",
        `What was asked of this actor before takes too long: this was not sent within ${timeout_ms} ms.`,
      );
    // Certainly not applied, each time.
    if (this.last !== undefined && !isUnknown) return this.last;
    const why = this.last === undefined ? "" : ` ${this.last.message}`;
    return new KeyturnError(
      this.last?.code === "unreachable" ? "unreachable" : "timeout",
      `There was no answer within ${timeout_ms} ms; whether it was applied is unknown.${why}`,
      options,
    );
  }
}

/** What became of one call in one try. */
type Outcome = { readonly answer: Answer } | { readonly error: KeyturnError };

/** All lanes of one client. */
export class Calls {
  readonly #http: Http;
  readonly #lanes = new Map<string, Lane>();
  #isClosed = false;

  constructor(http: Http) {
    this.#http = http;
  }

  run(wanted: Wanted): Promise<Answer> {
    if (this.#isClosed) return Promise.reject(closed());
    const name = `${wanted.type}/${wanted.key}`;
    return new Promise((resolve, reject) => {
      const call = new Call(wanted, resolve, reject);
      let lane = this.#lanes.get(name);
      if (lane === undefined) {
        lane = new Lane(this.#http, () => this.#lanes.delete(name));
        this.#lanes.set(name, lane);
      }
      lane.add(call);
    });
  }

  close(): void {
    this.#isClosed = true;
    for (const lane of this.#lanes.values()) lane.close();
  }
}

/** What is asked of one actor, one behind the other. */
class Lane {
  readonly #http: Http;
  readonly #empty: () => void;
  readonly #waiting: Call[] = [];
  #onWay: readonly Call[] = [];
  #isRunning = false;

  constructor(http: Http, empty: () => void) {
    this.#http = http;
    this.#empty = empty;
  }

  add(call: Call): void {
    this.#waiting.push(call);
    if (!this.#isRunning) void this.#run();
  }

  close(): void {
    for (const call of [...this.#onWay, ...this.#waiting]) call.fail(closed(call.maybe || call.isOnWay));
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    // What one handler of the page asks for in a row goes together.
    await Promise.resolve();
    for (let calls = this.#next(); calls.length > 0; calls = this.#next()) {
      this.#onWay = calls;
      await this.#exchange(calls);
    }
    this.#onWay = [];
    this.#empty();
  }

  #next(): readonly Call[] {
    const calls: Call[] = [];
    for (let length = 0; calls.length < TOGETHER; ) {
      const [call] = this.#waiting;
      if (call === undefined || (calls.length > 0 && length + call.text.length > TOGETHER_LENGTH)) break;
      this.#waiting.shift();
      if (call.isSettled) continue;
      length += call.text.length;
      calls.push(call);
    }
    return calls;
  }

  /** Until all of them are settled. */
  async #exchange(calls: readonly Call[]): Promise<void> {
    const over = new AbortController();
    for (const call of calls)
      call.settled = () => {
        if (calls.every(({ isSettled }) => isSettled)) over.abort();
      };
    for (let tries = 1; ; tries++) {
      const open = calls.filter(({ isSettled }) => !isSettled);
      if (open.length === 0) return;
      const after_ms = await this.#try(open, over.signal);
      if (over.signal.aborted) return;
      const own_ms = pauseAfter(tries, FIRST_PAUSE_MS, LAST_PAUSE_MS);
      await pause(Math.max(own_ms, after_ms ?? 0), over.signal);
    }
  }

  /** Settles what can be. @returns how long the server wants to be left alone */
  async #try(calls: readonly Call[], over: AbortSignal): Promise<number | undefined> {
    const left_ms = Math.max(...calls.map(({ end_ms }) => end_ms)) - performance.now();
    const try_ms = Math.max(1, Math.round(Math.min(left_ms, Math.max(TRY_MIN_MS, left_ms / 3), TRY_MAX_MS)));
    const stop = new AbortController();
    const abort = (): void => stop.abort(over.reason);
    const late = setTimeout(
      () => stop.abort(new Failure(new KeyturnError("timeout", "The server takes too long."))),
      try_ms + WAY_MS,
    );
    over.addEventListener("abort", abort);
    for (const call of calls) call.isOnWay = true;
    try {
      const outcomes = await outcomesOf(this.#http, calls, try_ms, stop.signal);
      settle(calls, outcomes);
      return undefined;
    } catch (thrown) {
      if (over.aborted) return undefined;
      const failure = thrown instanceof Failure ? thrown : new Failure(unreadable(thrown));
      settle(
        calls,
        calls.map(() => ({ error: failure.error })),
      );
      return failure.after_ms;
    } finally {
      clearTimeout(late);
      over.removeEventListener("abort", abort);
    }
  }
}

function settle(calls: readonly Call[], outcomes: readonly Outcome[]): void {
  /** Something behind this one was applied: to repeat what was not would turn their order round. */
  let isOvertaken = false;
  for (let at = calls.length - 1; at >= 0; at--) {
    const [call, outcome] = [calls[at] as Call, outcomes[at] as Outcome];
    call.isOnWay = false;
    if ("answer" in outcome) {
      isOvertaken = true;
      call.done(outcome.answer);
      continue;
    }
    const { error } = outcome;
    call.last = error;
    const isUnknown = error.outcome === "unknown";
    const again = error.retryable && (isUnknown ? call.wanted.mode !== "delete" : !isOvertaken);
    if (!again)
      call.fail(call.maybe && error.outcome === "notApplied" ? doubtful(call.wanted, error) : error);
    if (isUnknown) call.maybe = true;
  }
}

/** A repetition was not let in; the try before it was not answered, and may have been applied. */
function doubtful({ requestId }: Wanted, cause: KeyturnError): KeyturnError {
  const text = `Whether it was applied is unknown: it was not answered, and then refused. ${cause.message}`;
  return new KeyturnError("timeout", text, { cause, ...(requestId === undefined ? {} : { requestId }) });
}

function unreadable(cause: unknown): KeyturnError {
  return new KeyturnError("server_unsuitable", "The server's answer cannot be read.", { cause });
}

async function outcomesOf(
  http: Http,
  calls: readonly Call[],
  try_ms: number,
  signal: AbortSignal,
): Promise<readonly Outcome[]> {
  const timeout = { "keyturn-timeout": String(try_ms) };
  const [call] = calls as readonly [Call];
  if (calls.length === 1 && !isDots(call.wanted.key)) {
    const { mode } = call.wanted;
    const body = await http.json(asked(call, timeout), signal);
    return [outcomeOf(call, mode === "ask" ? body : { state: body })];
  }
  const requests = calls.map(({ wanted: { mode, type, key, given, requestId } }) => ({
    mode,
    type,
    key,
    ...(given === undefined ? {} : { [mode === "create" ? "input" : "event"]: given }),
    ...(requestId === undefined ? {} : { requestId }),
  }));
  const asks: Asked = { method: "POST", path: "/batch", headers: timeout, body: { requests } };
  const { results } = ((await http.json(asks, signal)) ?? {}) as { results?: readonly unknown[] };
  return calls.map((one, at) => outcomeOf(one, results?.[at]));
}

/** No client puts those into a path. */
function isDots(key: string): boolean {
  return key === "." || key === "..";
}

function asked({ wanted }: Call, timeout: Readonly<Record<string, string>>): Asked {
  const { mode, type, key, given, requestId } = wanted;
  const path = `/actors/${encodeURIComponent(type)}/${encodeURIComponent(key)}`;
  const headers = { ...timeout, ...(requestId === undefined ? {} : { "idempotency-key": requestId }) };
  if (mode === "get") return { method: "GET", path, headers };
  if (mode === "delete") return { method: "DELETE", path, headers };
  const query = mode === "ask" ? "" : `?mode=${mode}`;
  return { method: "POST", path: path + query, headers, ...(given === undefined ? {} : { body: given }) };
}

/** What one result of a batch says, or the only answer in the same form. */
function outcomeOf({ wanted }: Call, result: unknown): Outcome {
  const { problem, value, replied, state, position } = (result ?? {}) as Readonly<Record<string, unknown>>;
  if (problem !== undefined) {
    const error = errorOf(problem, wanted.requestId);
    return { error: error ?? new KeyturnError("server_unsuitable", "The server refused it without a code.") };
  }
  const isState = typeof state === "object" && state !== null;
  if (!isState && wanted.mode !== "send" && wanted.mode !== "delete")
    return { error: new KeyturnError("server_unsuitable", "The server's answer has no state.") };
  const whole = position === undefined ? state : { ...(state as object), position };
  const answer: Answer = isState
    ? { value: fromJson(value ?? null, "value"), replied: replied === true, state: fromJson(whole, "state") }
    : {};
  return { answer };
}

function closed(maybe = false): KeyturnError {
  return new KeyturnError(maybe ? "client_closed" : "client_ended", "The client is closed.");
}
