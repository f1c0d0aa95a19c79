/**
 * A node process for the benches over NATS: hosts the counter, says when it is ready and what it costs.
 *
 *   node.js URLS NAME SETTINGS(JSON) REPLICAS WEIGHT
 */
import { counter } from "../../actors/counter.ts";
import { nats, type NodeSettings, startNode } from "../../runtime/index.ts";

const [servers = "", name = "n", settings = "{}", replicas = "1", weight = "1"] = process.argv.slice(2);
const fail = (what: unknown, error: unknown): void => {
  process.stderr.write(`trouble in ${name}: ${String(what)} ${String(error)}\n`);
};
const node = await startNode({
  actors: [counter],
  store: nats({ servers: servers.split(","), replicas: Number(replicas) as 1 | 3 }),
  name,
  weight: Number(weight),
  settings: JSON.parse(settings) as Partial<NodeSettings>,
  observer: { troubled: fail, shardFailed: fail },
});

/** Asked by the parent: `cpu` for the microseconds used, `shards` for what is served, `stop`. */
process.on("message", (question: unknown) => {
  if (question === "cpu") {
    const { user, system } = process.cpuUsage();
    process.send?.({ cpu: user + system });
  } else if (question === "shards") process.send?.({ shards: node.shards.length });
  else if (question === "checkpoint") void node.checkpoint().then(() => process.send?.({ done: true }));
  else if (question === "stop") void node.stop().then(() => process.exit(0));
});
process.on("disconnect", () => process.exit(0));
process.send?.({ ready: true });
