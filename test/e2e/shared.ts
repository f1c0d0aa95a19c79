/** Waiting until nodes have shared the shards out. */
import type { Stage, StageNode } from "../chaos/stage.ts";

const SHARDS = 64;

/** Shards that a node serves, by its own word. */
export function servingOf({ process }: StageNode): number {
  const last = process.events.findLast(({ event }) => event === "shards" || event === "ready");
  if (last === undefined || !process.alive) return 0;
  return last.event === "shards" ? (last.serving as number) : (last.shards as unknown[]).length;
}

/** Resolves when the nodes that run serve all shards, each some. */
export function shared(stage: Stage): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      const serving = [...stage.nodes.values()].filter(({ process }) => process.alive).map(servingOf);
      if (Math.min(...serving) === 0 || serving.reduce((sum, count) => sum + count, 0) !== SHARDS) return;
      stage.onEvent = () => undefined;
      resolve();
    };
    stage.onEvent = look;
    look();
  });
}
