/**
 * Streams into actors and out of them: `keyturn/streams`.
 *
 * Sources feed actors from files, from JetStream and from HTTP, so that each item counts once.
 */
export {
  type AnySource,
  type BatchOptions,
  defineSource,
  type EachOptions,
  type ItemInfo,
  type Mapped,
  type Source,
  type Told,
  toldTo,
} from "./sources/define.ts";
export { csv, type CsvOptions } from "./sources/files/csv.ts";
export { ndjson, type NdjsonOptions } from "./sources/files/ndjson.ts";
export { parquet, type ParquetOptions } from "./sources/files/parquet.ts";
export { jetstream, type JetStreamOptions, type StreamServer } from "./sources/jetstream.ts";
export { type Endpoint, type EndpointOptions, http, sourceEndpoint } from "./sources/http.ts";
export type { Chunk, Extent, Item, MessageInfo, ReadOptions, SourceReader } from "./sources/reader.ts";
export {
  type ProgressOptions,
  runSource,
  type RunOptions,
  type SourceProgress,
  SourceRun,
} from "./sources/run.ts";
export type { PlannedPartition, Position } from "./sources/words.ts";
export {
  type LetterOptions,
  type SourcePartitionStatus,
  resetSource,
  type SourceDeadLetter,
  sourceDeadLetters,
  type SourceStatus,
  sourceStatus,
} from "./sources/status.ts";
