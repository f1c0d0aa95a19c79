/**
 * Keyturn: every key is a virtual actor, every actor is a state machine, and a turn that was answered is never lost.
 *
 * The public interface. Everything else is internal.
 */
export type {
  ActorRef,
  CallOptions,
  Client,
  CreateArgs,
  GetOptions,
  HistoryOptions,
  RefFor,
  WatchOptions,
} from "./client/client.ts";
export type { ChangedActor, ChangesQuery } from "./client/changes.ts";
export type { Cluster, ClusterNode, ClusterShard, ClusterSource } from "./client/cluster.ts";
export type {
  Count,
  FindQuery,
  FoundActor,
  FoundPage,
  FoundTimer,
  TimersQuery,
} from "./client/find.ts";
export type { HistoryPageOptions, TurnsPage } from "./client/history-page.ts";
export type { ForkOptions } from "./client/fork.ts";
export {
  type ActorAddress,
  type ActorDefinition,
  type ActorState,
  type AnswerTo,
  type AnyActorDefinition,
  defineActor,
  type EventFor,
  type ChildState,
  type InvokePolicy,
  type NoReplies,
  type RetryPolicy,
  type StateFor,
} from "./engine/definition.ts";
export type { HistoryTurn, PastState } from "./engine/history.ts";
export type { DelayPolicy } from "./engine/resume.ts";
export type { Keep } from "./engine/keep.ts";
export type { TrimReport } from "./engine/retention.ts";
export { trimJournal } from "./retention.ts";
export type { MigratedChild, MigratedState, Migration, Migrations } from "./engine/migration.ts";
export { connect, type ConnectedClient, type ConnectOptions } from "./connect.ts";
export {
  type AddressedEvent,
  ask,
  type AskInput,
  type ContextOf,
  type DurableAction,
  fromDurablePromise,
  type PromiseArgs,
  type EventOf,
  type InputOf,
  type Machine,
  reply,
  tell,
  tellAll,
  type ValueOf,
} from "./engine/machine.ts";
export type { Change, Entry, KeyValueStore, ListOptions, PutOptions, StoreOptions } from "./kv/store.ts";
export type { Key } from "./kv/keys.ts";
export type { Pinned } from "./kv/pinned.ts";
export type { SourceCounts } from "./engine/observer.ts";
export type { SourceShare } from "./words/sources.ts";
export type { Metric, MetricHistogram, MetricPoint, NodeMetrics } from "./engine/metrics.ts";
export type { Observer } from "./engine/observer.ts";
export type { Invocation, MailboxState, WaitingMessage } from "./words/mailbox.ts";
export type { PendingTimer, TimerName } from "./engine/pending.ts";
export type {
  BatchCommit,
  RequestSpan,
  RequestStart,
  Telemetry,
  TurnCommit,
  TurnSpan,
  TurnStart,
} from "./engine/telemetry.ts";
export type { EventSchema, StandardSchema } from "./engine/schema.ts";
export type { HealthCheck, NodeHealth } from "./health.ts";
export type { Difference } from "./rebuild/compare.ts";
export type { PromoteReport } from "./rebuild/promote.ts";
export {
  type Rebuild,
  type RebuildOptions,
  type RebuildProgress,
  rebuildType,
} from "./rebuild/rebuild.ts";
export type { RebuildReport } from "./rebuild/report.ts";
export {
  whatIf,
  type WhatIfEvent,
  type WhatIfOptions,
  type WhatIfResult,
  type WhatIfStep,
} from "./rebuild/what-if.ts";
export { type Hosted, type KeyturnNode, type NodeOptions, startNode, type StopOptions } from "./node.ts";
export type * from "./ports/index.ts";
export { type EmbeddedOptions, embedded } from "./stores/embedded/index.ts";
export { serveStore, type StoreServer } from "./stores/socket/index.ts";
export { type MemoryOptions, type MemoryStore, memory } from "./stores/memory/index.ts";
export {
  nats,
  type NatsOptions,
  type NatsStore,
  provisionNats,
  type ProvisionReport,
} from "./stores/nats/index.ts";
export { type Address, decodeKey, encodeKey, parseAddress, shardOf } from "./words/address.ts";
export type { Frame } from "./words/frames.ts";
export { type ErrorCode, isKeyturnError, KeyturnError, type Outcome } from "./words/errors.ts";
export { limits, nodeDefaults, type NodeSettings } from "./words/limits.ts";
export type { Condition, Filter, Scalar } from "./words/queries.ts";
