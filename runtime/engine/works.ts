/**
 * The work that this node runs for its actors: invoked promises, callbacks and observables.
 *
 * What is to run stands in the actors' states, as timers (machine.ts, `WORK`): so who takes a shard over finds it in the
 * due index and runs it again. This file owns what is running here and what waits for its turn; it does not keep actors
 * in memory. Results go back to the engine as messages. Talks to machine/work.ts, which runs the user's code.
 *
 * Invariants:
 * 1. Only what is committed is run, and what ended in a committed turn is stopped.
 * 2. Per node, an actor's session runs once at a time.
 * 3. At most `promisesAtOnce` promises run, and of a type at most its `invoke.atOnce`; the others wait in order.
 */
import type { Clock } from "../ports/index.ts";
import { KeyturnError } from "../words/errors.ts";
import { limits } from "../words/limits.ts";
import { isSampled } from "../words/trace.ts";
import { seal, ValueFault } from "../words/values.ts";
import type { Activation } from "./activation.ts";
import { familyOf, isWorkTimer, plainError, type Timer, type WorkEvent } from "./machine.ts";
import type { Member } from "./machine/family.ts";
import { type EventObject, FAILED, type XActor } from "./machine/internals.ts";
import type { LogicKind } from "../words/mailbox.ts";
import { type RunningWork, runWork, type WorkOrder } from "./machine/work.ts";
import type { ShardState } from "./shard.ts";
import type { Telemetry } from "./telemetry.ts";

/** Takes what work sends: to the child that it is of or, without a session, to the machine itself. */
export type Deliver = (
  shard: ShardState,
  id: string,
  key: string,
  session: string | undefined,
  event: EventObject,
  sender: string,
  trace: string | undefined,
) => void;

/** Work of an actor on this node, as people see it. */
export interface WorkHere {
  readonly path: string;
  readonly src: string;
  readonly kind: LogicKind;
  /** When it began first, milliseconds since the epoch. */
  readonly begun: number;
  readonly attempt: number;
  /** False while it waits for its turn. */
  readonly isRunning: boolean;
}

interface Piece {
  readonly shard: ShardState;
  readonly path: string;
  readonly kind: LogicKind;
  readonly begun: number;
  readonly type: string;
  readonly id: string;
  readonly order: WorkOrder;
  /** As its timer has it; the order's is higher if it may have run before. */
  readonly attempt: number;
  readonly promise: boolean;
  /** Of its type, how many promises run at once. */
  readonly atOnce: number;
  /** Undefined while it waits for its turn. */
  running: RunningWork | undefined;
  readonly start: () => RunningWork;
}

export class Works {
  readonly #clock: Clock;
  readonly #deliver: Deliver;
  readonly #failed: (id: string, what: string, error: unknown) => void;
  readonly #atOnce: number;
  readonly #telemetry: Telemetry | undefined;
  /** By actor and session. */
  readonly #pieces = new Map<string, Map<string, Piece>>();
  readonly #waiting = new Set<Piece>();
  readonly #running = new Map<string, number>();
  #promises = 0;

  constructor(
    clock: Clock,
    atOnce: number,
    deliver: Deliver,
    failed: (id: string, what: string, error: unknown) => void,
    telemetry?: Telemetry,
  ) {
    this.#telemetry = telemetry;
    this.#clock = clock;
    this.#atOnce = atOnce;
    this.#deliver = deliver;
    this.#failed = failed;
  }

  /** Promises that run here. */
  get promises(): number {
    return this.#promises;
  }

  /** Those that wait for their turn. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Whether something runs or waits here for an actor. */
  has(id: string): boolean {
    return this.#pieces.has(id);
  }

