/**
 * The sources that a node's actors modules export: run with the node, and stopped before it.
 *
 * Owns their runs. Talks to the console. A source that fails ends by itself; the node goes on.
 */
import type { KeyturnNode } from "../node.ts";
import type { AnyActorDefinition } from "../engine/definition.ts";
import { sourcesAmong } from "../streams/sources/define.ts";
import { runSource, type SourceRun } from "../streams/sources/run.ts";
import { isKeyturnError, textOf } from "../words/errors.ts";
import type { Console } from "./console.ts";

export class RunningSources {
  readonly #runs: readonly SourceRun[];

  constructor(node: KeyturnNode, actors: readonly AnyActorDefinition[], console: Console) {
    this.#runs = sourcesAmong(actors)
      .filter(({ from }) => from.passive !== true)
      .map((source) => {
        const { name } = source;
        let last: string | undefined;
        const onTrouble = (error: unknown): void => {
          const text = textOf(error);
          // It is told again and again while it lasts.
          if (text !== last)
            console.say("source", { source: name, trouble: text }, `Source ${name}: ${text}`, "warn");
          last = text;
        };
        const run = runSource(node.client, source, { onTrouble });
        console.say(
          "source",
          { source: name, running: true },
          `Source ${name} runs: ${source.from.description}.`,
        );
        run.done.then(
          ({ items, malformed, ended }) => {
            const what = ended ? "is read to its end" : "is stopped";
            const text = `Source ${name} ${what}: ${items} items, ${malformed} of them malformed${malformed > 0 ? "; sourceDeadLetters(client, source) says which" : ""}.`;
            console.say("source", { source: name, items, malformed, ended }, text);
          },
          (error: unknown) => {
            const code = isKeyturnError(error) ? error.code : undefined;
            console.say(
              "source",
              { source: name, failed: textOf(error), code },
              `Source ${name} has failed: ${textOf(error)}`,
              "error",
            );
          },
        );
        return run;
      });
  }

  /** Resolves when nothing of them is on its way. */
  async stop(): Promise<void> {
    await Promise.all(this.#runs.map((run) => run.stop()));
  }
}
