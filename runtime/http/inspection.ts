/**
 * An actor in the protocol of Stately's inspector (`@statelyai/inspect`): `@xstate.actor` with the machine's definition,
 * and for each turn an `@xstate.event` and an `@xstate.snapshot`.
 *
 * Owns the form. What an actor's machine has invoked and spawned are actors of their own here, with their parent's
 * session: each is told of when it is first seen, whenever a turn has changed it, and once more when it is gone.
 *
 * The turns are read from the history as the actor's state changes, so none is missed and what is seen is committed.
 * Whoever is too slow, or away, for more turns than a page of history has is told the newest. Talks to the client.
 */
import type { ActorRef } from "../client/client.ts";
import type { ActorState, AnyActorDefinition, ChildState } from "../engine/definition.ts";
import type { HistoryTurn } from "../engine/history.ts";
import { configText } from "../engine/machine/chart.ts";
import { splitPath } from "../engine/machine/family.ts";
import { FAILED, OBSERVABLE_NEXT, PROMISE_REJECT, PROMISE_RESOLVE } from "../engine/machine/internals.ts";
import { InnerMachines } from "../engine/machine/machines.ts";
import { limits } from "../words/limits.ts";
import { toJson } from "./json.ts";

/** Version of the package whose receivers this is made for. */
const PROTOCOL = "0.7.2";
/** Events that are for a child itself: what its work outside gave. */
const OF_WORK: ReadonlySet<string> = new Set([PROMISE_RESOLVE, PROMISE_REJECT, OBSERVABLE_NEXT, FAILED]);

/** Who is told. */
export interface InspectionOutput {
  readonly signal: AbortSignal;
  /** Resolves when there is room for more. */
  tell(json: string): Promise<void>;
}

type Children = Readonly<Record<string, ChildState>>;

/** What all of the protocol's events have. */
interface Told {
  readonly type: "@xstate.actor" | "@xstate.event" | "@xstate.snapshot";
  readonly sessionId: string;
  readonly rootId: string;
  /** Milliseconds since the epoch, as a text. */
  readonly createdAt: string;
  readonly id: string;
  readonly _version: string;
}

interface Seen {
  readonly src: string;
  /** The text of its snapshot as it was told last. */
  readonly snapshot: string;
}

export class Inspection {
  readonly #ref: ActorRef;
  readonly #out: InspectionOutput;
  readonly #definition: AnyActorDefinition | undefined;
  readonly #machines: InnerMachines | undefined;
  readonly #root: string;
  readonly #seen = new Map<string, Seen>();
  /** The last turn that was told. */
  #turn = 0;
  #number = 0;

  constructor(ref: ActorRef, out: InspectionOutput, definition: AnyActorDefinition | undefined) {
    this.#ref = ref;
    this.#out = out;
    this.#definition = definition;
    this.#machines = definition && new InnerMachines(definition);
    this.#root = ref.address;
  }

