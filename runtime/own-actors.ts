/** The actor types of the runtime itself, which every node hosts beside those of its users. */
import type { AnyActorDefinition } from "./engine/definition.ts";
import { entry } from "./kv/entry.ts";

export const ownActors: readonly AnyActorDefinition[] = [entry];
