/** An actor's state, as people are shown it. */
import type { ActorState } from "../engine/definition.ts";
import { type Output, stateText } from "./output.ts";

export function printState(output: Output, address: string, state: ActorState): void {
  const { value, context, status, output: result, tags, error, children, turn, position } = state;
  const shown = stateText(value);
  const head = [output.paint("bold", address), output.paint("cyan", shown === "" ? "(no states)" : shown)];
  if (status !== "active") head.push(output.paint(status === "error" ? "red" : "yellow", status));
  output.text(`${head.join("  ")}  ${output.paint("dim", `turn ${turn}, position ${position}`)}`);
  if (tags !== undefined) output.text(`tags: ${tags.join(", ")}`);
  output.text(output.value(context));
  if (result !== undefined && result !== null) output.text(`output: ${output.value(result)}`);
  if (error !== undefined) output.text(`error: ${output.value(error)}`);
  if (children !== undefined) output.text(`children: ${output.value(children)}`);
}