  /** Tells of the actor, of so many of its past turns, and of all that come, until nobody listens. */
  async run(first: ActorState, past: number): Promise<void> {
    this.#turn = Math.max(0, first.turn - past);
    await this.#tellActor(first);
    if (first.turn === 0) await this.#tellChildren(first.children, Date.now(), { type: "xstate.init" });
    for await (const state of this.#ref.watch({ signal: this.#out.signal })) await this.#tellUpTo(state);
  }

  async #tellActor(state: ActorState): Promise<void> {
    const definition =
      this.#definition === undefined
        ? JSON.stringify({ id: this.#ref.type })
        : configText(this.#definition.machine);
    const parts = { name: this.#root, definition, snapshot: this.#snapshotOf(state, state.children) };
    await this.#tell("@xstate.actor", this.#root, Date.now(), parts);
  }

  async #tellUpTo(state: ActorState): Promise<void> {
    // A later life counts from 1 again.
    if (state.turn < this.#turn) {
      this.#turn = 0;
      await this.#tellChildren({}, Date.now(), { type: "xstate.stop" });
      await this.#tellActor(state);
    }
    if (state.turn <= this.#turn) return;
    for (const turn of await this.#turnsSince(state.turn)) await this.#tellTurn(turn);
  }

  /** Turns that are not told, oldest first. More may have come since one of them was seen, and pages may be short. */
  async #turnsSince(seen: number): Promise<HistoryTurn[]> {
    const found: HistoryTurn[] = [];
    let limit = Math.min(seen - this.#turn, limits.historyPage);
    let cursor: string | undefined;
    do {
      const page = await this.#ref.historyPage({ order: "newest", limit, cursor });
      for (const turn of page.turns) {
        if (turn.turn <= this.#turn) return found.reverse();
        found.push(turn);
      }
      cursor = page.next;
      limit = limits.historyPage - found.length;
    } while (cursor !== undefined && limit > 0);
    return found.reverse();
  }

  async #tellTurn(turn: HistoryTurn): Promise<void> {
    const { type } = turn.event as { readonly type: string };
    const event = toJson(turn.event);
    const receiver = OF_WORK.has(type) ? this.#worker(turn.children) : "";
    await this.#tell("@xstate.event", this.#sessionOf(receiver), turn.time, { event });
    const snapshot = this.#snapshotOf(turn, turn.children);
    await this.#tell("@xstate.snapshot", this.#root, turn.time, { event, snapshot });
    await this.#tellChildren(turn.children, turn.time, { type });
    this.#turn = turn.turn;
  }

  /** The path of the child that a turn has moved on outside of any machine; "" if that is not sure. */
  #worker(children: Children = {}): string {
    const moved = Object.entries(children).filter(([path, child]) => {
      const before = this.#seen.get(path);
      if (before === undefined || child.value !== undefined) return false;
      return before.snapshot !== JSON.stringify(this.#snapshotOf(child, children, path));
    });
    return moved.length === 1 ? (moved[0]?.[0] as string) : "";
  }

  /** Tells of the children that are new, have changed, or are gone. */
  async #tellChildren(given: Children | undefined, time: number, event: { type: string }): Promise<void> {
    const children = given ?? {};
    for (const [path, { src }] of this.#seen) {
      if (children[path]?.src === src) continue;
      this.#seen.delete(path);
      const gone = { event, snapshot: { status: "stopped", children: {} } };
      await this.#tell("@xstate.snapshot", this.#sessionOf(path), time, gone);
    }
    for (const [path, child] of Object.entries(children)) {
      const snapshot = this.#snapshotOf(child, children, path);
      const text = JSON.stringify(snapshot);
      const before = this.#seen.get(path);
      if (before?.snapshot === text) continue;
      this.#seen.set(path, { src: child.src, snapshot: text });
      const session = this.#sessionOf(path);
      if (before !== undefined) await this.#tell("@xstate.snapshot", session, time, { event, snapshot });
      else await this.#tell("@xstate.actor", session, time, this.#beginning(path, children, snapshot));
    }
  }

  #beginning(path: string, children: Children, snapshot: object): object {
    const { parent, id } = splitPath(path);
    const machine = this.#machines?.of(path, (at) => children[at]?.src);
    const definition = machine === undefined ? JSON.stringify({ id }) : configText(machine);
    return { name: id, parentId: this.#sessionOf(parent), definition, snapshot };
  }

  async #tell(type: Told["type"], sessionId: string, time: number, parts: object): Promise<void> {
    const told: Told = {
      type,
      sessionId,
      rootId: this.#root,
      createdAt: String(Math.round(time)),
      id: `${this.#root} ${++this.#number}`,
      _version: PROTOCOL,
    };
    await this.#out.tell(JSON.stringify({ ...told, ...parts }));
  }

  /** Of the actor itself, or of the child at a path. */
  #sessionOf(path: string): string {
    return path === "" ? this.#root : `${this.#root}#${path}`;
  }

  /** As XState's own snapshots are written as JSON. */
  #snapshotOf(of: Snapshot, children: Children = {}, path = ""): object {
    const { status, value, context, tags, output, error } = of;
    const own: Record<string, object> = {};
    for (const below of Object.keys(children)) {
      const { parent, id } = splitPath(below);
      if (parent === path) own[id] = { xstate$$type: 1, id: this.#sessionOf(below) };
    }
    return {
      status,
      ...(value === undefined ? {} : { value }),
      ...(context === undefined ? {} : { context: toJson(context) }),
      children: own,
      ...(tags === undefined ? {} : { tags }),
      ...(output === undefined || output === null ? {} : { output: toJson(output) }),
      ...(error === undefined ? {} : { error: toJson(error) }),
    };
  }
}

/** What states of actors, turns and children have in common. */
interface Snapshot {
  readonly status: ActorState["status"];
  readonly value?: unknown;
  readonly context?: unknown;
  readonly tags?: readonly string[];
  readonly output?: unknown;
  readonly error?: unknown;
}
