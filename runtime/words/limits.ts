/**
 * Every bound of the runtime, in one place, with the relations between them asserted when the module loads.
 *
 * Over a limit is a typed refusal (see errors.ts), never growth. Settings that a node may choose are in
 * `nodeDefaults`; the rest are part of the formats or protect memory, and are fixed.
 */
import { invariant } from "./errors.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

/** Fixed bounds. Bytes are of the encoded form. */
export const limits = {
  /** Encoded key; with the type and the shard's subject prefix it stays under NATS's 256-byte advice. */
  keyBytes: 160,
  /** Type, dot and encoded key. */
  idBytes: 64 + 1 + 160,
  eventBytes: 256 * KiB,
  /** A whole actor: context, state, timers, remembered requests. One KV entry on NATS. */
  stateBytes: 768 * KiB,
  /** One turn: event, change, messages told, reply. One turn must fit into one append. */
  recordBytes: 896 * KiB,
  /** One append. NATS refuses messages over 1 MB with headers. */
  batchBytes: 960 * KiB,
  batchRecords: 8_192,
  /** One message of a network, whatever it carries. NATS refuses messages over 1 MB with headers. */
  frameBytes: 960 * KiB,
  /** Who fills a frame with messages begins the next one here, by the estimates of `seal`. */
  frameFill: 256 * KiB,
  /** Messages in one frame. */
  frameRequests: 1_024,
  /** Names of sessions, watches and incarnations. */
  nameBytes: 128,
  /** W3C trace context: a traceparent and what is carried of its tracestate. */
  traceBytes: 640,
  /**
   * What `seal` takes for one byte may be so many: it counts the characters of short texts, since counting their bytes
   * costs more than all the rest.
   */
  estimateFactor: 3,
  /** Nesting of events, contexts and replies. */
  valueDepth: 64,
  /** Values and properties in one event. */
  valueNodes: 200_000,
  /** Eventless transitions and raised events in one turn. */
  microsteps: 1_000,
  /** Messages that one turn may tell. */
  tellsPerTurn: 1_024,
  timersPerActor: 256,
  /**
   * A delay that was overdue by more than this when a node began to watch it, since none had run, is resumed as its
   * type's `delays` says.
   */
  delayGrace_ms: 60_000,
  /** Invoked and spawned actors of one actor, of all levels. */
  childrenPerActor: 1_024,
  /** Request ids given by callers that one actor remembers, newest kept. */
  requestsPerActor: 256,
  requestIdBytes: 128,
  /** Every so many turns a record holds the whole state, so that any past turn is rebuilt from at most this many. */
  keyframeTurns: 64,
  historyPage: 256,
  /** Messages and invocations that an actor's mailbox is shown with; it says how many there are. */
  mailboxShown: 256,
  /** Rows that one shard gives in one answer to a query, and that it looks at for it. */
  queryPage: 1_024,
  queryLooks: 16_384,
  /** Paths of contexts that the index of a type holds. */
  indexPaths: 32,
  /** Watches on one node. */
  watchesPerNode: 100_000,
  /** Unresolved requests of one client in one shard. */
  sessionInFlight: 8_192,
  /** Requests that one shard has applied and whose clients have not said that they know it, over all sessions. */
  requestsPerShard: 262_144,
  /** Client sessions that one shard remembers. */
  sessionsPerShard: 4_096,
  /** A session unused for this long may be forgotten; longer than any caller's deadline. */
  sessionIdle_ms: 15 * 60_000,
  /** The longest deadline a caller may set. */
  deadline_ms: 5 * 60_000,
  /** Messages told to one shard and not yet acknowledged by it. */
  outboxPerChannel: 65_536,
  /** Bytes of everything that one shard told others and that is not acknowledged, by the estimates of `seal`. */
  outboxBytes: 64 * MiB,
  /** How many of those may be for one sink, and how many of the bytes for all sinks: others are to have room still. */
  sinkPerChannel: 8_192,
  /** Of a sink's channel, how many messages are on their way at once: while it is down they are sent again and again. */
  sinkWindow: 128,
  sinksBytes: 8 * MiB,
  /** Of a channel's messages, how many are on their way at once, and how many bytes. */
  outboxWindow: 1_024,
  outboxWindowBytes: 4 * MiB,
  shards: 16_384,
  /** Requests of clients that are not ours, in flight on one node. */
  plainInFlight: 4_096,
  /** A store remembers a deletion for so long at least; no write of a dead node comes later. */
  markerAge_ms: 60 * 60_000,
} as const;

