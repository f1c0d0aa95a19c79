/** The conformance suite on the embedded store. A crash is a process that is killed while it writes. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Durability, Store } from "../../runtime/ports/index.ts";
import { embedded } from "../../runtime/stores/embedded/index.ts";
import { start } from "../compiled.ts";
import { type Crash, type KnownAppend, type KnownSnapshot, storeConformance } from "./suite.ts";

for (const durability of ["fsync", "process"] as const) {
  storeConformance(
    `embedded (${durability})`,
    async () => {
      const path = await mkdtemp(join(tmpdir(), "keyturn-"));
      const open = (): Promise<Store> => embedded({ path, durability });
      let store = await open();
      let life = 0;
      return {
        store,
        async reopen() {
          await store.close();
          store = await open();
          return store;
        },
        async crash() {
          await store.close();
          const known = await killWriter(path, durability, `life${life++}`);
          store = await open();
          return { ...known, store };
        },
        async dispose() {
          await store.close();
          await rm(path, { recursive: true, force: true });
        },
      };
    },
    { markers: false },
  );
}

async function killWriter(path: string, durability: Durability, life: string): Promise<Omit<Crash, "store">> {
  const writer = start("test/conformance/crash-writer.ts", [path, durability, life]);
  await writer.until(() => writer.lines.length > 200);
  // Somewhere in the middle of a transaction.
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
  writer.kill("SIGKILL");
  const end = await writer.ended;
  if (end !== "SIGKILL") throw new Error(`The writer ended by itself: ${end} ${writer.errors.join("")}`);
  const appends: KnownAppend[] = [];
  const snapshots = new Map<string, KnownSnapshot>();
  for (const line of writer.lines) {
    const [kind, name, number, n] = line.split(" ") as [string, string, string, string];
    if (kind === "append") {
      const text = `${name}/${n}/${"x".repeat((Number(n) * 997) % 20_000)}`;
      appends.push({ lane: name, seq: Number(number), text });
    } else {
      snapshots.set(name, { id: name, revision: Number(number), text: `${name}/${n}` });
    }
  }
  return { appends, snapshots: [...snapshots.values()] };
}
