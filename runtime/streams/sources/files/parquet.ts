/**
 * Parquet files as a source: one row an item.
 *
 * A position is a number of rows. Rows are read some at a time, within a row group and of the wanted columns only, so
 * memory is bounded by the size of a row group's compressed columns. A Parquet file cannot grow: it is known by its size
 * and its end, which describes all of it.
 */
import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import type { AsyncBuffer, FileMetaData } from "hyparquet";
import { KeyturnError } from "../../../words/errors.ts";
import type { PlannedPartition, Position } from "../words.ts";
import {
  changed,
  type Chunk,
  checkWhole,
  type Extent,
  type Item,
  type ReadOptions,
  type SourceReader,
  unreadable,
} from "../reader.ts";
import { type FileOptions, opened, pathsOf } from "./file.ts";

export interface ParquetOptions extends FileOptions {
  /** Columns to read; all by default. */
  readonly columns?: readonly string[];
  /** Parts in which each file is read at once, whole row groups each; 1 by default. Fixed when a file is first read. */
  readonly partitions?: number;
  /**
   * Whole numbers of 64 bits stay bigints. By default they become numbers, and a row with one that no number can hold is
   * malformed.
   */
  readonly bigints?: boolean;
}

const PARTS_MAX = 256;
/** Values decoded at once, if a row group has more. */
const VALUES_AT_ONCE = 1_000_000;
const CHUNK_ITEMS = 8_192;
const TAIL_BYTES = 64 * 1_024;

/** An open file. */
interface Opened {
  readonly file: FileHandle;
  readonly buffer: AsyncBuffer;
  readonly metadata: FileMetaData;
}

/**
 * Reads Parquet. Items are objects of the rows' columns, numbered from 1.
 * @throws KeyturnError `invalid_options`
 */
export function parquet<T = Record<string, unknown>>(options: ParquetOptions): SourceReader<T> {
  const paths = pathsOf(options);
  const { partitions = 1, columns, bigints = false } = options;
  checkWhole("partitions", partitions, 1, PARTS_MAX);
  if (columns !== undefined && (!Array.isArray(columns) || columns.length === 0))
    throw new KeyturnError("invalid_options", "columns is a list of the names of columns.");
  return {
    description: `Parquet of ${paths.join(", ")}`,
    unit: "rows",
    follow: false,
    numberAt: (position) => (position as (Position & number) | null) ?? 0,
    plan: async () => (await Promise.all(paths.map((path) => partsOf(path, partitions)))).flat(),
    read: (partition, position, { signal }) =>
      read<T>(partition, position as number | null, { columns, bigints, signal }),
    extent: async ({ spec }, position): Promise<Extent> => {
      const [from, to] = [spec.from as number, spec.to as number];
      return { done: ((position as Position & number) ?? from) - from, total: to - from };
    },
  };
}

async function partsOf(path: string, count: number): Promise<PlannedPartition[]> {
  const { file, metadata } = await open(path);
  try {
    const identity = await identityOf(file);
    const groups = groupsOf(metadata);
    const rows = groups.at(-1)?.[1] ?? 0;
    // Ends of parts are ends of row groups.
    const ends = groups.map(([, end]) => end);
    const cuts = Array.from({ length: count }, (_, at) =>
      at + 1 === count ? rows : (ends.find((end) => end >= Math.floor((rows * (at + 1)) / count)) ?? rows),
    );
    return cuts.map((to, at) => ({ group: path, spec: { path, from: cuts[at - 1] ?? 0, to }, identity }));
  } catch (cause) {
    throw unreadable(path, cause);
  } finally {
    await file.close();
  }
}

function groupsOf(metadata: FileMetaData): readonly (readonly [from: number, to: number])[] {
  let at = 0;
  return metadata.row_groups.map(({ num_rows }) => [at, (at += Number(num_rows))] as const);
}

async function open(path: string): Promise<Opened> {
  const { parquetMetadataAsync } = await import("hyparquet");
  const file = await opened(path);
  try {
    const { size: byteLength } = await file.stat();
    const buffer: AsyncBuffer = {
      byteLength,
      slice: async (start, end = byteLength) => {
        const bytes = new Uint8Array(Math.max(0, end - start));
        const { bytesRead } = await file.read(bytes, 0, bytes.length, start);
        if (bytesRead < bytes.length) throw new Error("it ends too early");
        return bytes.buffer;
      },
    };
    return { file, buffer, metadata: await parquetMetadataAsync(buffer) };
  } catch (cause) {
    await file.close();
    throw unreadable(path, cause);
  }
}

async function identityOf(file: FileHandle): Promise<{ readonly size: number; readonly tail: string }> {
  const { size } = await file.stat();
  const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
  await file.read(tail, 0, tail.length, size - tail.length);
  return { size, tail: createHash("sha256").update(tail).digest("hex").slice(0, 32) };
}

async function* read<T>(
  { spec, identity }: PlannedPartition,
  position: number | null,
  options: ReadOptions & { readonly columns: readonly string[] | undefined; readonly bigints: boolean },
): AsyncGenerator<Chunk<T>> {
  const path = spec.path as string;
  const { parquetReadObjects } = await import("hyparquet");
  const { compressors } = await import("hyparquet-compressors");
  const { file, buffer, metadata } = await open(path);
  try {
    const now = await identityOf(file);
    if (now.size !== identity.size || now.tail !== identity.tail)
      throw changed(
        `${path} is not the file that it was when it was first read. Give what is new a name of its own, or begin anew with resetSource().`,
      );
    const columns = options.columns === undefined ? undefined : [...options.columns];
    const wide = columns?.length ?? Math.max(1, metadata.schema.length - 1);
    const most = Math.max(1, Math.floor(VALUES_AT_ONCE / wide));
    const end = spec.to as number;
    for (const [from, to] of groupsOf(metadata)) {
      let row = Math.max(from, position ?? (spec.from as number));
      while (row < Math.min(to, end)) {
        const rowEnd = Math.min(row + most, to, end);
        const rows = await parquetReadObjects({
          file: buffer,
          metadata,
          compressors,
          rowStart: row,
          rowEnd,
          ...(columns === undefined ? {} : { columns }),
        });
        for (let at = 0; at < rows.length; at += CHUNK_ITEMS) {
          if (options.signal.aborted) return;
          const part = rows.slice(at, at + CHUNK_ITEMS) as Record<string, unknown>[];
          const first = row + at + 1;
          yield { items: part.map((value, index) => rowItem<T>(value, first + index, options.bigints)) };
        }
        row = rowEnd;
      }
    }
  } catch (cause) {
    throw unreadable(path, cause);
  } finally {
    await file.close();
  }
}

/** A row as an item: its bigints as numbers, where they fit. */
export function rowItem<T>(row: Record<string, unknown>, number: number, bigints: boolean): Item<T> {
  if (!bigints) {
    for (const name in row) {
      const value = row[name];
      if (typeof value === "object" && value !== null) row[name] = plain(value);
      else if (typeof value === "bigint") {
        const small = Number(value);
        if (!Number.isSafeInteger(small))
          return {
            number,
            after: number,
            value: row as T,
            fault: `${name} is ${value}, more than a number can hold.`,
          };
        row[name] = small;
      }
    }
  }
  return { number, after: number, value: row as T };
}

/** Bigints within lists and structures; those that no number can hold stay. */
function plain(value: object): unknown {
  if (Array.isArray(value)) return value.map((inner: unknown) => plainValue(inner));
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plainValue(inner)]));
}

function plainValue(value: unknown): unknown {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  return typeof value === "object" && value !== null ? plain(value) : value;
}
