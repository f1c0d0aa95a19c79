/**
 * Seeded bugs: what would happen if one safeguard were missing. The simulator must notice each.
 *
 * Patches prototypes of the runtime from the outside while one run lasts; the runtime knows nothing of it. A bug that
 * is not caught within its budget of seeds means that the simulator is too weak.
 */
import { actors } from "./actors.ts";
import { cluster } from "./cluster.ts";
import { questions } from "./questions.ts";
import { rebuilds } from "./rebuilds.ts";
import { turns } from "./turns.ts";

export { type Bug, Patcher } from "./bug.ts";

export const bugs = [...turns, ...questions, ...cluster, ...actors, ...rebuilds];
