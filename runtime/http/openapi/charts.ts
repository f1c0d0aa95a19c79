/** The schemas of a type's description and its statechart: what `GET /types/{type}` answers. See words/chart.ts. */
import { list, object, ref, type Schema, text, whole } from "./words.ts";

export function chartSchemas(): Record<string, Schema> {
  const names = list(text());
  const transition = {
    trigger: text({ enum: ["event", "always", "after", "done", "error", "snapshot"] }),
    event: text(),
    delay: { type: ["integer", "number", "string"] },
    guard: text(),
    targets: names,
    actions: names,
    reenter: { type: "boolean" },
    description: text(),
  };
  const state = {
    id: text(),
    key: text(),
    path: names,
    type: text({ enum: ["atomic", "compound", "parallel", "final", "history"] }),
    history: text({ enum: ["shallow", "deep"] }),
    initial: text(),
    description: text(),
    tags: names,
    entry: names,
    exit: names,
    invoke: list(object({ id: text(), src: text() })),
    transitions: list(ref("ChartTransition")),
    states: list(ref("ChartState")),
  };
  const description = {
    type: text(),
    version: whole(1),
    index: names,
    events: names,
    chart: ref("ChartState"),
    machines: list(
      object({ chart: ref("ChartState"), actors: { type: "object", additionalProperties: whole() } }),
    ),
    eventSchema: { type: "object" },
    inputSchema: { type: "object" },
  };
  return {
    ChartTransition: object(transition, ["trigger", "event", "targets", "actions", "reenter"]),
    ChartState: object(state, ["id", "key", "path", "type", "transitions", "states"]),
    TypeDescription: object(description, ["type", "version", "chart"]),
  };
}
