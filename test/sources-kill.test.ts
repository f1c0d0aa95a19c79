/** A source whose process is killed with SIGKILL, again and again, on the embedded store: each item counts once. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { start } from "./compiled.ts";
import { temporaryPath } from "./support/temporary.ts";

it("killed at any moment, each item of a file counts once", { timeout: 60_000 }, async () => {
  const folder = temporaryPath();
  const file = join(folder, "items.ndjson");
  const expected = [0, 0, 0, 0, 0];
  let text = "";
  for (let n = 0; n < 240; n++) {
    const by = 2 ** Math.floor(n / 5);
    expected[n % 5]! += by;
    text += `${JSON.stringify({ key: `k${n % 5}`, by })}\n`;
  }
  writeFileSync(file, text);
  const program = "test/sources-killed.ts";
  const args = [join(folder, "data"), file];
  let last = 0;
  for (const count of [1, 120]) {
    const killed = start(program, [...args, String(count)]);
    const ended = await killed.ended;
    if (ended === 0) break;
    expect(ended, killed.errors.join("")).toBe("SIGKILL");
    const seen = killed.lines.filter((line) => line.startsWith("at ")).map((line) => Number(line.slice(3)));
    // What counted once counts for ever.
    expect(seen[0]).toBeGreaterThanOrEqual(last);
    last = seen.at(-1) as number;
  }
  expect(last).toBeGreaterThan(0);
  const whole = start(program, args);
  expect(await whole.ended, whole.errors.join("")).toBe(0);
  expect(whole.lines.slice(-2)).toEqual(["done 240", `sums ${JSON.stringify(expected)}`]);
});
