/** Folders that are gone after the test. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** A new folder. Called in a test or in a `beforeEach`. */
export function temporaryPath(): string {
  const path = mkdtempSync(join(tmpdir(), "keyturn-test-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
