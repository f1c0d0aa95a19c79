/**
 * SCXML conformance: what plain XState makes of a document, an actor makes of it that is evicted and restored between
 * every two events. `npm run conformance` prints the table that is checked here.
 */
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { type ActorData, decodeSnapshot, earliestDue, encodeSnapshot } from "../runtime/engine/state.ts";
import type { Store } from "../runtime/index.ts";
import { start } from "./compiled.ts";
import { type Case, loadCases } from "./scxml/cases.ts";
import { convert } from "./scxml/convert.ts";
import type { DurableOptions } from "./scxml/durable.ts";
import { type Row, rowOf, totalsOf } from "./scxml/table.ts";

/** Fewer is a converter that has become worse: the rest of this file would say less. */
const PLAIN_PASSES = 295;
const TABLE_MS = 120_000;

const cases = loadCases();

function caseOf(id: string): Case {
  const one = cases.find((candidate) => candidate.id === id);
  if (one === undefined) throw new Error(`There is no case ${id}.`);
  return one;
}

describe("the table", () => {
  const rows: Row[] = [];

  beforeAll(async () => {
    for (const one of cases) rows.push(await rowOf(one));
  }, TABLE_MS);

  it("has every document of the framework that is a case", () => {
    const manifest = createRequire(import.meta.url).resolve("@scion-scxml/test-framework/package.json");
    const root = join(dirname(manifest), "test");
    const scripts = readdirSync(root).flatMap((group) =>
      readdirSync(join(root, group))
        .filter((file) => file.endsWith(".json"))
        .map((file) => `${group}/${file.replace(/(\.txml)?\.json$/, "")}`),
    );
    const listed = rows.filter(({ plain }) => plain !== "no script").map(({ id }) => id);
    expect([...listed].sort()).toEqual(scripts.sort());
    expect(new Set(listed).size).toBe(316);
  });

  it("shows the durable actor to be the same in every case that plain XState passes", () => {
    expect(rows.filter(({ plain, durable }) => plain === "pass" && durable === "different")).toEqual([]);
    // And in what plain XState does otherwise than SCXML wants it.
    expect(rows.filter(({ durable }) => durable === "different")).toEqual([]);
    expect(rows.filter(({ durable }) => durable === "refused")).toEqual([]);
  });

  it("is not made of cases that plain XState fails", () => {
    expect(totalsOf(rows).passes).toBeGreaterThanOrEqual(PLAIN_PASSES);
  });

  it("gives a reason wherever something is not as it should be, and nowhere else", () => {
    for (const { plain, durable, reason } of rows)
      expect(reason === "").toBe(plain === "pass" && durable === "same");
  });
});

/** Changes what is stored of the actor while no node runs: a restore that loses something. */
function losing(change: (data: ActorData) => ActorData): DurableOptions {
  const id = "scxml.session";
  const whileDown = async ({ snapshots }: Store): Promise<void> => {
    const [entry] = await snapshots.read([id]);
    if (entry?.value === undefined) return;
    const data = change(decodeSnapshot(id, entry.value));
    const due = earliestDue(data.timers);
    const write = { id, shard: 0, value: encodeSnapshot(id, data), expected: entry.revision, due };
    expect(await snapshots.write([write])).not.toEqual([undefined]);
  };
  return { restarts: "stop", whileDown };
}

describe("the comparison bites", () => {
  const planted: [string, string, (data: ActorData) => ActorData][] = [
    ["history states", "history/history0", (d) => ({ ...d, machine: { ...d.machine, history: undefined } })],
    ["timers", "delayedSend/send1", (d) => ({ ...d, timers: [] })],
    [
      "the due times of timers",
      "delayedSend/send2",
      (d) => ({ ...d, timers: d.timers.map((t) => ({ ...t, due: t.due + 1_000 })) }),
    ],
    [
      "data",
      "send-data/send1",
      (d) => ({ ...d, machine: { ...d.machine, context: { ...d.machine.context, data: {} } } }),
    ],
  ];

  it.each(planted)("a restore that loses %s is reported as different", async (_what, id, change) => {
    expect(
      await rowOf(
        caseOf(id),
        losing((data) => data),
      ),
    ).toMatchObject({ plain: "pass", durable: "same" });
    expect(await rowOf(caseOf(id), losing(change))).toMatchObject({ plain: "pass", durable: "different" });
  });

  it("what differs is named: the step, and what both are", async () => {
    const { reason } = await rowOf(
      caseOf("delayedSend/send1"),
      losing((data) => ({ ...data, timers: [] })),
    );
    expect(reason).toMatch(/^after step 2 the durable actor is .*"b".*, plain XState is .*"d"/);
  });

  it("a script that expects something else fails, and says what came of it", async () => {
    const one = caseOf("basic/basic1");
    const script = {
      initialConfiguration: ["a"],
      events: [{ event: { name: "t" }, nextConfiguration: ["x"] }],
    };
    expect(await rowOf({ ...one, script })).toMatchObject({
      plain: "fail",
      durable: "same",
      reason: expect.stringContaining('XState is in [b] after "t" (1), expected [x]'),
    });
  });
});

describe("restarts", () => {
  const chosen = ["history/history0", "delayedSend/send1", "parallel+interrupt/test20", "w3c-ecma/test186"];

  it.each(["stop", "crash"] as const)("only by %s: the same", async (restarts) => {
    for (const id of chosen)
      expect(await rowOf(caseOf(id), { restarts })).toMatchObject({ plain: "pass", durable: "same" });
  });

  it("on a disk: the same", async () => {
    for (const id of chosen)
      expect(await rowOf(caseOf(id), { store: "embedded" })).toMatchObject({
        plain: "pass",
        durable: "same",
      });
  });
});

describe("the converter", () => {
  const document = (inside: string): string =>
    `<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0"><state id="a">${inside}</state></scxml>`;

  it.each([
    ["no XML", "<scxml", /is not XML/],
    ["no SCXML", "<svg/>", /is not an SCXML document/],
    ["a target that is no state", document('<transition event="t" target="b"/>'), /"b", which is no state/],
    ["two states of one name", document('<state id="a"/>'), /two states "a"/],
    [
      "a file outside its folder",
      document('<onentry><script src="../x.js"/></onentry>'),
      /does not lie beside/,
    ],
    ["unknown content", document("<onentry><explode/></onentry>"), /<explode> as executable content/],
  ])("refuses %s by name", (_what, text, reason) => {
    expect(() => convert(text, ".", false)).toThrow(reason);
  });
});

describe("npm run conformance", () => {
  it("prints one JSON object a line, the totals last, and says by its exit code that all is the same", async () => {
    const program = start("test/scxml/main.ts", ["--json", "--only", "^history/"]);
    expect(await program.ended).toBe(0);
    const lines = program.lines.map((line) => JSON.parse(line) as Row);
    expect(lines).toHaveLength(9);
    expect(lines[0]).toEqual({ id: "history/history0", plain: "pass", durable: "same", reason: "" });
    expect(lines.at(-1)).toEqual({ cases: 8, passes: 8, same: 8 });
  });

  it.each([
    ["a store that there is not", ["--store", "paper"], "--store is memory or embedded"],
    ["a pattern that nothing fits", ["--only", "^nothing$"], "No case matches"],
  ])("refuses %s", async (_what, args, text) => {
    const program = start("test/scxml/main.ts", args);
    expect(await program.ended).toBe(2);
    expect(program.errors.join("")).toContain(text);
  });
});
