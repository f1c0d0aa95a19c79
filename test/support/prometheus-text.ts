/** Prometheus's text format (0.0.4), read strictly: what its grammar does not have fails the test. */
import { expect } from "vitest";

export interface PrometheusFamily {
  readonly type: string;
  /** By name and labels, as they stand in the text. */
  readonly samples: ReadonlyMap<string, number>;
}

/** Prometheus's text, read by its grammar: names, types and samples; anything else is an error. */
export function parsed(text: string): Map<string, PrometheusFamily> {
  const families = new Map<string, { type: string; samples: Map<string, number> }>();
  let family: { type: string; samples: Map<string, number> } | undefined;
  let current = "";
  expect(text.endsWith("\n")).toBe(true);
  for (const line of text.slice(0, -1).split("\n")) {
    const help = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) \S.*$/.exec(line);
    const type = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line);
    const sample =
      /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\n"])*",?)*\})? (\S+)$/.exec(line);
    if (help !== null) current = help[1] as string;
    else if (type !== null) {
      expect(type[1]).toBe(current);
      expect(families.has(current)).toBe(false);
      family = { type: type[2] as string, samples: new Map() };
      families.set(current, family);
    } else if (sample !== null) {
      const [, name = "", labels = "", value = ""] = sample;
      expect(
        name.replace(/_(?:bucket|sum|count)$/, "").startsWith(current.replace(/_(?:bucket|sum|count)$/, "")),
      ).toBe(true);
      const key = `${name}${labels}`;
      expect(family?.samples.has(key)).toBe(false);
      expect(Number.isNaN(Number(value))).toBe(false);
      family?.samples.set(key, Number(value));
    } else throw new Error(`Not a line of that format: ${line}`);
  }
  return families;
}
