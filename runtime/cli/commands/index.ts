/** The commands beside those that run nodes, in the order in which help shows them. */
import type { Command } from "commander";
import type { Shell } from "../shell.ts";
import { addCluster } from "./cluster.ts";
import { addCompletion } from "./completion.ts";
import { addDead } from "./dead.ts";
import { addDev } from "./dev.ts";
import { addDoctor } from "./doctor.ts";
import { addFind } from "./find.ts";
import { addMessages } from "./messages.ts";
import { addNew } from "./new.ts";
import { addState } from "./state.ts";
import { addTimers } from "./timers.ts";
import { addTop } from "./top.ts";

export function addBeginning(program: Command, shell: Shell): void {
  program.commandsGroup("To begin with:");
  addNew(program, shell);
  addDev(program, shell);
}

export function addCommands(program: Command, shell: Shell): void {
  addCluster(program, shell);
  addTop(program, shell);
  addDoctor(program, shell);
  program.commandsGroup("Actors:");
  for (const add of [addMessages, addState, addFind, addTimers, addDead]) add(program, shell);
  program.commandsGroup("This command:");
  addCompletion(program, shell);
}
