/** The commands that ask and look, in the order in which help shows them. */
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

export function addCommands(program: Command, shell: Shell): void {
  const adds = [
    addNew,
    addDev,
    addMessages,
    addState,
    addFind,
    addTimers,
    addCluster,
    addDead,
    addTop,
    addDoctor,
    addCompletion,
  ];
  for (const add of adds) add(program, shell);
}
