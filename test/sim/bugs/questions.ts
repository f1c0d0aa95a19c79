import { Catalogs } from "../../../runtime/engine/catalog/catalogs.ts";
import { IndexWriter } from "../../../runtime/engine/catalog/index-writer.ts";
import { kinds } from "../../../runtime/engine/catalog/known.ts";
import { ShardRows } from "../../../runtime/engine/catalog/rows.ts";
import { HistoryReader } from "../../../runtime/engine/history.ts";
import { Client } from "../../../runtime/client/client.ts";
import { SharedAsks } from "../../../runtime/client/shared-asks.ts";
import { forgetIndexes, isForgetful } from "../forgetful.ts";
import { believeLeases, type Bug, divided } from "./bug.ts";

export const questions: readonly Bug[] = [
  {
    name: "stale-read",
    text: "a node believes for ever that its lease holds",
    workloads: ["register"],
    focus: divided,
    budget: 600,
    install: believeLeases,
  },
  {
    name: "stale-find",
    text: "a node that believes for ever that its lease holds answers questions about a type",
    workloads: ["finding"],
    focus: divided,
    budget: 100,
    install: believeLeases,
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
    seed: 36,
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
    seed: 30,
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
    seed: 121,
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
];
