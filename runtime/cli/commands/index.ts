/**
 * Which commands there are, in the order in which help shows them.
 *
 * Owns the loading: a command that is named is the only one that is loaded, since most are over in less time than it
 * takes to load what nodes are made of. Help, completion and slips of the pen load them all.
 */
import type { Command } from "commander";
import type { Shell } from "../shell.ts";

type Add = (program: Command, shell: Shell) => void;

interface Entry {
  readonly names: readonly string[];
  load(): Promise<Add>;
}

const groups: Readonly<Record<string, readonly Entry[]>> = {
  "To begin with:": [
    { names: ["new"], load: async () => (await import("./new.ts")).addNew },
    { names: ["dev"], load: async () => (await import("./dev.ts")).addDev },
  ],
  "Nodes and servers:": [
    { names: ["start"], load: async () => (await import("./start.ts")).addStart },
    { names: ["provision"], load: async () => (await import("./provision.ts")).addProvision },
    { names: ["check"], load: async () => (await import("./check.ts")).addCheck },
    { names: ["rebuild"], load: async () => (await import("./rebuild.ts")).addRebuild },
    { names: ["trim"], load: async () => (await import("./trim.ts")).addTrim },
    { names: ["nodes", "shards", "drain"], load: async () => (await import("./cluster.ts")).addCluster },
    { names: ["top"], load: async () => (await import("./top.ts")).addTop },
    { names: ["doctor"], load: async () => (await import("./doctor.ts")).addDoctor },
  ],
  "Actors:": [
    { names: ["send", "ask", "create"], load: async () => (await import("./messages.ts")).addMessages },
    { names: ["get", "watch", "history", "delete"], load: async () => (await import("./state.ts")).addState },
    { names: ["list", "find", "count"], load: async () => (await import("./find.ts")).addFind },
    { names: ["timers"], load: async () => (await import("./timers.ts")).addTimers },
    { names: ["mailbox"], load: async () => (await import("./mailbox.ts")).addMailbox },
    { names: ["fork"], load: async () => (await import("./fork.ts")).addFork },
    { names: ["dead"], load: async () => (await import("./dead.ts")).addDead },
  ],
  "This command:": [
    { names: ["completion"], load: async () => (await import("./completion.ts")).addCompletion },
  ],
};

/** Declares the commands that a command line may be about. */
export async function addCommands(program: Command, shell: Shell): Promise<void> {
  const [first = ""] = shell.args;
  const named = Object.values(groups)
    .flat()
    .find(({ names }) => names.includes(first) && first !== "completion");
  if (named !== undefined) {
    (await named.load())(program, shell);
    return;
  }
  for (const [heading, entries] of Object.entries(groups)) {
    program.commandsGroup(heading);
    for (const { load } of entries) (await load())(program, shell);
  }
}
