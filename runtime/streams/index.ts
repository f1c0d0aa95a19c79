/**
 * `keyturn/streams`: the Kappa architecture on actors. Subscriptions and views over what actors emit, and sinks that
 * publish it.
 */
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
export type { ViewReader, ViewState, WindowResult } from "./views/reader.ts";
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
