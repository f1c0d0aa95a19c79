import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, it, vi } from "vitest";
import { main } from "../../examples/hello/hello.ts";

beforeEach(() => {
  vi.spyOn(console, "log").mockReturnValue(undefined);
});

it("goes on counting where the last run ended", async () => {
  const path = await mkdtemp(join(tmpdir(), "keyturn-hello-"));
  try {
    expect(await main(path)).toBe("Hello Ada, you are number 1.");
    expect(await main(path)).toBe("Hello Ada, you are number 2.");
  } finally {
    await rm(path, { recursive: true });
  }
});
