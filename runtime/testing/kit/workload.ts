/**
 * A workload of the simulator for any definition, whose model is the plain machine.
 *
 * Owns what clients ask and what must be true of it afterwards. Talks to the simulator (as a Workload) and to replay.ts.
 *
 * What is checked of each actor, out of its own history:
 * 1. Its turns are 1, 2, 3, … and replaying their events through the plain machine gives each turn's state.
 * 2. A request that was answered is exactly one turn: the one whose number and position the answer names, with that event
 *    and that state. No two answers name the same turn, and what one process asked one after the other is in that order.
 * 3. Every other turn is due to a `send` that was acknowledged, to a request whose outcome is unknown, to a message told,
 *    or to a timer, each used up by one turn. So nothing is applied twice, what was refused never, and no acknowledged
 *    `send` is missing.
 * 4. The state that is read at the end is that of the last turn.
 */
import type { ActorRef, Client } from "../../client/client.ts";
import type { ActorState, AnyActorDefinition, EventFor } from "../../engine/definition.ts";
import type { HistoryTurn } from "../../engine/history.ts";
import { KeyturnError, textOf } from "../../words/errors.ts";
import type { Prng } from "../simulator/prng.ts";
import { insist, type Result, resultOf, type Workload, type WorkloadContext } from "../simulator/workload.ts";
import { differences, equal, show, showEvent, textOfValue } from "./failure.ts";
import { type MachineState, Replay } from "./replay.ts";

export interface WorkloadOptions<D extends AnyActorDefinition, E extends EventFor<D> = EventFor<D>> {
  /** The next event to send, drawn; also to which of the keys, if that matters. */
  readonly events: (random: Prng, key: string) => E;
  /** How many actors, at most; 3 by default. */
  readonly keys?: number;
  /** Client processes that ask at once, at most; 3 by default. */
  readonly processes?: number;
  /** Other actors that take part. */
  readonly actors?: readonly AnyActorDefinition[];
}

const KEYS_MAX = 1_000;
const PROCESSES_MAX = 100;
const VIOLATIONS_MAX = 10;

interface Asked {
  readonly key: string;
  readonly process: number;
  readonly event: unknown;
  outcome: Result<unknown>["outcome"];
  /** What was answered; of a `send` nothing is. */
  state: ActorState | undefined;
}

/**
 * The workload of a definition, to be run with others of your own; `simulateActor` runs it alone.
 * @throws KeyturnError `invalid_options`
 */
export function workloadOf<D extends AnyActorDefinition, const E extends EventFor<D>>(
  definition: D,
  options: WorkloadOptions<D, E>,
): Workload {
  if (typeof options?.events !== "function") {
    throw new KeyturnError(
      "invalid_options",
      'A workload needs events: { events: (random) => ({ type: "add", by: random.whole(1, 9) }) }.',
    );
  }
  if (definition?.machine?.root !== undefined && hasChildren(definition.machine)) {
    throw new KeyturnError(
      "invalid_options",
      `"${definition.type}" invokes or spawns actors, which the pure machine that a simulation compares it with does not run. Check it with checkModel (with stand-ins for what it asks other actors), or write a Workload of your own.`,
    );
  }
  const { keys = 3, processes = 3, actors = [] } = options;
  for (const [name, value, most] of [
    ["keys", keys, KEYS_MAX],
    ["processes", processes, PROCESSES_MAX],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < 1 || value > most)
      throw new KeyturnError(
        "invalid_options",
        `${name} is ${value}; it is a whole number from 1 to ${most}.`,
      );
  }
  return {
    name: `actor ${definition.type}`,
    actors: [definition, ...actors],
    begin: (context) => {
      const run = new Run(
        definition,
        options.events as (random: Prng, key: string) => unknown,
        context,
        keys,
      );
      const count = context.random.whole(1, processes);
      return {
        processes: Array.from({ length: count }, (_, at) => () => run.ask(at)),
        finish: () => run.finish(),
        check: () => run.violations,
      };
    },
  };
}

