import { Engine } from "../../../runtime/engine/engine.ts";
import { Membership } from "../../../runtime/cluster/membership.ts";
import { Orphans } from "../../../runtime/cluster/orphans.ts";
import { type VersionedCandidate, VersionedPlacement } from "../../../runtime/cluster/versioned-placement.ts";
import { Saver } from "../../../runtime/engine/saver.ts";
import { OutChannel, Session, ShardState } from "../../../runtime/engine/shard.ts";
import { noFaults } from "../../../runtime/testing/simulator/index.ts";
import { CancelTimer, Unwatch } from "../../../runtime/words/frames.ts";
import { laneOfChannel } from "../../../runtime/words/lanes.ts";
import { answer, behind, type Bug, isSeal, latestOf, leaveUnasked, paused } from "./bug.ts";

export const cluster: readonly Bug[] = [
  {
    name: "cancel-unrecorded",
    text: "a delay is answered to be cancelled, and stays",
    workloads: ["cancelling"],
    budget: 100,
    install(_disk, patch) {
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
              answer(this, shard, frame.session, frame.first + at, true);
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
      leaveUnasked(disk, patch);
    },
  },
  {
    name: "expelled-too-late",
    text: "a member is taken off the list although its heartbeat came before that",
    workloads: ["timers"],
    focus: paused,
    budget: 100,
    install: leaveUnasked,
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
        if (!isSeal(bytes)) return original.call(journal, lane, expected, bytes);
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
];
