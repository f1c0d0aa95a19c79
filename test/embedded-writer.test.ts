/** The writer's invariants, with transactions that fail on demand. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Environment } from "../runtime/stores/embedded/environment.ts";
import { EmbeddedJournal } from "../runtime/stores/embedded/journal.ts";
import { EmbeddedSnapshots } from "../runtime/stores/embedded/snapshots.ts";
import { Space } from "../runtime/stores/embedded/space.ts";
import { Writer } from "../runtime/stores/embedded/writer.ts";
import { bytesOf, committed, eventually, readAll, snapshot, textOf } from "./conformance/helpers.ts";

const MiB = 1024 * 1024;

/** An environment whose next transaction may fail, before or after it has taken effect. */
class Failing extends Environment {
  fault: { code: number; after: boolean } | undefined;
  transactions = 0;
  /** What a transaction waits for before it does anything. */
  gate: Promise<void> = Promise.resolve();

  override async commit(writes: readonly (() => void)[]): Promise<void> {
    this.transactions++;
    const fault = this.fault;
    this.fault = undefined;
    await this.gate;
    if (fault === undefined || fault.after) await super.commit(writes);
    if (fault !== undefined) throw Object.assign(new Error("as told"), { code: fault.code });
  }
}

const { EIO, ENOSPC } = constants.errno;
let path = "";
let environment: Failing;
let writer: Writer;
let journal: EmbeddedJournal;
let snapshots: EmbeddedSnapshots;

beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), "keyturn-"));
  await mkdir(join(path, "data"));
  environment = new Failing(join(path, "data"), "process", 64 * MiB);
  writer = new Writer(environment, new Space(environment, 32 * MiB));
  journal = new EmbeddedJournal(environment, writer);
  snapshots = new EmbeddedSnapshots(environment, writer);
});

afterEach(async () => {
  await writer.close();
  await environment.close();
  await rm(path, { recursive: true, force: true });
});

const kinds = (results: readonly { kind: string }[]): string[] => results.map(({ kind }) => kind);

it("what is asked for at once shares a transaction", async () => {
  await Promise.all([
    journal.append("a", 0, bytesOf("1")),
    journal.append("b", 0, bytesOf("2")),
    snapshots.write([snapshot("t.a", "x", 0)]),
  ]);
  expect(environment.transactions).toBe(1);
});

it("2. a refusal that rests on a transaction which failed is not given", async () => {
  environment.fault = { code: EIO, after: false };
  const results = await Promise.all([
    journal.append("lane", 0, bytesOf("1")),
    journal.append("lane", 0, bytesOf("2")),
  ]);
  expect(kinds(results)).toEqual(["unknown", "unknown"]);
  expect(await journal.last("lane")).toBe(0);
});

it("2. nothing is decided while a transaction is under way", async () => {
  environment.fault = { code: EIO, after: false };
  let release = (): void => undefined;
  environment.gate = new Promise((resolve) => {
    release = resolve;
  });
  const first = journal.append("lane", 0, bytesOf("1"));
  await eventually(() => environment.transactions === 1);
  const second = journal.append("lane", 0, bytesOf("2"));
  release();
  expect(kinds([await first, await second])).toEqual(["unknown", "committed"]);
  expect(await readAll(journal, "lane")).toEqual([[1, "2"]]);
});

it("3. after a failure the memory is what the disk is: the transaction did not take effect", async () => {
  committed(await journal.append("lane", 0, bytesOf("1")));
  const [revision] = await snapshots.write([snapshot("t.a", "one", 0)]);
  environment.fault = { code: EIO, after: false };
  expect((await journal.append("other", 0, bytesOf("2"))).kind).toBe("unknown");
  environment.fault = { code: EIO, after: false };
  await expect(snapshots.write([snapshot("t.a", "two", revision as number)])).rejects.toMatchObject({
    code: "store_failed",
  });
  expect(await journal.last("other")).toBe(0);
  expect(await journal.append("other", 0, bytesOf("2"))).toEqual({ kind: "committed", seq: 2 });
  const [next] = await snapshots.write([snapshot("t.a", "two", revision as number)]);
  expect(next).toBeGreaterThan(revision as number);
});

it("3. after a failure the memory is what the disk is: the transaction did take effect", async () => {
  committed(await journal.append("lane", 0, bytesOf("1")));
  environment.fault = { code: EIO, after: true };
  const results = await Promise.all([
    journal.append("other", 0, bytesOf("2")),
    snapshots.write([snapshot("t.a", "x", 0)]).catch(() => ({ kind: "failed" })),
  ]);
  expect(results).toMatchObject([{ kind: "unknown" }, { kind: "failed" }]);
  expect(await journal.last("other")).toBe(2);
  expect(await journal.append("other", 0, bytesOf("2"))).toEqual({ kind: "conflict" });
  expect(await journal.append("lane", 1, bytesOf("3"))).toEqual({ kind: "committed", seq: 3 });
  expect(textOf(await journal.get(2))).toBe("2");
  const [entry] = await snapshots.read(["t.a"]);
  const [next] = await snapshots.write([snapshot("t.a", "y", entry?.revision as number)]);
  expect(next).toBeGreaterThan(entry?.revision as number);
});

it("4. when a shared transaction finds no room each is tried alone", async () => {
  environment.fault = { code: ENOSPC, after: false };
  const results = await Promise.all([
    journal.append("lane", 0, bytesOf("1")),
    journal.append("lane", 0, bytesOf("2")),
    journal.append("other", 0, bytesOf("3")),
  ]);
  expect(kinds(results)).toEqual(["committed", "conflict", "committed"]);
  environment.fault = { code: ENOSPC, after: false };
  expect(await journal.append("lane", 1, bytesOf("4"))).toMatchObject({
    kind: "full",
    cause: { code: "store_full" },
  });
  expect(await journal.append("lane", 1, bytesOf("4"))).toEqual({ kind: "committed", seq: 3 });
});

it("a change that cannot be decided does not disturb the others", async () => {
  const results = await Promise.all([
    journal.append("lane", 0, bytesOf("1")),
    writer
      .write({
        bytes: 1,
        decide: (group) => {
          group.put(environment.tables.journal, ["lane", 99], bytesOf("never"));
          throw new Error("on purpose");
        },
      })
      .catch((error: unknown) => error),
    journal.append("lane", 1, bytesOf("2")),
  ]);
  expect(results).toMatchObject([{ kind: "committed" }, { code: "store_failed" }, { kind: "committed" }]);
  expect(await readAll(journal, "lane")).toEqual([
    [1, "1"],
    [2, "2"],
  ]);
});

it("a store that gave up refuses everything, and closes", async () => {
  environment.giveUp();
  expect(await journal.append("lane", 0, bytesOf("1"))).toMatchObject({
    kind: "unknown",
    cause: { code: "store_failed" },
  });
  await expect(snapshots.read(["t.a"])).rejects.toMatchObject({ code: "store_failed" });
});
