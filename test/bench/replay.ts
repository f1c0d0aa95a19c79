/** Replays a journal of a small actor type through its definition: records a second, on one core. */
import { setFlagsFromString } from "node:v8";
import { counter } from "../../actors/counter.ts";
import { rebuildType } from "../../runtime/rebuild/rebuild.ts";
import { bareSendsPerSecond } from "./bare.ts";
import { type BenchOptions, CountingLoad, openBench, type Print, round } from "./harness.ts";

const RECORDS = 1_000_000;

export async function replay(options: BenchOptions, print: Print): Promise<void> {
  const keys = options.keys ?? 1_000;
  const bench = await openBench(options);
  try {
    const load = new CountingLoad(bench.node, keys);
    let left = RECORDS;
    const caller = async (): Promise<void> => {
      while (left-- > 0) await load.ask();
    };
    await Promise.all(Array.from({ length: 4_096 }, caller));
    await bench.node.checkpoint();
    // As `keyturn rebuild` runs.
    setFlagsFromString("--no-allocation-site-pretenuring");
    for (let run = 0; run < 3; run++) {
      const bare = bareSendsPerSecond();
      const start = performance.now();
      const cpu = process.cpuUsage();
      const { report } = await rebuildType({ store: bench.store, actors: counter });
      const whole_s = (performance.now() - start) / 1_000;
      // What other work on the machine takes does not count here.
      const { user, system } = process.cpuUsage(cpu);
      if (report.records !== RECORDS || report.equal !== report.keys || report.keys === 0)
        throw new Error(`It found ${JSON.stringify(report)}.`);
      print({
        name: "replay",
        store: options.store,
        keys: report.keys,
        records: report.records,
        per_s: report.per_s,
        with_comparison_per_s: Math.round(RECORDS / whole_s),
        per_cpu_s: Math.round(RECORDS / ((user + system) / 1e6)),
        bare_per_s: bare,
        ratio: round(report.per_s / bare, 3),
        ratio_to: "bare",
      });
    }
  } finally {
    await bench.end();
  }
}
