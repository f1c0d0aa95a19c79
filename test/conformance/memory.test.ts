/** The conformance suite on the memory store. A crash loses what is not flushed. */
import { type MemoryStore, memory } from "../../runtime/stores/memory/index.ts";
import { bytesOf, snapshot } from "./helpers.ts";
import {
  type Crash,
  type KnownAppend,
  type KnownSnapshot,
  type StoreUnderTest,
  storeConformance,
} from "./suite.ts";

storeConformance("memory", openMemory, { outlives: false });

async function openMemory(): Promise<StoreUnderTest> {
  let flush: (() => void) | undefined;
  let manual = false;
  const store = memory({
    flushSoon: (soon) => {
      flush = soon;
      if (!manual) queueMicrotask(soon);
    },
  });
  let round = 0;
  return {
    store,
    crash: async () => {
      manual = true;
      const crash = await crashInTheMiddle(store, `r${round++}`, () => flush?.());
      manual = false;
      return crash;
    },
    reopen: () => Promise.reject(new Error("What is in memory does not outlive it.")),
    dispose: () => store.close(),
  };
}

async function crashInTheMiddle(store: MemoryStore, round: string, flush: () => void): Promise<Crash> {
  const appends: KnownAppend[] = [];
  const snapshots: KnownSnapshot[] = [];
  for (let n = 0; n < 20; n++) {
    const lane = `${round}lane${n}`;
    const id = `t.${round}${n}`;
    void store.journal.append(lane, 0, bytesOf(`${n}`)).then((result) => {
      if (result.kind === "committed") appends.push({ lane, seq: result.seq, text: `${n}` });
    });
    store.snapshots.write([snapshot(id, `${n}`, 0)]).then(
      ([revision]) => snapshots.push({ id, revision: revision as number, text: `${n}` }),
      () => undefined,
    );
    if (n === 12) flush();
  }
  store.crash(3);
  // The flush that was arranged before comes after, and finds nothing.
  flush();
  await new Promise((resolve) => setImmediate(resolve));
  return { store, appends, snapshots };
}
