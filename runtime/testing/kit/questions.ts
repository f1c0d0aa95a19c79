/**
 * Whether a machine asks other actors, for tests that compare it with a plain one.
 *
 * Owns that search and what is said of it. Talks to nobody.
 */
import type { AnyActorDefinition } from "../../engine/definition.ts";
import { ask, type Machine } from "../../engine/machine.ts";
import { KeyturnError } from "../../words/errors.ts";

/** Where a question stands: the name that its logic has in `setup({ actors })`, or a state that invokes it inline. */
type Found = { readonly name: string } | { readonly state: string };

/**
 * A plain machine asks nobody, and what it would be answered is not known before the durable one has asked.
 * @throws KeyturnError `invalid_options`
 */
export function refuseQuestions({ type, machine, children }: AnyActorDefinition): void {
  const seen = new Set<unknown>();
  const found = questionIn(machine, seen) ?? firstIn([...children], seen);
  if (found === undefined) return;
  const does = `The machine of "${type}" asks other actors`;
  const why = "the plain machine that it is compared with can ask nobody";
  const what =
    "name" in found
      ? `${does} (by its actor "${found.name}"), and ${why}. Give a stand-in for it that answers: checkModel(defineActor({ …, machine: machine.provide({ actors: { ${found.name}: fromPromise(async () => answer) } }) })).`
      : `${does} (in the state ${found.state}), and ${why}. Name it in setup({ actors: { ask } }), invoke it by that name, and give a stand-in for it that answers: checkModel(defineActor({ …, machine: machine.provide({ actors: { ask: fromPromise(async () => answer) } }) })).`;
  throw new KeyturnError("invalid_options", `${what} What it asks is tested with testRuntime({ actors }).`);
}

function questionIn(machine: Machine, seen: Set<unknown>): Found | undefined {
  if (seen.has(machine)) return undefined;
  seen.add(machine);
  return firstIn(Object.entries(machine.implementations.actors), seen) ?? inlineIn(machine.root, seen);
}

function firstIn(
  logics: readonly (readonly [name: string, logic: unknown])[],
  seen: Set<unknown>,
): Found | undefined {
  for (const [name, logic] of logics) {
    if (logic === ask) return { name };
    const inner = isMachine(logic) ? questionIn(logic, seen) : undefined;
    if (inner !== undefined) return inner;
  }
  return undefined;
}

/** What states invoke without a name. */
function inlineIn(node: Machine["root"], seen: Set<unknown>): Found | undefined {
  const { invoke = [] } = node.config as { readonly invoke?: unknown };
  for (const one of Array.isArray(invoke) ? invoke : [invoke]) {
    const { src } = one as { readonly src?: unknown };
    if (src === ask) return { state: node.path.length === 0 ? "(root)" : node.path.join(".") };
    const inner = isMachine(src) ? questionIn(src, seen) : undefined;
    if (inner !== undefined) return inner;
  }
  for (const child of Object.values(node.states)) {
    const found = inlineIn(child as Machine["root"], seen);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isMachine(logic: unknown): logic is Machine {
  return (logic as { readonly __xstatenode?: unknown } | undefined)?.__xstatenode === true;
}
