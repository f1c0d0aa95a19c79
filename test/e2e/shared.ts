/** Waiting until nodes have shared the shards out. */
import { type Candidate, Placement } from "../../runtime/cluster/placement.ts";
import type { Stage, StageNode } from "../chaos/stage.ts";

const SHARDS = 64;

/** Shards that a node serves, by its own word. */
export function servingOf({ process }: StageNode): number {
  const last = process.events.findLast(({ event }) => ["shards", "ready", "fenced"].includes(event));
  if (last === undefined || last.event === "fenced" || !process.alive) return 0;
  return last.event === "shards" ? (last.serving as number) : (last.shards as unknown[]).length;
}

/** Resolves when each of the nodes that run serves as many shards as belong to it: then none moves any more. */
export function shared(stage: Stage): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      const alive = [...stage.nodes].filter(([, { process }]) => process.alive);
      const members = alive.map(([node]): Candidate => ({ node, incarnation: node, weight: 1 }));
      const placement = new Placement<Candidate>(SHARDS);
      placement.update(members);
      if (alive.some(([, node], at) => servingOf(node) !== placement.ofNode(members[at] as Candidate).length))
        return;
      stage.onEvent = () => undefined;
      resolve();
    };
    stage.onEvent = look;
    look();
  });
}
