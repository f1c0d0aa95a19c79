/** Items whose sums tell which of them counted, and how tests look at them. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { counter } from "../../actors/index.ts";
import { type Client, isKeyturnError, memory, startNode } from "../../runtime/index.ts";
import {
  defineSource,
  type AnySource,
  type Source,
  sourceDeadLetters,
  type SourceReader,
  toldTo,
} from "../../runtime/streams/index.ts";
import { temporaryPath } from "./temporary.ts";

export interface Row {
  readonly key: string;
  readonly by: number;
}

export const KEYS = 7;

/** Sums that tell which items counted: each has a bit of its own, over its key. */
const rowAt = (n: number): Row => ({ key: `k${n % KEYS}`, by: 2 ** Math.floor(n / KEYS) });

export const rows = (count: number, from = 0): Row[] =>
  Array.from({ length: count }, (_, n) => rowAt(from + n));

export const text = (items: readonly unknown[]): string =>
  items.map((item) => `${JSON.stringify(item)}\n`).join("");

export function written(content: string, name = "items.ndjson"): string {
  const path = join(temporaryPath(), name);
  writeFileSync(path, content);
  return path;
}

export function source(
  from: SourceReader<Row>,
  options: { batch?: number; onMalformed?: "stop" } = {},
): Source<Row> {
  return defineSource("items", {
    from,
    to: ({ key, by }) => toldTo(counter, key, { type: "add", by }),
    ...options,
  });
}

export async function sums(client: Client): Promise<number[]> {
  const keys = Array.from({ length: KEYS }, (_, key) => client.actor(counter, `k${key}`).get());
  return (await Promise.all(keys)).map(({ context }) => context.count);
}

export function expected(items: readonly Row[]): number[] {
  const all = Array.from({ length: KEYS }, () => 0);
  for (const { key, by } of items) all[Number(key.slice(1))] = (all[Number(key.slice(1))] as number) + by;
  return all;
}

export async function on<T>(items: AnySource, work: (client: Client) => Promise<T>): Promise<T> {
  const node = await startNode({ actors: [counter, ...items.actors], store: memory() });
  try {
    return await work(node.client);
  } finally {
    await node.stop();
  }
}

export async function lettersOf(client: Client, items: AnySource, limit?: number) {
  const letters = [];
  for await (const { number, reason, text: begins } of sourceDeadLetters(
    client,
    items,
    limit === undefined ? {} : { limit },
  ))
    letters.push({ number, reason, text: begins });
  return letters;
}

export async function failure(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (error: unknown) => (isKeyturnError(error) ? `${error.code}: ${error.message}` : String(error)),
  );
}
