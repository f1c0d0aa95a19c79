import { drawScenario, simulate, describeScenario } from "../../runtime/testing/simulator/index.ts";
import { workloads } from "./workloads/index.ts";
const seeds = Number(process.argv[2] ?? 10),
  from = Number(process.argv[3] ?? 1);
const has = (f: string) => process.argv.includes(f);
const t = performance.now();
let bad = 0;
for (let seed = from; seed < from + seeds; seed++) {
  const s = drawScenario(seed, { workloads: workloads.map((w) => w.name), calm: has("--calm"), only: process.argv.find((a)=>a.startsWith("-w="))?.slice(3).split(",") });
  const r = await simulate(s, { workloads, trace: has("-v") ? console.log : undefined });
  if (r.violations.length) {
    bad++;
    if (has("-d")) console.log(describeScenario(s));
    if (bad < 15) console.log(seed, r.violations.slice(0, 2).join("\n").slice(0, 500));
  } else if (has("-s")) console.log(seed, r.hash, r.events, r.virtual_ms, r.records);
}
console.log("bad", bad, "ms/seed", (performance.now() - t) / seeds);
