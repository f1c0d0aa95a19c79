/**
 * The order of test files: those that take longest begin first, so that none of them is left when all others are done.
 *
 * Vitest knows how long files take once it has run them; a fresh clone does not. Files that wait (for elections, leases,
 * processes) stand between those that compute, since they run side by side. What is not named here follows in vitest's
 * own order.
 */
import { existsSync } from "node:fs";
import { relative } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Without "test/" and ".test.ts". Those in a process of their own come before those that share one. */
const longest = [
  "docs",
  "cli-nats",
  "main-job",
  "e2e/nodes",
  "examples/learning-killed",
  "cli-check",
  "dashboard-actor",
  "cli",
  "scxml",
  "e2e/plain",
  "cli-rebuild",
  "dashboard",
  "cli-tools",
  "dashboard-many",
  "dashboard-sources",
  "examples/statistics",
  "examples/digits",
  "http-cli",

  "nats-electing",
  "simulator",
  "nats-store-cluster",
  "simulator-bugs",
  "conformance/nats",
  "nats-spread",
  "nats-store-outage",
  "nats-conf-cluster",
  "nats-store-lag",
  "nats-kv",
  "nats-lost",
  "browser-client",
].map((name) => `test/${name}.test.ts`);

const root = new URL("..", import.meta.url);
const gone = longest.filter((file) => !existsSync(new URL(file, root)));
if (gone.length > 0)
  throw new Error(`test/longest-first.ts names files that there are not: ${gone.join(", ")}`);

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    // Files that share a process have to follow each other: projects stay as they are.
    const projects = [...new Set(sorted.map(({ project }) => project.name))];
    const rank = ({ moduleId, project }: TestSpecification): number => {
      const at = longest.indexOf(relative(project.vitest.config.root, moduleId).replaceAll("\\", "/"));
      return projects.indexOf(project.name) * 1_000 + (at < 0 ? longest.length : at);
    };
    return sorted.sort((a, b) => rank(a) - rank(b));
  }
}
