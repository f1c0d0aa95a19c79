/**
 * Seeded bugs: what would happen if one safeguard were missing. The simulator must notice each.
 *
 * Patches prototypes of the runtime from the outside while one run lasts; the runtime knows nothing of it. A bug that
 * is not caught within its budget of seeds means that the simulator is too weak.
 */
import { Checkpointer } from "../../runtime/engine/checkpoint.ts";
import type { Activation } from "../../runtime/engine/activation.ts";
import { Catalogs } from "../../runtime/engine/catalog/catalogs.ts";
import { IndexWriter } from "../../runtime/engine/catalog/index-writer.ts";
import { kinds } from "../../runtime/engine/catalog/known.ts";
import { ShardRows } from "../../runtime/engine/catalog/rows.ts";
import { HistoryReader } from "../../runtime/engine/history.ts";
import { Engine } from "../../runtime/engine/engine.ts";
import { Client } from "../../runtime/client/client.ts";
import { SharedAsks } from "../../runtime/client/shared-asks.ts";
import { Membership } from "../../runtime/cluster/membership.ts";
import { Orphans } from "../../runtime/cluster/orphans.ts";
import { type VersionedCandidate, VersionedPlacement } from "../../runtime/cluster/versioned-placement.ts";
import { Parking } from "../../runtime/engine/parking.ts";
import { decodeBatch } from "../../runtime/engine/record.ts";
import { Replayer } from "../../runtime/rebuild/life.ts";
import { Replay } from "../../runtime/rebuild/replay.ts";
import { Saver } from "../../runtime/engine/saver.ts";
import { Family, familyOf } from "../../runtime/engine/machine/family.ts";
import { Tree } from "../../runtime/engine/machine/tree.ts";
import { OutChannel, Session, ShardState } from "../../runtime/engine/shard.ts";
import { decodeSnapshot, encodeSnapshot } from "../../runtime/engine/state.ts";
import { DueHeap } from "../../runtime/engine/timers.ts";
import { Turns } from "../../runtime/engine/turns.ts";
import { Works } from "../../runtime/engine/works.ts";
import { type Disk, noFaults, type Scenario } from "../../runtime/testing/simulator/index.ts";
import { CancelTimer, Send, Unwatch } from "../../runtime/words/frames.ts";
import { laneOfChannel } from "../../runtime/words/lanes.ts";
import { forgetIndexes, isForgetful } from "./forgetful.ts";

export interface Bug {
  readonly name: string;
  /** What is missing. */
  readonly text: string;
  /** Workloads that it shows in; all by default. */
  readonly workloads?: readonly string[];
  /** What every seed's scenario has in common, for bugs that show in few. */
  readonly focus?: Partial<Scenario>;
  /** Seeds within which it must be caught. */
  readonly budget: number;
  /**
   * A seed of those that is known to catch it: it is played first, and if it does, the others are not. What seeds draw
   * changes with the workloads there are; then the budget says how long the search may be.
   */
  readonly seed?: number;
  /** Puts it in. Called before a run, with the run's disk. */
  install(disk: Disk, patch: Patcher): void;
}

/** Replaces methods and puts them back. */
export class Patcher {
  readonly #undo: (() => void)[] = [];

  /** Replaces a method by what `make` makes of the original. */
  replace<T extends object, K extends keyof T>(target: T, name: K, make: (original: T[K]) => T[K]): void {
    const before = Object.getOwnPropertyDescriptor(target, name);
    const original = target[name];
    Object.defineProperty(target, name, { value: make(original), configurable: true, writable: true });
    this.#undo.push(() => {
      if (before === undefined) delete target[name];
      else Object.defineProperty(target, name, before);
    });
  }

  undo(): void {
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }
}

