/** A folder for each test, and the stores opened in it, which are closed when the test ends. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import type { Store } from "../runtime/ports/index.ts";
import { type EmbeddedOptions, embedded } from "../runtime/stores/embedded/index.ts";
import type { ErrorCode } from "../runtime/words/errors.ts";

export interface Home {
  /** The test's own folder. */
  readonly folder: string;
  /** Where its store lies. */
  readonly path: string;
  open(options?: Partial<EmbeddedOptions>): Promise<Store>;
}

/** To be called once in a test file. */
export function useHome(): Home {
  let folder = "";
  const opened: Store[] = [];
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "keyturn-"));
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((store) => store.close()));
    await rm(folder, { recursive: true, force: true });
  });
  return {
    get folder() {
      return folder;
    },
    get path() {
      return join(folder, "store");
    },
    async open(options = {}) {
      const store = await embedded({ path: this.path, ...options });
      opened.push(store);
      return store;
    },
  };
}

export async function refused(code: ErrorCode, call: Promise<unknown>): Promise<void> {
  await expect(call).rejects.toMatchObject({ name: "KeyturnError", code });
}
