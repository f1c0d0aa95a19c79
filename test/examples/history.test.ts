import { beforeEach, expect, it, vi } from "vitest";
import { main } from "../../examples/history/history.ts";

beforeEach(() => {
  vi.spyOn(console, "log").mockReturnValue(undefined);
});

it("shows every turn of the past, and brings a state of it back", async () => {
  expect(await main()).toEqual({
    texts: ["The harbour opens at 8.", "The harbour opens at 8 and closes at 20.", "", ""],
    restored: "The harbour opens at 8 and closes at 20.",
  });
});