/** Many clients on both sides of long partitions, and little else. */
const divided: Partial<Scenario> = {
  nodes: 3,
  shards: 2,
  clients: 5,
  calamities: { partition: 1 },
  settings: { lease_ms: 300, heartbeat_ms: 60 },
  calm_ms: 300,
  safety_ms: 6_000,
  requests: 60,
};

/** Nodes that pause for about a lease, and a store that takes its time. */
const paused: Partial<Scenario> = {
  nodes: 4,
  shards: 16,
  calamities: { pause: 1 },
  settings: { lease_ms: 300, heartbeat_ms: 100 },
  rates: { ...noFaults, storeMean_ms: 3 },
  calm_ms: 60,
  safety_ms: 10_000,
  requests: 200,
};

/** Nodes that come and go, and copies of the directory that are behind. */
const behind: Partial<Scenario> = {
  nodes: 3,
  shards: 8,
  calamities: { join: 1, crash: 1, stop: 1 },
  settings: { lease_ms: 300, heartbeat_ms: 60 },
  rates: { ...noFaults, lag_ms: 300 },
  calm_ms: 300,
  safety_ms: 6_000,
};

/** Which engine has a shard; noted when it is given one. */
function enginesOf(patch: Patcher): Map<ShardState, Engine> {
  const engines = new Map<ShardState, Engine>();
  patch.replace(
    Engine.prototype,
    "addShard",
    (original) =>
      function (this: Engine, shard) {
        engines.set(shard, this);
        original.call(this, shard);
      },
  );
  return engines;
}

