import { Family, familyOf } from "../../../runtime/engine/machine/family.ts";
import { Tree } from "../../../runtime/engine/machine/tree.ts";
import { decodeSnapshot, encodeSnapshot } from "../../../runtime/engine/state.ts";
import { Works } from "../../../runtime/engine/works.ts";
import type { Bug } from "./bug.ts";

export const actors: readonly Bug[] = [
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
];
