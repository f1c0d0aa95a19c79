/**
 * The conformance suite: one contract, every store.
 *
 * Owns the tests of the numbered clauses in runtime/ports; each test's name begins with the port and the clause. Talks
 * to stores through their ports only, so that a fake which is weaker than the real thing cannot pass.
 */
import { describe } from "vitest";
import type { Store } from "../../runtime/ports/index.ts";
import { deadLetterClauses } from "./dead-letters.ts";
import { directoryClauses } from "./directory.ts";
import { durabilityClauses } from "./durability.ts";
import { journalClauses } from "./journal.ts";
import { journalProperties } from "./journal-properties.ts";
import { snapshotClauses } from "./snapshots.ts";
import { snapshotProperties } from "./snapshots-properties.ts";
import { transportClauses } from "./transport.ts";

/** An append that a writer was told is committed. */
export interface KnownAppend {
  readonly lane: string;
  readonly seq: number;
  readonly text: string;
}

/** A snapshot write that a writer was told is stored, the newest of its id. */
export interface KnownSnapshot {
  readonly id: string;
  readonly revision: number;
  readonly text: string;
}

/** What had been answered before a crash, and the store as it is found afterwards. */
export interface Crash {
  readonly store: Store;
  readonly appends: readonly KnownAppend[];
  readonly snapshots: readonly KnownSnapshot[];
}

/** A new, empty store. */
export interface StoreUnderTest {
  readonly store: Store;
  /** Closes the store and opens it again. Only asked of a store whose data outlives it. */
  reopen(): Promise<Store>;
  /** Lets a writer append and write snapshots, ends it without warning, and opens the store. */
  crash(): Promise<Crash>;
  dispose(): Promise<void>;
}

export interface Suite {
  /** Wraps a test's body: it gets a store of its own. */
  readonly use: (body: (store: Store, subject: StoreUnderTest) => Promise<void>) => () => Promise<void>;
  /** How often a property is tried. */
  readonly runs: number;
  /** Whether the transport knows that nobody listens, and delivers before `publish` returns. */
  readonly local: boolean;
  /** Whether the store's data outlives it: then its clauses about reopening are run too. */
  readonly outlives: boolean;
  /** Whether markers of deleted snapshots are kept. */
  readonly markers: boolean;
}

export interface SuiteOptions {
  readonly runs?: number;
  readonly local?: boolean;
  readonly outlives?: boolean;
  readonly markers?: boolean;
}

export function storeConformance(
  name: string,
  open: () => Promise<StoreUnderTest>,
  { runs = 25, local = true, outlives = true, markers = true }: SuiteOptions = {},
): void {
  const use: Suite["use"] = (body) => async () => {
    const subject = await open();
    try {
      await body(subject.store, subject);
    } finally {
      await subject.dispose();
    }
  };
  const suite: Suite = { use, runs, local, outlives, markers };
  describe(`the ${name} store`, () => {
    journalClauses(suite);
    journalProperties(suite);
    snapshotClauses(suite);
    snapshotProperties(suite);
    directoryClauses(suite);
    deadLetterClauses(suite);
    transportClauses(suite);
    durabilityClauses(suite);
  });
}
