import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, it, vi } from "vitest";
import { main } from "../../examples/checkout/checkout.ts";

beforeEach(() => {
  vi.spyOn(console, "log").mockReturnValue(undefined);
});

it("ships what is paid in time, and cancels what is not, also while no node runs", async () => {
  const path = await mkdtemp(join(tmpdir(), "keyturn-checkout-"));
  try {
    expect(await main(path, 200)).toEqual({
      paidInTime: "shipped",
      paidTooLate: "cancelled",
      forgotten: "cancelled",
    });
  } finally {
    await rm(path, { recursive: true });
  }
});
