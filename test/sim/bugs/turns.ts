/** Planted bugs. Of the engine's turns, commits, channels and timers. */
import { Checkpointer } from "../../../runtime/engine/checkpoint.ts";
import type { Activation } from "../../../runtime/engine/activation.ts";
import { Engine } from "../../../runtime/engine/engine.ts";
import { Parking } from "../../../runtime/engine/parking.ts";
import { Saver } from "../../../runtime/engine/saver.ts";
import { Session } from "../../../runtime/engine/shard.ts";
import { DueHeap } from "../../../runtime/engine/timers.ts";
import { Turns } from "../../../runtime/engine/turns.ts";
import { Send } from "../../../runtime/words/frames.ts";
import { answer, type Bug, isSeal, trimming } from "./bug.ts";

export const turns: readonly Bug[] = [
  {
    name: "no-fence",
    text: "an append expects whatever the lane's last sequence is, so a seal stops nobody",
    budget: 150,
    install(disk, patch) {
      const { journal } = disk.memory;
      patch.replace(journal, "append", (original) => async (lane, expected, bytes) => {
        return original.call(journal, lane, isSeal(bytes) ? expected : await journal.last(lane), bytes);
      });
    },
  },
  {
    name: "answer-before-commit",
    text: "send is answered when the turn is stepped, before its append",
    workloads: ["list", "bank"],
    budget: 150,
    install(_disk, patch) {
      const sends = new WeakMap<Session, Set<number>>();
      patch.replace(
        Engine.prototype,
        "receive",
        (original) =>
          function (this: Engine, shard, frame) {
            original.call(this, shard, frame);
            if (frame.kind !== "request") return;
            const session = shard.sessions.get(frame.session);
            if (session === undefined || frame.epoch !== shard.epoch) return;
            frame.requests.forEach((request, at) => {
              const number = frame.first + at;
              const known = sends.get(session) ?? new Set<number>();
              sends.set(session, known);
              if (request.kind !== Send || known.has(number) || number > session.last) return;
              known.add(number);
              answer(this, shard, session.name, number, undefined);
            });
          },
      );
    },
  },
  {
    name: "trims-too-much",
    text: "the journal is trimmed up to a lane's last entry, whatever recovery needs of it",
    focus: trimming,
    budget: 40,
    install(disk, patch) {
      const { retention } = disk.memory;
      patch.replace(retention, "trim", (original) => (lane) => original.call(retention, lane, disk.lastSeq));
    },
  },
  {
    name: "trims-one-too-many",
    text: "the first entry that recovery needs of a lane is trimmed too",
    focus: trimming,
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
];
