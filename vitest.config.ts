import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

/** `import "keyturn"` in a test, or in an example that a test runs, is the source and not dist. */
const conditions = ["keyturn-source", "node"];

/**
 * Files whose nodes live in virtual time or leave nothing behind. They share a process with each other: loading the
 * sources anew for each of them takes as long as what they test. Every other file has a process of its own.
 */
const virtual = [
  "test/{browser-client,browser-parts,changes-shared,charts,cli-actors,cli-logs,condition-text,engines}.test.ts",
  "test/{find-*,fork,functions,functions-*,history-page,http,http-auth,http-dead,http-fuzz,http-json}.test.ts",
  "test/{http-large,http-limits,http-openapi,http-past,http-watch,inspect,keep,keep-types,mailbox}.test.ts",
  "test/{main-job-player,node-sources,planned-steps,readme,rebuild,rebuild-*,retention,routes,saga}.test.ts",
  "test/{sinks,sources,sources-cli,sources-dead,sources-files,sources-http,sources-rotated*}.test.ts",
  "test/{telemetry-each,telemetry-metrics,tell-all,types,views*}.test.ts",
  "test/examples/{chat,checkout,functions,hello,history,nodes,saga,transfer}.test.ts",
  "test/{actors,checkers,children*,client-retry,cluster*,collections,concurrently,corruption}.test.ts",
  "test/{documented-machines,duration,engine-*,foreign*,formats*,health,machine*,migration*,patch}.test.ts",
  "test/{changes,find,kv*,population,schemas,simulator*,skim,testing-*,timers,values,words,work*,xstate-*}.test.ts",
  "test/conformance/memory.test.ts",
];
const all = ["test/**/*.test.ts"];

export default defineConfig({
  plugins: [
    {
      // Vite would add "development". Tests run the build of XState that users run.
      name: "keyturn-conditions",
      configResolved({ ssr, environments }) {
        ssr.resolve = { ...ssr.resolve, conditions };
        for (const environment of Object.values(environments)) {
          environment.resolve.conditions = conditions;
          environment.resolve.externalConditions = conditions;
        }
      },
    },
  ],
  ssr: { resolve: { conditions } },
  test: {
    environment: "node",
    globalSetup: ["test/global-setup.ts"],
    pool: "forks",
    // By itself vitest takes one fewer than there are cores; but many tests wait for servers and other processes.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 30_000,
    hookTimeout: 30_000,
    teardownTimeout: 10_000,
    // A test that passes only the second time has failed.
    retry: 0,
    allowOnly: false,
    passWithNoTests: false,
    projects: [
      { extends: true, test: { name: "virtual", include: virtual, isolate: false } },
      { extends: true, test: { name: "real", include: all, exclude: virtual } },
    ],
  },
});