  /** The work of an actor that is here, whether it runs or waits for its turn. */
  of(id: string): readonly WorkHere[] {
    return [...(this.#pieces.get(id)?.values() ?? [])].map(
      ({ path, kind, begun, order: { src, attempt }, running }) => ({
        path,
        src,
        kind,
        begun,
        attempt,
        isRunning: running !== undefined,
      }),
    );
  }

  /**
   * Runs what an actor's committed state says should run and does not, and stops the rest.
   * @param again whether it may have run before: the actor has just been loaded
   * @param trace of the turn that has begun what begins now, for what its timer does not know: one that is not recorded
   */
  sync(a: Activation, again: boolean, trace?: string): void {
    const works = a.committed.timers.filter(isWorkTimer);
    for (const [session, piece] of this.#pieces.get(a.id) ?? [])
      if (!works.some((timer) => timer.source === session && attemptOf(timer) === piece.attempt))
        this.#end(piece);
    const now = this.#clock.now();
    for (const timer of works) {
      const session = timer.source as string;
      if (timer.due > now) continue;
      // Until it has ended, whoever takes the shard over has to find it in the due index.
      const { taken } = a.shard.due;
      taken.set(a.id, Math.min(timer.due, taken.get(a.id) ?? timer.due));
      if (this.#pieces.get(a.id)?.has(session) === true) continue;
      const member = familyOf(a.committed.snapshot)?.bySession(session);
      if (member !== undefined) this.#begin(a, member, timer, again, timer.trace ?? trace);
    }
  }

  /** An event for a callback. */
  receive(id: string, session: string, event: EventObject): void {
    this.#pieces.get(id)?.get(session)?.running?.receive(event);
  }

  /** The shard leaves this node. */
  stopShard(shard: ShardState): void {
    // First what waits: the end of another would begin it.
    for (const piece of this.#waiting) if (piece.shard === shard) this.#waiting.delete(piece);
    for (const pieces of this.#pieces.values())
      for (const piece of pieces.values()) if (piece.shard === shard) this.#end(piece);
  }

  stop(): void {
    this.#waiting.clear();
    for (const pieces of this.#pieces.values()) for (const piece of pieces.values()) this.#end(piece);
  }

  #begin(
    a: Activation,
    { path, actor, session, src, snapshot, kind }: Member,
    timer: Timer,
    again: boolean,
    trace: string | undefined,
  ): void {
    const { begun, attempt } = timer.event as WorkEvent;
    const { definition, host } = a.hosted;
    const order: WorkOrder = {
      id: actor.id,
      session,
      src,
      logic: host.logicOf(actor),
      snapshot,
      idempotencyKey: `${a.id}:${session}:${begun}`,
      attempt: attempt + (again ? 1 : 0),
      trace,
      within: this.#withinOf(trace),
      owner: () => a.committed.snapshot?.context,
    };
    const parent = parentSession(actor);
    const { shard, id, key } = a;
    const piece: Piece = {
      shard,
      path,
      kind,
      begun,
      type: definition.type,
      id,
      order,
      attempt,
      promise: kind === "promise",
      atOnce: definition.invoke.atOnce ?? this.#atOnce,
      running: undefined,
      start: () =>
        runWork(order, {
          deliver: (to, event) => {
            const kept = storable(event);
            const own = to === "self" || kept.type === FAILED;
            this.#deliver(shard, id, key, own ? session : parent, kept, session, trace);
          },
          failed: (error) => this.#failed(id, src, error),
        }),
    };
    let pieces = this.#pieces.get(id);
    if (pieces === undefined) this.#pieces.set(id, (pieces = new Map()));
    pieces.set(session, piece);
    if (!piece.promise || this.#hasRoom(piece)) this.#run(piece);
    else this.#waiting.add(piece);
  }

  /** How the user's code is run in the context of the turn that has begun it. */
  #withinOf(trace: string | undefined): WorkOrder["within"] {
    const telemetry = this.#telemetry;
    if (telemetry === undefined || trace === undefined || !isSampled(trace)) return undefined;
    return (run) => telemetry.within(trace, run);
  }

  #hasRoom({ type, atOnce }: Piece): boolean {
    return this.#promises < this.#atOnce && (this.#running.get(type) ?? 0) < atOnce;
  }

  #run(piece: Piece): void {
    if (piece.promise) {
      this.#promises++;
      this.#running.set(piece.type, (this.#running.get(piece.type) ?? 0) + 1);
    }
    piece.running = piece.start();
  }

  #end(piece: Piece): void {
    const pieces = this.#pieces.get(piece.id);
    pieces?.delete(piece.order.session);
    if (pieces?.size === 0) this.#pieces.delete(piece.id);
    this.#waiting.delete(piece);
    if (piece.running === undefined) return;
    piece.running.stop();
    if (!piece.promise) return;
    this.#promises--;
    this.#running.set(piece.type, (this.#running.get(piece.type) as number) - 1);
    this.#startWaiting();
  }

  #startWaiting(): void {
    for (const piece of this.#waiting) {
      if (this.#promises >= this.#atOnce) return;
      if (!this.#hasRoom(piece)) continue;
      this.#waiting.delete(piece);
      this.#run(piece);
    }
  }
}

function attemptOf(timer: Timer): number {
  return (timer.event as WorkEvent).attempt;
}

/** The session of an actor's parent; undefined if that is the durable actor's own machine. */
function parentSession(actor: XActor): string | undefined {
  const parent = actor._parent;
  return parent?._parent === undefined ? undefined : parent.sessionId;
}

/** An event from outside as it can be kept; what cannot be becomes the work's own failure. */
function storable(event: EventObject): EventObject {
  const { data } = event as EventObject & { data?: unknown };
  const plain = data instanceof KeyturnError ? ({ ...event, data: plainError(data) } as EventObject) : event;
  try {
    const bytes = seal(plain, "event");
    if (bytes <= limits.eventBytes) return plain;
    return failure(`it takes about ${bytes} bytes, at most ${limits.eventBytes} are allowed.`);
  } catch (fault) {
    if (!(fault instanceof ValueFault)) throw fault;
    return failure(fault.message);
  }
}

function failure(problem: string): EventObject {
  const message = `What came of it cannot be kept: ${problem}`;
  const data = plainError(new KeyturnError("context_invalid", message));
  const event = { type: FAILED, data };
  seal(event, "event");
  return event;
}
