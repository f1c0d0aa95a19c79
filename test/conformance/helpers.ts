/** What the clauses share: bytes from texts and back, whole lanes, and answers that have to be a certain kind. */
import { isDeepStrictEqual } from "node:util";
import { expect } from "vitest";
import type { AppendResult, Journal, SnapshotWrite, Store } from "../../runtime/ports/index.ts";

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

export function textOf(bytes: Uint8Array | undefined): string | undefined {
  return bytes === undefined ? undefined : new TextDecoder().decode(bytes);
}

/** The sequence of an append that has to be committed. */
export function committed(result: AppendResult): number {
  if (result.kind !== "committed") throw new Error(`The append should be committed, but is ${result.kind}`);
  return result.seq;
}

/** Appends one text after another to a lane, each on top of the one before; returns their sequences. */
export async function appendAll(
  journal: Journal,
  lane: string,
  texts: readonly string[],
  last = 0,
): Promise<number[]> {
  const seqs: number[] = [];
  for (const text of texts)
    seqs.push(committed(await journal.append(lane, seqs.at(-1) ?? last, bytesOf(text))));
  return seqs;
}

/** What a read yields, in one list. Every chunk has to hold something. */
export async function readAll(
  journal: Journal,
  lane: string,
  from = 1,
  to = Number.MAX_SAFE_INTEGER,
): Promise<(readonly [seq: number, text: string])[]> {
  const entries: (readonly [number, string])[] = [];
  for await (const chunk of journal.read(lane, from, to)) {
    expect(chunk.length).toBeGreaterThan(0);
    for (const { seq, bytes } of chunk) entries.push([seq, textOf(bytes) as string]);
  }
  return entries;
}

/** All entries of all journals, in order of position. */
export async function scanAll(journal: Journal): Promise<[number, string][]> {
  const entries: [number, string][] = [];
  for (const { first, last } of await journal.ends())
    for await (const chunk of journal.scan(first, last))
      for (const { seq, bytes } of chunk) entries.push([seq, textOf(bytes) as string]);
  return entries;
}

/** A snapshot write, of shard 1 and without timers unless said otherwise. */
export function snapshot(
  id: string,
  text: string | undefined,
  expected: number,
  more: { shard?: number; due?: number } = {},
): SnapshotWrite {
  const value = text === undefined ? undefined : bytesOf(text);
  return { id, shard: more.shard ?? 1, value, expected, due: more.due };
}

/** Writes one snapshot and returns its revision, or undefined for a conflict. */
export async function writeOne(store: Store, write: SnapshotWrite): Promise<number | undefined> {
  const answers = await store.snapshots.write([write]);
  expect(answers).toHaveLength(1);
  return answers[0];
}

/** Writes one snapshot, which has to succeed. */
export async function writeSure(store: Store, write: SnapshotWrite): Promise<number> {
  const revision = await writeOne(store, write);
  if (revision === undefined) throw new Error(`The write of ${write.id} should succeed, but conflicts`);
  return revision;
}

export async function readOne(
  store: Store,
  id: string,
): Promise<{ text: string; revision: number } | undefined> {
  const [entry] = await store.snapshots.read([id]);
  if (entry?.value === undefined) return undefined;
  return { text: textOf(entry.value) as string, revision: entry.revision };
}

/** What the next write of an entry has to expect. */
export async function revisionOf(store: Store, id: string): Promise<number> {
  return (await store.snapshots.read([id]))[0]?.revision ?? 0;
}

/** Waits for something that comes sooner or later. */
export async function eventually(holds: () => boolean, wait_ms = 5_000): Promise<void> {
  const end = performance.now() + wait_ms;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`It has not come about within ${wait_ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Waits until something that may be behind is as it should be. */
export async function become(read: () => Promise<unknown>, wanted: unknown, wait_ms = 5_000): Promise<void> {
  const end = performance.now() + wait_ms;
  while (true) {
    const found = await read();
    if (isDeepStrictEqual(found, wanted)) return;
    if (performance.now() > end) expect(found).toEqual(wanted);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
