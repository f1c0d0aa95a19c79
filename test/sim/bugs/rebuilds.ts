import { Replayer } from "../../../runtime/rebuild/life.ts";
import { Replay } from "../../../runtime/rebuild/replay.ts";
import type { Bug } from "./bug.ts";

export const rebuilds: readonly Bug[] = [
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
