/**
 * Keyturn: every key is a virtual actor, every actor is a state machine, and a turn that was answered is never lost.
 *
 * The public interface. Everything else is internal.
 */
export {
  ActorRef,
  type CallOptions,
  Client,
  type GetOptions,
  type HistoryOptions,
  type WatchOptions,
} from "./client/client.ts";
export {
  type ActorDefinition,
  type ActorState,
  type AnyActorDefinition,
  defineActor,
  type EventFor,
} from "./engine/definition.ts";
export type { HistoryTurn } from "./engine/history.ts";
export { reply, tell } from "./engine/machine.ts";
export type { Observer } from "./engine/observer.ts";
export { KeyturnNode, type NodeOptions, startNode, type StopOptions } from "./node.ts";
export type * from "./ports/index.ts";
export { type EmbeddedOptions, embedded } from "./stores/embedded/index.ts";
export { memory } from "./stores/memory/index.ts";
export { type Address, decodeKey, encodeKey, parseAddress, shardOf } from "./words/address.ts";
export { type ErrorCode, isKeyturnError, KeyturnError, type Outcome } from "./words/errors.ts";
export { limits, nodeDefaults, type NodeSettings } from "./words/limits.ts";
