/**
 * What the engine and the cluster tell whoever wants to know: metrics, logs, tests. Does nothing by default.
 *
 * Every call is made after the fact and must not throw. Source of the shape: workerd's `io/observer.h`.
 */
import type { KeyturnError } from "../words/errors.ts";

export interface Observer {
  /** A batch was committed. */
  committed(records: number, bytes: number): void;
  /** A custom action threw after its turn was committed. The turn stands. */
  actionFailed(id: string, action: string, error: unknown): void;
  /** A machine said something with XState's `log`, in a turn that is committed. */
  logged(id: string, label: string | undefined, value: unknown): void;
  /** A shard was stopped because storage does not hold together. */
  shardFailed(shard: number, error: KeyturnError): void;
  /** This incarnation is a member, and serves the shards that were free. */
  joined(incarnation: string): void;
  /** This incarnation was fenced and gives up what it has. */
  fenced(incarnation: string): void;
  /** Somebody asked this incarnation to leave; it hands its shards over. Who runs the node may stop it then. */
  askedToLeave(incarnation: string): void;
  shardServing(shard: number, incarnation: string, epoch: number): void;
  shardReleased(shard: number, incarnation: string): void;
  /** The store has no room. */
  storeFull(cause: unknown): void;
  /** This node takes part in reading a source. */
  sourceRuns(source: string, from: string): void;
  /** It is read to its end, or this node has stopped reading it. */
  sourceEnded(source: string, status: SourceCounts): void;
  /** It cannot be read on, whatever is repeated: the node goes on without it. */
  sourceFailed(source: string, error: unknown): void;
  /** A background task failed and will be tried again. */
  troubled(task: string, error: unknown): void;
}

/** How a source stands. */
export interface SourceCounts {
  readonly items: number;
  readonly malformed: number;
  /** Everything is read and delivered. */
  readonly ended: boolean;
}

const nothing = (): void => undefined;

export const silent: Observer = {
  committed: nothing,
  actionFailed: nothing,
  logged: nothing,
  shardFailed: nothing,
  joined: nothing,
  fenced: nothing,
  askedToLeave: nothing,
  shardServing: nothing,
  shardReleased: nothing,
  storeFull: nothing,
  sourceRuns: nothing,
  sourceEnded: nothing,
  sourceFailed: nothing,
  troubled: nothing,
};