class Run {
  readonly violations: string[] = [];
  readonly #definition: AnyActorDefinition;
  readonly #events: (random: Prng, key: string) => unknown;
  readonly #context: WorkloadContext;
  readonly #keys: readonly string[];
  readonly #asked: Asked[] = [];

  constructor(
    definition: AnyActorDefinition,
    events: (random: Prng, key: string) => unknown,
    context: WorkloadContext,
    keys: number,
  ) {
    this.#definition = definition;
    this.#events = events;
    this.#context = context;
    this.#keys = Array.from({ length: context.random.whole(1, keys) }, (_, at) => `k${at}`);
  }

  /** One client process: asks, one after the other. */
  async ask(process: number): Promise<void> {
    const context = this.#context;
    const { random, clients } = context;
    const client = clients[process % clients.length] as Client;
    const refs = new Map(this.#keys.map((key) => [key, client.actor(this.#definition, key)]));
    for (let made = 0; made < context.requests && !context.ending; made++) {
      const key = random.pick(this.#keys);
      const ref = refs.get(key) as ActorRef;
      const event = this.#events(random, key) as { type: string };
      const asked: Asked = { key, process, event, outcome: "unknown", state: undefined };
      this.#asked.push(asked);
      let requestId = random.chance(0.3) ? `${process}.${made}` : undefined;
      const sends = random.chance(0.3);
      const call = async (): Promise<ActorState | undefined> => {
        const options = { timeout_ms: context.timeout_ms(), requestId };
        if (!sends) return (await ref.call(event, options)).state as ActorState;
        await ref.send(event, options);
        return undefined;
      };
      let result = await resultOf(call());
      // Some ask again until they know. Without an id that would be another request.
      const repeats = random.chance(0.5);
      while (repeats && result.outcome === "unknown" && result.error.retryable && !context.ending) {
        requestId ??= result.error.requestId;
        if (requestId === undefined) break;
        const again = await resultOf(call());
        // What refuses the repetition says nothing of the first one.
        if (again.outcome === "failed") break;
        result = again;
      }
      asked.outcome = result.outcome;
      if (result.outcome === "ok") asked.state = result.value;
      if (random.chance(0.3)) await context.sleep(random.logarithmic(0.1, 300));
    }
  }

  /** Reads every actor's past and compares. */
  async finish(): Promise<void> {
    const past = new Map<string, readonly HistoryTurn[]>();
    const last = new Map<string, ActorState>();
    for (const key of this.#keys) {
      const ref = this.#context.observer.actor(this.#definition, key);
      last.set(key, (await insist(this.#context, () => ref.get())) as ActorState);
      past.set(key, (await insist(this.#context, () => turnsOf(ref))) as readonly HistoryTurn[]);
    }
    const told = [...past.values()].flat().flatMap((turn) => turn.told);
    for (const key of this.#keys) {
      const turns = past.get(key) ?? [];
      const replay = this.#replayed(key, turns, last.get(key) as ActorState);
      this.#account(key, turns, replay?.scheduled ?? [], told);
    }
  }

  /** Compares every turn with the plain machine. */
  #replayed(key: string, turns: readonly HistoryTurn[], last: ActorState): Replay | undefined {
    let replay: Replay;
    try {
      replay = new Replay(this.#definition.machine, { type: this.#definition.type, key });
      for (const [at, turn] of turns.entries()) {
        if (turn.turn !== at + 1) {
          this.#violated(key, `turn ${at + 1} of the history is numbered ${turn.turn}`);
          return replay;
        }
        if (turn.refusal === undefined) replay.take(turn.event);
        if (!this.#same(key, `after turn ${turn.turn} (${showEvent(turn.event)})`, replay.state, turn))
          return replay;
      }
    } catch (error) {
      this.#violated(key, `the plain machine threw for what the durable actor took: ${textOf(error)}`);
      return undefined;
    }
    const { value, context, status, turn } = last;
    if (turn !== turns.length)
      this.#violated(key, `it says it took ${turn} turns, its history has ${turns.length}`);
    this.#same(key, "at the end", replay.state, { value, context, status });
    return replay;
  }

  #same(
    key: string,
    when: string,
    plain: MachineState,
    { value, context, status }: Pick<ActorState, "value" | "context" | "status">,
  ): boolean {
    const model = { value: plain.value, context: plain.context, status: plain.status };
    const lines = differences("state", model, { value, context, status }, false);
    if (lines.length > 0) this.#violated(key, `differs from the plain machine ${when}: ${lines.join("; ")}`);
    return lines.length === 0;
  }

  /** Whose turn each turn is. */
  #account(
    key: string,
    turns: readonly HistoryTurn[],
    scheduled: readonly unknown[],
    told: readonly { readonly to: string; readonly event: unknown }[],
  ): void {
    const owners = new Map<number, Asked>();
    const newest = new Map<number, number>();
    for (const asked of this.#asked) {
      const { state, event, process } = asked;
      if (asked.key !== key || state === undefined) continue;
      const turn = turns[state.turn - 1];
      const name = `${showEvent(event)} of process ${process}, answered as turn ${state.turn},`;
      if (turn === undefined || turn.position !== state.position || !equal(turn.event, event)) {
        const there = turn === undefined ? "has no such turn" : `has ${showEvent(turn.event)} there`;
        this.#violated(key, `${name} is not in its history, which ${there}`);
        continue;
      }
      if (owners.has(state.turn)) this.#violated(key, `${name} shares it with another request`);
      owners.set(state.turn, asked);
      const { value, context, status } = state;
      const lines = differences(
        "state",
        { value: turn.value, context: turn.context, status: turn.status },
        { value, context, status },
        false,
      );
      if (lines.length > 0)
        this.#violated(key, `${name} was answered with another state: ${lines.join("; ")}`);
      if (state.turn <= (newest.get(process) ?? 0))
        this.#violated(key, `${name} comes before what the process had asked earlier`);
      newest.set(process, state.turn);
    }
    const left = new Map<string, number>();
    const add = (event: unknown): void => {
      const text = textOfValue(event);
      left.set(text, (left.get(text) ?? 0) + 1);
    };
    const owed: string[] = [];
    for (const asked of this.#asked) {
      if (asked.key !== key || asked.state !== undefined || asked.outcome === "failed") continue;
      add(asked.event);
      if (asked.outcome === "ok") owed.push(textOfValue(asked.event));
    }
    for (const { to, event } of told) if (to === `${this.#definition.type}/${key}`) add(event);
    for (const event of scheduled) add(event);
    for (const turn of turns) {
      if (owners.has(turn.turn)) continue;
      const text = textOfValue(turn.event);
      const count = left.get(text) ?? 0;
      if (count === 0) {
        this.#violated(
          key,
          `turn ${turn.turn} took ${show(turn.event)}, which nobody sent who was not answered for another turn: applied twice, or although it was refused`,
        );
      }
      left.set(text, count - 1);
      const at = owed.indexOf(text);
      if (at >= 0) owed.splice(at, 1);
    }
    for (const text of owed.slice(0, 1))
      this.#violated(key, `${text} was sent and acknowledged, and is no turn of the history: lost`);
  }

  #violated(key: string, text: string): void {
    if (this.violations.length < VIOLATIONS_MAX)
      this.violations.push(`${this.#definition.type}/${key}: ${text}`);
  }
}

/** What `assign` may spawn cannot be seen from here; it shows as a difference. */
function hasChildren(machine: AnyActorDefinition["machine"]): boolean {
  const nodes = [machine.root];
  for (const node of nodes) {
    if (node.invoke.length > 0) return true;
    nodes.push(...(Object.values(node.states) as (typeof machine.root)[]));
  }
  return false;
}

async function turnsOf(ref: ActorRef): Promise<HistoryTurn[]> {
  const turns: HistoryTurn[] = [];
  for await (const turn of ref.history({ order: "oldest" })) turns.push(turn);
  return turns;
}
