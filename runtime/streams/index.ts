/**
 * `keyturn/streams`: the Kappa architecture on actors.
 *
 * Sources feed actors from files, from JetStream and from HTTP, so that each item counts once. Subscriptions and views
 * over what actors emit, and sinks that publish it.
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
export { lines, type LinesOptions, type ParsedLinesOptions } from "./sources/files/plain.ts";
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
export { take } from "./sources/take.ts";
export type { PlannedPartition, Position } from "./sources/words.ts";
export {
  dropSourceDeadLetters,
  type LetterOptions,
  type LetterRetryOptions,
  retrySourceDeadLetter,
  type SourceDeadLetter,
  sourceDeadLetters,
} from "./sources/letters.ts";
export {
  type SourcePartitionStatus,
  resetSource,
  type SourceStatus,
  sourceStatus,
} from "./sources/status.ts";
export {
  type AnyEmitted,
  type EmittedBy,
  type EmittedFor,
  type Emitting,
  subscribe,
  type Subscription,
  withoutRoutes,
} from "./routes.ts";
export { type FileSinkOptions, toFile } from "./sinks/file.ts";
export { type HttpSinkOptions, toHttp } from "./sinks/http.ts";
export { type JetStreamSinkOptions, toJetStream } from "./sinks/jetstream.ts";
export {
  defineSink,
  type PartitionStatus,
  type Sink,
  type SinkDefinition,
  type SinkOptions,
  type SinkStatus,
} from "./sinks/sink.ts";
export {
  type Published,
  type PublishArgs,
  type SinkBatch,
  type SinkItem,
  SinkRefusal,
  type SinkTarget,
  toFunction,
} from "./sinks/target.ts";
export {
  type Aggregate,
  type Aggregates,
  avg,
  count,
  first,
  fold,
  last,
  max,
  min,
  type Of,
  sum,
  type Values,
} from "./views/aggregates.ts";
export type { ViewEmitted } from "./views/machine.ts";
export type {
  KeysQuery,
  SettledOptions,
  ViewEntry,
  ViewPage,
  ViewReader,
  ViewState,
  WindowResult,
} from "./views/reader.ts";
export { distinct, type DistinctCount, topK, type TopEntry } from "./views/sketches.ts";
export { defineView, type View, type ViewDefinition, type ViewOptions } from "./views/view.ts";
export {
  hopping,
  session,
  sliding,
  type Time,
  tumbling,
  type WindowOptions,
  type WindowSpec,
} from "./views/windows.ts";
