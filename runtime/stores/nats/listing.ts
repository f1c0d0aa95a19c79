/**
 * A walk through all entries of a bucket, in the order in which they were written.
 *
 * Owns the cursor: the sequence to go on with, and whether all before it was looked at before the newest `sync`. Talks
 * to the stream by direct gets, which any replica answers and which need no consumer.
 *
 * A subject has one message, and writing it anew moves it behind everything else; so an entry that is written during the
 * walk comes again, and one that was there all the while is met at least once, if the end is the end. A replica that is
 * behind may show too early an end: the bucket's end is believed only if a page reaches it that was asked for after a
 * `sync` which came after the page before, from a replica that has seen that `sync`. Where there is one replica only,
 * every end is true.
 */
import type { ListedEntry, ListPage } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { directGet, type StoredMessage } from "./api.ts";
import type { Connection } from "./connection.ts";

const PAGE_MESSAGES = 1_000;
const PAGE_BYTES = 8 * 1024 * 1024;
const BEHIND_MS = 5;
/** What the walk asks of its bucket. */
export interface Bucket {
  readonly connection: Connection;
  readonly stream: string;
  /** Of its keys, in subjects. */
  readonly prefix: string;
  /** Whose actors; `*` for all, with the entries of shards and that of `sync`, which are passed over. */
  readonly type: string;
  /**
   * Writes an entry behind everything that anybody was told is stored, and says its sequence; 0 where every read is
   * current by itself.
   */
  mark(): Promise<number>;
  entryOf(message: StoredMessage): { readonly value: Uint8Array | undefined; readonly revision: number };
}

/** See Snapshots in runtime/ports. */
export async function listBucket(bucket: Bucket, limit: number, cursor?: string): Promise<ListPage> {
  const from = cursor === undefined ? 1 : Number(cursor);
  if (!Number.isSafeInteger(from) || from < 1)
    throw new KeyturnError("invalid_options", `"${cursor}" is not a cursor of this store.`);
  let page = await pageFrom(bucket, from, limit);
  if (page.pending === 0) {
    const mark = await bucket.mark();
    if (mark > 0) page = await upTo(bucket, from, limit, mark);
  }
  const entries: ListedEntry[] = [];
  for (const message of page.messages) {
    const id = message.subject.slice(bucket.prefix.length);
    if (id.startsWith("_")) continue;
    const { value, revision } = bucket.entryOf(message);
    if (value !== undefined) entries.push({ id, value, revision });
  }
  const last = page.messages.at(-1)?.seq;
  return { entries, next: page.pending > 0 && last !== undefined ? String(last + 1) : undefined };
}

interface Page {
  readonly messages: readonly StoredMessage[];
  readonly pending: number;
}

/** A page that either has more behind it or comes from a replica that has seen the mark. */
async function upTo(bucket: Bucket, from: number, limit: number, mark: number): Promise<Page> {
  const { connection, stream } = bucket;
  const until_ms = performance.now() + connection.timeout_ms;
  while (true) {
    const page = await pageFrom(bucket, from, limit);
    if (page.pending > 0 || (page.messages.at(-1)?.seq ?? 0) >= mark) return page;
    if (performance.now() > until_ms) {
      throw new KeyturnError(
        "store_failed",
        `${stream} has an entry ${mark} that no replica shows: one is far behind, or has lost what it had. Look at the server's log.`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, BEHIND_MS));
  }
}

function pageFrom({ connection, stream, prefix, type }: Bucket, seq: number, limit: number): Promise<Page> {
  return directGet(connection, stream, {
    seq,
    next_by_subj: `${prefix}${type}.*`,
    batch: Math.max(1, Math.min(limit, PAGE_MESSAGES)),
    max_bytes: PAGE_BYTES,
  });
}
