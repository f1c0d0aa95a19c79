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

/** Without "test/" and ".test.ts". */
const longest = [
  "cli-nats",
  "docs",
  "nats-electing",
  "main-job",
  "nats-store-cluster",
  "cli",
  "examples/learning-killed",
  "dashboard-actor",
  "cli-check",
  "e2e/nodes",
  "nats-conf-cluster",
  "scxml",
  "cli-rebuild",
  "dashboard",
  "cli-tools",
  "dashboard-many",
  "examples/statistics",
  "e2e/plain",
  "cli-completion",
  "examples/digits",
  "http-cli",
  "simulator",
  "simulator-bugs",
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
