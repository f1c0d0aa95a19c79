import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { LongestFirst } from "./test/longest-first.ts";

/** `import "keyturn"` in a test, or in an example that a test runs, is the source and not dist. */
const conditions = ["keyturn-source", "node"];

/**
 * Files that leave nothing behind: no process, no global; servers are stopped by those who start them. They share a
 * process with each other: loading the sources anew for each of them takes as long as what they test. Every other file
 * has a process of its own.
 */
const shared = [
  "test/{actors,browser-client,browser-parts,changes*,charts,checkers,children*,cli-actors,cli-completion}.test.ts",
  "test/{cli-logs,client-retry,cluster*,collections,concurrently,condition-text,corruption}.test.ts",
  "test/{documented-machines,duration,engine-*,engines,find*,foreign*,fork,formats*,functions*,health}.test.ts",
  "test/{history-page,http,http-auth,http-dead,http-fuzz,http-json,http-large,http-limits}.test.ts",
  "test/{http-openapi,http-past,http-source-letters,http-watch,inspect,keep*,kv*,machine*,mailbox,main-job-player}.test.ts",
  "test/{migration*,node-sources,patch,planned-steps,population,readme}.test.ts",
  "test/nats-{children,conf*,electing,kv,lost,plain,rebuild,replies,server-search,spread}.test.ts",
  "test/nats-{store-*,strangers,versions}.test.ts",
  "test/{rebuild*,retention,routes,saga,schemas,simulator*,sinks,sinks-jetstream,skim}.test.ts",
  "test/{sources,sources-cli,sources-dead,sources-files,sources-http,sources-jetstream}.test.ts",
  "test/{sources-rotated*,telemetry-each,telemetry-metrics,tell-all,testing-*,timers,types}.test.ts",
  "test/{values,views*,words,work*,xstate-*}.test.ts",
  "test/chaos/proxy.test.ts",
  "test/conformance/{memory,nats}.test.ts",
  "test/examples/{chat,checkout,functions,hello,history,mail,nodes,recommend,saga,transfer}.test.ts",
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
    // By itself vitest takes one fewer than there are cores; but most tests of real servers and processes wait for them.
    maxWorkers: availableParallelism() + 1,
    sequence: { sequencer: LongestFirst },
    testTimeout: 30_000,
    hookTimeout: 30_000,
    teardownTimeout: 10_000,
    // A test that passes only the second time has failed.
    retry: 0,
    allowOnly: false,
    passWithNoTests: false,
    projects: [
      { extends: true, test: { name: "shared", include: shared, isolate: false } },
      { extends: true, test: { name: "alone", include: all, exclude: shared } },
    ],
  },
});
