/** Logs of the command line: lines for people, or pino's for whoever gathers them; what is said at which weight. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { describe, expect, it, onTestFinished } from "vitest";
import { Console } from "../runtime/cli/console.ts";
import { Observing } from "../runtime/cli/observing.ts";
import { KeyturnError } from "../runtime/index.ts";
import type { Level, Log } from "../runtime/telemetry/index.ts";
import { cli, type Ran } from "./support/cli-run.ts";

/** A node that ends as soon as it is ready. */
async function node(...flags: string[]): Promise<Ran> {
  const folder = mkdtempSync(join(tmpdir(), "keyturn-logs-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const stop = new AbortController();
  return await cli(["dev", "--data", folder, "--no-http", "--json", ...flags], {
    stop: stop.signal,
    onOut: (text) => {
      if (text.includes('"ready"')) stop.abort();
    },
  });
}

function logged({ stderr }: Ran): Record<string, unknown>[] {
  return stderr
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe("keyturn's logs", () => {
  it("are pino's lines with --log-format json, and standard output is as it was", async () => {
    const ran = await node("--log-format", "json");
    const lines = logged(ran);
    expect(lines.map(({ event, level, name }) => [event, level, name])).toEqual([
      ["ready", 30, "dev"],
      ["stopped", 30, "dev"],
    ]);
    expect(lines[0]).toMatchObject({ msg: expect.stringMatching(/^Ready/), time: expect.any(Number) });
    expect(ran.rows.map(({ event }) => event)).toEqual(["ready", "stopped"]);
  });

  it("leave out what weighs less than --log-level, in both formats", async () => {
    for (const format of ["json", "text"]) {
      const ran = await node("--log-format", format, "--log-level", "warn");
      expect(ran.stderr).toBe("");
      expect(ran.rows.map(({ event }) => event)).toEqual(["ready", "stopped"]);
    }
  });

  it("are refused in formats and at levels that there are not", async () => {
    for (const [flag, value, known] of [
      ["--log-format", "xml", "text, json"],
      ["--log-level", "loud", "debug, info, warn, error"],
    ] as const) {
      const ran = await cli(["start", "--data", "x", flag, value]);
      expect(ran.code).toBe(2);
      expect(ran.stderr).toContain(`Allowed choices are ${known}.`);
    }
  });

  it("say what went wrong at a weight of its own", () => {
    const at: [string, string][] = [];
    const noted =
      (level: Level) =>
      (fields: object): void =>
        void at.push([level, (fields as { event: string }).event]);
    const log: Log = {
      debug: noted("debug"),
      info: noted("info"),
      warn: noted("warn"),
      error: noted("error"),
    };
    const stream = new PassThrough();
    const said = new Console({ name: "n", json: false, stdout: stream, stderr: stream, log });
    const observing = new Observing(said, () => 0);
    observing.joined("n.1");
    observing.joined("n.2");
    observing.fenced("n.2");
    observing.shardFailed(3, new KeyturnError("corrupt_snapshot", "It is damaged."));
    observing.actionFailed("a.b", "mail", new Error("down"));
    observing.logged("a.b", undefined, "hello");
    observing.storeFull(new Error("no space"));
    for (let n = 0; n < 3; n++) observing.troubled("checkpoint", new Error("no way"));
    observing.end();
    expect(at).toEqual([
      ["info", "rejoined"],
      ["warn", "fenced"],
      ["error", "shard_failed"],
      ["error", "action_failed"],
      ["info", "logged"],
      ["error", "store_full"],
      ["warn", "troubled"],
    ]);
  });
});