/** What a node may be told otherwise, with its defaults. */
export const nodeDefaults = {
  /** Actors kept in memory; the least recently used are passivated beyond it. */
  activeActors: 50_000,
  /** Messages taken in and not yet stepped, over all shards. */
  intakeMessages: 65_536,
  /** Messages that wait for one actor while it is loaded. */
  mailboxMessages: 8_192,
  /** A node without a heartbeat for so long is dead to the others. */
  lease_ms: 5_000,
  heartbeat_ms: 1_500,
  /** Snapshots are written when the tail holds so many records … */
  checkpointRecords: 500_000,
  /** … or so many bytes … */
  checkpointBytes: 128 * MiB,
  /** … or its oldest record is so old. */
  checkpoint_ms: 30_000,
  /** How often the journal is trimmed to what is to be kept, if that is not everything. */
  trim_ms: 10 * 60_000,
  /** Invoked promises that run at once; the others wait their turn. Callbacks and observables are not counted. */
  promisesAtOnce: 1_024,
  /** Actors of which a node keeps a row for queries (`find`, `count`, ranges), some hundred bytes each. */
  catalogRows: 2_000_000,
  /** Snapshots written in one store call. */
  snapshotBatch: 512,
  /** Actors with a timer that is found later than this wait in a backlog … */
  overdue_ms: 5_000,
  /** … of which this node fires so many a second: after a downtime, many are overdue at once. */
  overduePerSecond: 2_000,
} as const;

export type NodeSettings = { -readonly [K in keyof typeof nodeDefaults]: number };

invariant(limits.eventBytes < limits.recordBytes, "an event fits into a record");
invariant(limits.stateBytes < limits.recordBytes, "a keyframe fits into a record");
invariant(limits.recordBytes < limits.batchBytes, "a record fits into an append");
invariant(limits.batchBytes + 32 * KiB <= MiB, "an append with its headers fits into a NATS message");
invariant(limits.frameBytes + 32 * KiB <= MiB, "a frame with its headers fits into a NATS message");
invariant(
  limits.recordBytes + 16 * KiB < limits.frameBytes,
  "what one turn answers or tells fits into a frame",
);
invariant(
  limits.estimateFactor * (limits.frameFill + 2 * KiB) < limits.frameBytes &&
    limits.frameFill >= limits.eventBytes,
  "a frame that is filled by estimates can be carried, and the largest event goes into one",
);
invariant(limits.outboxWindow <= limits.frameRequests, "a frame may hold a channel's window");
invariant(limits.sessionInFlight < limits.requestsPerShard, "one session cannot fill a shard");
invariant(limits.deadline_ms * 2 < limits.sessionIdle_ms, "a session outlives every retry of its requests");
invariant(
  limits.sessionIdle_ms < limits.markerAge_ms,
  "a deletion is remembered longer than anything is late",
);
invariant(limits.outboxWindow <= limits.outboxPerChannel, "the window fits into the outbox");
invariant(limits.sinkWindow <= limits.sinkPerChannel, "the window fits into a sink's part of the outbox");
invariant(limits.sinkWindow <= limits.outboxWindow, "a sink's frames are no larger than others");
invariant(limits.sinksBytes < limits.outboxBytes, "sinks that are down leave room for what actors tell");
invariant(nodeDefaults.heartbeat_ms * 3 <= nodeDefaults.lease_ms, "a lease survives two lost heartbeats");
invariant(
  nodeDefaults.mailboxMessages <= nodeDefaults.intakeMessages,
  "one actor cannot hold more than the node",
);