export const bugs: readonly Bug[] = [
  {
    name: "no-fence",
    text: "an append expects whatever the lane's last sequence is, so a seal stops nobody",
    budget: 150,
    install(disk, patch) {
      const { journal } = disk.memory;
      patch.replace(journal, "append", (original) => async (lane, expected, bytes) => {
        const seal = decodeBatch(bytes, 0).header.sealedBy !== undefined;
        return original.call(journal, lane, seal ? expected : await journal.last(lane), bytes);
      });
    },
  },
  {
    name: "answer-before-commit",
    text: "send is answered when the turn is stepped, before its append",
    workloads: ["list", "bank"],
    budget: 150,
    install(_disk, patch) {
      const engines = enginesOf(patch);
      const sends = new WeakMap<Session, Set<number>>();
      const homes = new WeakMap<Session, ShardState>();
      patch.replace(
        Engine.prototype,
        "receive",
        (original) =>
          function (this: Engine, shard, frame) {
            original.call(this, shard, frame);
            if (frame.kind !== "request") return;
            const session = shard.sessions.get(frame.session);
            if (session === undefined || frame.epoch !== shard.epoch) return;
            homes.set(session, shard);
            frame.requests.forEach((request, at) => {
              const number = frame.first + at;
              const known = sends.get(session) ?? new Set<number>();
              sends.set(session, known);
              if (request.kind !== Send || known.has(number) || number > session.last) return;
              known.add(number);
              engines.get(shard)?.parts.store.transport.publish(`client.${session.name}`, {
                kind: "reply",
                from: this.parts.incarnation,
                replies: [[shard.shard, number, undefined, undefined]],
              });
            });
          },
      );
    },
  },
  {
    name: "trims-too-much",
    text: "the journal is trimmed up to a lane's last entry, whatever recovery needs of it",
    focus: { ...behind, keepBytes: 0, settings: { lease_ms: 300, heartbeat_ms: 60, trim_ms: 100 } },
    budget: 40,
    install(disk, patch) {
      const { retention } = disk.memory;
      patch.replace(retention, "trim", (original) => (lane) => original.call(retention, lane, disk.lastSeq));
    },
  },
  {
    name: "trims-one-too-many",
    text: "the first entry that recovery needs of a lane is trimmed too",
    focus: { ...behind, keepBytes: 0, settings: { lease_ms: 300, heartbeat_ms: 60, trim_ms: 100 } },
    budget: 40,
    install(disk, patch) {
      const { retention, journal } = disk.memory;
      patch.replace(retention, "trim", (original) => async (lane, upTo) => {
        for await (const [next] of journal.read(lane, upTo + 1, disk.lastSeq))
          return original.call(retention, lane, next?.seq ?? upTo);
      });
    },
  },
  {
    name: "no-request-dedupe",
    text: "a session takes every request for a new one",
    budget: 60,
    install(_disk, patch) {
      patch.replace(Session.prototype, "classify", () => () => "next" as const);
    },
  },
  {
    name: "no-told-dedupe",
    text: "a channel between shards takes repeated messages for new ones",
    workloads: ["bank"],
    budget: 80,
    install(_disk, patch) {
      patch.replace(
        Engine.prototype,
        "receive",
        (original) =>
          function (this: Engine, shard, frame) {
            if (frame.kind === "told" && shard.phase === "serving")
              shard.in(frame.fromShard).accepted = frame.first - 1;
            original.call(this, shard, frame);
          },
      );
      patch.replace(
        Parking.prototype,
        "mustWait",
        (original) =>
          function (this: Parking, a, job) {
            const isOld = !a.loading && job.number <= job.shard.in(job.fromShard).stepped;
            return !isOld && original.call(this, a, job);
          },
      );
      patch.replace(
        Parking.prototype,
        "taken",
        (original) =>
          function (this: Parking, a, job) {
            const channel = job.fromShard < 0 ? undefined : job.shard.in(job.fromShard);
            const before = channel?.stepped ?? 0;
            original.call(this, a, job);
            if (channel !== undefined && channel.stepped < before) channel.stepped = before;
          },
      );
    },
  },
  {
    name: "lost-channel-order",
    text: "a channel between shards goes on behind a gap",
    workloads: ["bank"],
    budget: 80,
    install(_disk, patch) {
      patch.replace(
        Engine.prototype,
        "receive",
        (original) =>
          function (this: Engine, shard, frame) {
            if (frame.kind === "told" && shard.phase === "serving") {
              const channel = shard.in(frame.fromShard);
              channel.accepted = Math.max(channel.accepted, frame.first - 1);
            }
            original.call(this, shard, frame);
          },
      );
    },
  },
  {
    name: "tail-cut-early",
    text: "a checkpoint cuts the tail three entries beyond what is saved",
    budget: 150,
    seed: 11,
    install(_disk, patch) {
      patch.replace(
        Checkpointer.prototype,
        "cutAt",
        (original) =>
          function (this: Checkpointer) {
            return original.call(this) + 3;
          },
      );
    },
  },
  {
    name: "snapshots-not-saved",
    text: "a checkpoint cuts the tail without having written the snapshots",
    budget: 60,
    install(_disk, patch) {
      patch.replace(Saver.prototype, "save", () => () => Promise.resolve());
    },
  },
  {
    name: "index-read-late",
    text: "a shard's entry says that its due index holds nothing before a time when it does",
    workloads: ["timers"],
    budget: 150,
    seed: 7,
    install(_disk, patch) {
      patch.replace(
        Checkpointer.prototype,
        "dueFrom",
        (original) =>
          function (this: Checkpointer, shard) {
            return original.call(this, shard) + 200;
          },
      );
    },
  },
  {
    name: "backlog-off-the-index",
    text: "a shard's entry leaves out timers that are overdue and wait for their turn",
    workloads: ["timers"],
    focus: {
      nodes: 2,
      shards: 2,
      calamities: { crash: 1 },
      settings: {
        lease_ms: 300,
        heartbeat_ms: 100,
        checkpoint_ms: 300,
        overdue_ms: 1,
        overduePerSecond: 5,
      },
      calm_ms: 500,
      safety_ms: 6_000,
    },
    budget: 20,
    install(_disk, patch) {
      patch.replace(
        DueHeap.prototype,
        "earliest",
        () =>
          function (this: DueHeap) {
            return this.next();
          },
      );
    },
  },
  {
    name: "timer-twice",
    text: "a timer that fires is not taken away in the same look",
    workloads: ["timers"],
    budget: 60,
    install(_disk, patch) {
      const fired = new WeakMap<Activation, ReturnType<Turns["dueTimers"]>>();
      patch.replace(
        Turns.prototype,
        "dueTimers",
        (original) =>
          function (this: Turns, a, now) {
            const due = original.call(this, a, now);
            const again = due.length === 0 ? (fired.get(a) ?? []) : [];
            fired.set(a, due);
            const { latest } = a;
            if (again.length > 0)
              Object.defineProperty(latest, "timers", { value: [...latest.timers, ...again] });
            return [...due, ...again];
          },
      );
    },
  },
  {
    name: "timer-early",
    text: "a timer fires 50 ms before it is due",
    workloads: ["timers"],
    budget: 60,
    install(_disk, patch) {
      patch.replace(
        Turns.prototype,
        "dueTimers",
        (original) =>
          function (this: Turns, a, now) {
            return original.call(this, a, now + 50);
          },
      );
    },
  },
  {
    name: "stale-read",
    text: "a node believes for ever that its lease holds",
    workloads: ["register"],
    focus: divided,
    budget: 600,
    install(_disk, patch) {
      patch.replace(Membership.prototype, "holds", () => () => true);
    },
  },
  {
    name: "stale-find",
    text: "a node that believes for ever that its lease holds answers questions about a type",
    workloads: ["finding"],
    focus: divided,
    budget: 100,
    install(_disk, patch) {
      patch.replace(Membership.prototype, "holds", () => () => true);
    },
  },
  {
    name: "find-misses-commits",
    text: "what is committed while the stored actors of a type are read is not noted",
    workloads: ["finding"],
    budget: 100,
    install(_disk, patch) {
      let noting = false;
      patch.replace(
        Catalogs.prototype,
        "note",
        (original) =>
          function (this: Catalogs, a, turn) {
            noting = true;
            original.call(this, a, turn);
            noting = false;
          },
      );
      patch.replace(
        ShardRows.prototype,
        "set",
        (original) =>
          function (this: ShardRows, row) {
            if (!noting || this.complete) original.call(this, row);
          },
      );
    },
  },
  {
    name: "find-misses-deletions",
    text: "what is deleted while the stored actors of a type are read is found in the store all the same",
    workloads: ["finding"],
    budget: 100,
    install(_disk, patch) {
      patch.replace(
        ShardRows.prototype,
        "delete",
        (original) =>
          function (this: ShardRows, key) {
            const { deleted } = this;
            original.call(this, key);
            deleted?.delete(key);
          },
      );
    },
  },
  {
    name: "trimming-not-told",
    text: "a history that is not whole does not say so",
    workloads: ["remembering"],
    budget: 60,
    install(_disk, patch) {
      patch.replace(
        HistoryReader.prototype,
        "page",
        (original) =>
          async function (this: HistoryReader, ...args) {
            const page = await original.apply(this, args);
            return { ...page, turns: page.turns.map(({ trimmed: _, ...turn }) => turn) };
          },
      );
    },
  },
  {
    name: "pinned-too-late",
    text: "a pinned snapshot of a store is pinned one batch behind what is committed",
    workloads: ["storing"],
    budget: 60,
    install(_disk, patch) {
      patch.replace(
        Client.prototype,
        "positions",
        (original) =>
          async function (this: Client, type, options) {
            return (await original.call(this, type, options)).map((position) => position + 1);
          },
      );
    },
  },
  {
    name: "change-not-told",
    text: "of several changes that a watch asks for the first is left out",
    workloads: ["watching"],
    budget: 120,
    seed: 38,
    install(_disk, patch) {
      patch.replace(
        ShardRows.prototype,
        "changedSince",
        (original) =>
          function (this: ShardRows, number) {
            const changed = original.call(this, number);
            return changed === undefined || changed.length < 2 ? changed : changed.slice(1);
          },
      );
    },
  },
  {
    name: "watch-goes-back",
    text: "a watch that has read everything shares the answer to a question that was asked before",
    workloads: ["watching"],
    budget: 120,
    seed: 43,
    install(_disk, patch) {
      patch.replace(
        SharedAsks.prototype,
        "ask",
        (original) =>
          function (this: SharedAsks, shard, type, query, timeout_ms) {
            return original.call(this, shard, type, query, timeout_ms, false);
          },
      );
    },
  },
  {
    name: "index-not-written",
    text: "a checkpoint cuts the tail although the stored index lacks what is in it",
    workloads: ["finding"],
    budget: 100,
    install(_disk, patch) {
      patch.replace(IndexWriter.prototype, "write", () => () => Promise.resolve());
    },
  },
  {
    name: "index-misses-deletions",
    text: "a deletion is left out of the stored index where the actor was never stored",
    workloads: ["finding"],
    budget: 250,
    seed: 187,
    install(_disk, patch) {
      patch.replace(IndexWriter.prototype, "deleted", () => () => undefined);
    },
  },
  {
    name: "index-not-waited-for",
    text: "a catalog is read from an index that lacks what was stored since the last checkpoint",
    workloads: ["finding"],
    budget: 150,
    install(_disk, patch) {
      patch.replace(IndexWriter.prototype, "waiting", () => () => []);
    },
  },
  {
    name: "find-older-first",
    text: "what was stored of an actor stands before what memory knows of it",
    workloads: ["finding"],
    budget: 150,
    install(_disk, patch) {
      const order = [...kinds].reverse();
      for (const [place, kind] of order.entries()) patch.replace(kinds as (typeof kind)[], place, () => kind);
    },
  },
  {
    name: "index-believed",
    text: "an index is taken for whole although an owner in between did not keep it",
    workloads: ["finding"],
    budget: 150,
    seed: 108,
    install(_disk, patch) {
      forgetIndexes(patch);
      patch.replace(
        IndexWriter.prototype,
        "add",
        (original) =>
          function (this: IndexWriter, shard) {
            original.call(this, shard);
            if (!isForgetful(shard)) shard.indexed.add("simFound");
          },
      );
    },
  },
  {
    name: "cancel-unrecorded",
    text: "a delay is answered to be cancelled, and stays",
    workloads: ["cancelling"],
    budget: 100,
    install(_disk, patch) {
      const engines = enginesOf(patch);
      patch.replace(
        Engine.prototype,
        "receive",
        (original) =>
          function (this: Engine, shard, frame) {
            if (frame.kind !== "request" || frame.epoch !== shard.epoch) {
              original.call(this, shard, frame);
              return;
            }
            const requests = frame.requests.map((request, at) => {
              if (request.kind !== CancelTimer) return request;
              engines.get(shard)?.parts.store.transport.publish(`client.${frame.session}`, {
                kind: "reply",
                from: this.parts.incarnation,
                replies: [[shard.shard, frame.first + at, undefined, true]],
              });
              return { ...request, kind: Unwatch, event: "" } as const;
            });
            original.call(this, shard, { ...frame, requests });
          },
      );
    },
  },
  {
    name: "cut-apart",
    text: "a source's partition takes a batch by its revision alone, wherever it begins",
    workloads: ["feeding"],
    budget: 100,
    install(_disk, patch) {
      patch.replace(
        Engine.prototype,
        "receive",
        (original) =>
          function (this: Engine, shard, frame) {
            if (frame.kind !== "request") return original.call(this, shard, frame);
            const requests = frame.requests.map((request) => {
              const { behind: _, ...event } = Object(request.event) as { behind?: unknown; type?: string };
              return event.type === "items" ? { ...request, event } : request;
            });
            original.call(this, shard, { ...frame, requests });
          },
      );
    },
  },
  {
    name: "settled-too-soon",
    text: "a view is said to have everything as soon as it is on its way",
    workloads: ["emitting"],
    budget: 60,
    install(_disk, patch) {
      patch.replace(OutChannel.prototype, "taken", () => () => Promise.resolve());
    },
  },
  {
    name: "lane-renumbered",
    text: "whoever takes a shard over numbers what waits in its lanes anew, as it does where a channel has never been used",
    workloads: ["emitting"],
    budget: 150,
    install(_disk, patch) {
      patch.replace(
        Engine.prototype,
        "addShard",
        (original) =>
          function (this: Engine, shard) {
            for (const [name, channel] of shard.outs) {
              if (laneOfChannel(name) === 0) continue;
              channel.acknowledged = 0;
              channel.sent = 0;
              channel.committed = channel.waiting.length;
              channel.numbered = channel.committed;
            }
            original.call(this, shard);
          },
      );
    },
  },
  {
    name: "expelled-unread",
    text: "a member is taken off the list by what a copy that is behind says of it, whatever its newest heartbeat is",
    focus: behind,
    budget: 200,
    install(disk, patch) {
      const { directory } = disk.memory;
      patch.replace(directory, "beats", (original) => (names, fresh) => {
        const copy = fresh ? disk.behind : directory;
        return copy === directory ? original.call(directory, names, fresh) : copy.beats(names, fresh);
      });
      patch.replace(directory, "leave", (original) => (name) => original.call(directory, name));
    },
  },
  {
    name: "expelled-too-late",
    text: "a member is taken off the list although its heartbeat came before that",
    workloads: ["timers"],
    focus: paused,
    budget: 100,
    install(disk, patch) {
      const { directory } = disk.memory;
      patch.replace(directory, "leave", (original) => (name) => original.call(directory, name));
    },
  },
  {
    name: "expulsion-ignored",
    text: "a heartbeat of a member that is off the list is answered like any other",
    workloads: ["timers"],
    focus: paused,
    budget: 100,
    install(disk, patch) {
      const { directory } = disk.memory;
      patch.replace(directory, "beat", (original) => async (name, beat) => {
        await original.call(directory, name, beat);
        return true;
      });
    },
  },
  {
    name: "list-believed",
    text: "who is missing on a list that is behind is taken for dead",
    focus: behind,
    budget: 200,
    install(_disk, patch) {
      patch.replace(
        Membership.prototype,
        "overOf",
        () =>
          async function (this: Membership, incarnations) {
            return new Set([...incarnations].filter((incarnation) => !this.isListed(incarnation)));
          },
      );
    },
  },
  {
    name: "orphans-forgotten",
    text: "a claim or a release without an answer is forgotten",
    focus: {
      nodes: 3,
      shards: 8,
      calamities: { join: 1, stop: 1, crash: 0.5 },
      settings: { lease_ms: 300, heartbeat_ms: 100 },
      rates: { ...noFaults, answerLoss: 0.1, storeMean_ms: 1, storeTimeout_ms: 50 },
      calm_ms: 300,
      safety_ms: 6_000,
    },
    budget: 60,
    seed: 8,
    install(_disk, patch) {
      patch.replace(Orphans.prototype, "add", () => () => undefined);
    },
  },
  {
    name: "no-seal",
    text: "shards are taken over without sealing the owner's lane",
    budget: 150,
    seed: 45,
    install(disk, patch) {
      const { journal } = disk.memory;
      patch.replace(journal, "append", (original) => async (lane, expected, bytes) => {
        if (decodeBatch(bytes, 0).header.sealedBy === undefined)
          return original.call(journal, lane, expected, bytes);
        return { kind: "committed", seq: await journal.last(lane) };
      });
    },
  },
  {
    name: "acknowledged-before-commit",
    text: "told messages are acknowledged when they are taken in",
    workloads: ["bank"],
    budget: 400,
    install(_disk, patch) {
      patch.replace(
        Engine.prototype,
        "receive",
        (original) =>
          function (this: Engine, shard, frame) {
            original.call(this, shard, frame);
            if (frame.kind !== "told" || shard.phase !== "serving") return;
            this.outbox.acknowledge(shard, frame.fromShard, shard.in(frame.fromShard).accepted);
            this.outbox.flush();
          },
      );
    },
  },
  {
    name: "uncommitted-snapshot",
    text: "snapshots hold the latest state instead of the committed one",
    budget: 300,
    install(_disk, patch) {
      patch.replace(
        Saver.prototype,
        "save",
        (original) =>
          function (this: Saver, actors) {
            return original.call(this, actors.map(latestOf));
          },
      );
    },
  },
  {
    name: "second-segment-ignored",
    text: "recovery reads the first of a shard's segments only",
    budget: 400,
    seed: 5,
    install(disk, patch) {
      const { directory } = disk.memory;
      patch.replace(directory, "readShard", (original) => async (shard) => {
        const stored = await original.call(directory, shard);
        if (stored === undefined) return undefined;
        return { ...stored, entry: { ...stored.entry, segments: stored.entry.segments.slice(0, 1) } };
      });
    },
  },
  {
    name: "outbox-forgotten",
    text: "recovery does not find what was told and not acknowledged",
    workloads: ["bank"],
    budget: 150,
    seed: 8,
    install(_disk, patch) {
      patch.replace(
        ShardState.prototype,
        "replay",
        (original) =>
          function (this: ShardState, record, at, now_ms) {
            original.call(this, record, at, now_ms);
            for (const channel of this.outs.values()) {
              channel.acknowledged = channel.committed;
              channel.sent = channel.committed;
              channel.waiting = [];
            }
          },
      );
    },
  },
  {
    name: "requests-forgotten",
    text: "recovery does not find which requests were applied",
    budget: 150,
    seed: 8,
    install(_disk, patch) {
      patch.replace(Session.prototype, "recover", () => () => undefined);
    },
  },
  {
    name: "older-owner",
    text: "a shard goes to the best of all nodes, also to one whose version cannot read it",
    focus: { upgrades: true },
    budget: 120,
    seed: 76,
    install(_disk, patch) {
      patch.replace(VersionedPlacement.prototype, "reads", () => () => true);
      patch.replace(
        VersionedPlacement.prototype,
        "of",
        (original) =>
          function (this: VersionedPlacement<VersionedCandidate>, shard) {
            return original.call(this, shard, undefined);
          },
      );
    },
  },
  {
    name: "version-forgotten",
    text: "a shard that is given up does not say any more which version it needs",
    focus: { upgrades: true },
    budget: 40,
    seed: 19,
    install(disk, patch) {
      const { directory } = disk.memory;
      patch.replace(directory, "writeShard", (original) => (shard, entry, expected) => {
        const { owner, epoch, segments } = entry;
        const written = owner === undefined ? { owner, epoch, segments } : entry;
        return original.call(directory, shard, written, expected);
      });
    },
  },
  {
    name: "work-off-the-index",
    text: "who takes a shard over does not look for work that ran",
    workloads: ["working"],
    budget: 100,
    install(_disk, patch) {
      patch.replace(
        Works.prototype,
        "sync",
        (original) =>
          function (this: Works, a, again) {
            original.call(this, a, again);
            a.shard.due.taken.delete(a.id);
          },
      );
    },
  },
  {
    name: "sessions-reused",
    text: "a deleted actor's next life takes answers to its former one",
    workloads: ["asking"],
    budget: 100,
    seed: 30,
    install(_disk, patch) {
      patch.replace(
        Tree.prototype,
        "begin",
        (original) =>
          function (this: Tree, turn) {
            original.call(this, turn, 0);
          },
      );
    },
  },
  {
    name: "late-answer-applied",
    text: "the answer to a question that is over is given to the one that is open",
    workloads: ["asking"],
    budget: 60,
    install(_disk, patch) {
      patch.replace(
        Family.prototype,
        "bySession",
        (original) =>
          function (this: Family, session) {
            const found = original.call(this, session);
            return found ?? [...this.members.values()].find(({ kind }) => kind === "ask");
          },
      );
    },
  },
  {
    name: "children-not-saved",
    text: "snapshots are written without the children",
    workloads: ["family"],
    budget: 30,
    install(disk, patch) {
      const { snapshots } = disk.memory;
      patch.replace(snapshots, "write", (original) => (writes) => {
        const childless = writes.map((write) => {
          // A shard keeps what it knows of its channels there too.
          if (write.value === undefined || write.id.startsWith("_")) return write;
          const { machine, ...data } = decodeSnapshot(write.id, write.value);
          const { children: _, ...alone } = machine;
          return { ...write, value: encodeSnapshot(write.id, { ...data, machine: alone }) };
        });
        return original.call(snapshots, childless);
      });
    },
  },
  {
    name: "family-not-put-back",
    text: "a step finds the children where the last one left them, also if that was refused",
    workloads: ["family"],
    budget: 60,
    seed: 13,
    install(_disk, patch) {
      patch.replace(
        Tree.prototype,
        "step",
        (original) =>
          function (this: Tree, snapshot, event, session) {
            const family = familyOf(snapshot);
            if (family !== undefined) family.lineage.current = family;
            return original.call(this, snapshot, event, session);
          },
      );
    },
  },
  {
    name: "promoted-blindly",
    text: "what an actor took since it was replayed is passed over, and its replacement put behind that",
    workloads: ["rebuilding"],
    budget: 20,
    install(_disk, patch) {
      const settled = new WeakSet<Replay>();
      let blind = false;
      patch.replace(
        Replay.prototype,
        "settle",
        (original) =>
          function (this: Replay) {
            settled.add(this);
            original.call(this);
          },
      );
      patch.replace(
        Replay.prototype,
        "follow",
        (original) =>
          async function (this: Replay, journal, ends, goesOn) {
            blind = settled.has(this);
            try {
              return await original.call(this, journal, ends, goesOn);
            } finally {
              blind = false;
            }
          },
      );
      for (const name of ["plain", "turn"] as const)
        patch.replace(
          Replayer.prototype,
          name,
          (original: (...args: never[]) => void) =>
            function (this: Replayer, ...args: never[]) {
              if (!blind) original.apply(this, args);
            },
        );
    },
  },
  {
    name: "promoted-twice",
    text: "a replacement whose answer was lost is made once more",
    workloads: ["rebuilding"],
    budget: 60,
    install(_disk, patch) {
      patch.replace(
        Replayer.prototype,
        "promoted",
        (original) =>
          function (this: Replayer, life, record, time) {
            original.call(this, life, record, time);
            life.rebuilt = 0;
          },
      );
    },
  },
  {
    name: "moved-not-compared",
    text: "actors that were found equal and have gone on before the promotion are not looked at again",
    workloads: ["rebuilding"],
    budget: 60,
    install(_disk, patch) {
      patch.replace(
        Replay.prototype,
        "follow",
        (original) =>
          function (this: Replay, journal, ends, goesOn) {
            return original.call(this, journal, ends, goesOn).then((whole) => {
              this.touched?.clear();
              return whole;
            });
          },
      );
    },
  },
];

/** An actor as one whose latest state is taken for committed. Writes go through. */
function latestOf(a: Activation): Activation {
  return new Proxy(a, {
    get: (target, name) => {
      if (name === "committed") return target.latest;
      if (name === "dirty") return target.latest.turn !== target.saved;
      return Reflect.get(target, name, target) as unknown;
    },
  });
}
