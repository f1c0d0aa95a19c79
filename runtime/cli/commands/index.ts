/** The commands that ask and look, in the order in which help shows them. */
import type { Command } from "commander";
import type { Shell } from "../shell.ts";
import { addCluster } from "./cluster.ts";
import { addDead } from "./dead.ts";
import { addFind } from "./find.ts";
import { addMessages } from "./messages.ts";
import { addState } from "./state.ts";
import { addTimers } from "./timers.ts";

export function addCommands(program: Command, shell: Shell): void {
  for (const add of [addMessages, addState, addFind, addTimers, addCluster, addDead]) add(program, shell);
}
