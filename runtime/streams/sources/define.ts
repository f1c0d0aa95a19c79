/**
 * `defineSource`: what a user declares a source to be.
 *
 * Owns the checks of a declaration. Talks to the source's actors and its reader.
 */
import type { EventOf, Machine } from "../../engine/machine.ts";
import { type ActorDefinition, type AnyActorDefinition, checkEventSchema } from "../../engine/definition.ts";
import { KeyturnError } from "../../words/errors.ts";
import { type SourceActors, sourceActors } from "./actors.ts";
import { checkWhole, type MessageInfo, type SourceReader } from "./reader.ts";

/** A message that an item is turned into. */
export interface Told {
  /** An address, `type/key`. */
  readonly to: string;
  readonly event: { readonly type: string; readonly [name: string]: unknown };
}

/** One message, several, or nothing: the item is skipped, and counted so. */
export type Mapped = Told | readonly Told[] | undefined | null;

/** What is known of an item besides its value. */
export interface ItemInfo {
  /** Name of the source. */
  readonly source: string;
  /** What it is of: a file's path, a stream, a producer. */
  readonly of: string;
  /** Line, row or sequence; counts from 1. */
  readonly number: number;
  /** Of a stream's message. */
  readonly message?: MessageInfo | undefined;
}

interface Common<T> {
  readonly from: SourceReader<T>;
  /**
   * What becomes of an item that is malformed, or for which the mapping throws or gives what cannot be sent: "letter"
   * (default) counts it and keeps it as a dead letter; "stop" ends the run with `source_malformed` before it.
   */
  readonly onMalformed?: "letter" | "stop";
  /** How many dead letters are kept of each partition, newest kept; 10,000 by default. */
  readonly keepLetters?: number;
}

export interface EachOptions<T> extends Common<T> {
  /** Turns an item into messages. Must give the same for the same item. */
  readonly to: (value: T, info: ItemInfo) => Mapped;
  /** Items in one batch, at most; 500 by default. A batch is one turn of the partition. */
  readonly batch?: number;
}

export interface BatchOptions<T> extends Common<T> {
  /**
   * Turns many items at once into messages: for combining those that go to one actor into one event. Called with items
   * in a row, never with the malformed ones; how many is up to the source, and if the messages do not fit into a turn it
   * is called again with fewer. Each item counts once all the same. Must give the same for the same items.
   */
  readonly toBatch: (values: readonly T[], infos: readonly ItemInfo[]) => readonly Told[];
  /** Items in one batch, at most; 4,096 by default. */
  readonly batch?: number;
}

/** A source, declared. */
export interface Source<T = unknown> {
  readonly name: string;
  readonly from: SourceReader<T>;
  /** What nodes have to host for it: `startNode({ actors: [airport, ...flights.actors] })`. */
  readonly actors: readonly AnyActorDefinition[];
  readonly to: ((value: T, info: ItemInfo) => Mapped) | undefined;
  readonly toBatch: ((values: readonly T[], infos: readonly ItemInfo[]) => readonly Told[]) | undefined;
  readonly batch: number;
  readonly onMalformed: "letter" | "stop";
  readonly keepLetters: number;
  /** @internal */
  readonly parts: SourceActors;
}

// biome-ignore lint/suspicious/noExplicitAny: a source of whatever items
export type AnySource = Source<any>;

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$/;
const BATCH = 500;
const BATCH_COMBINED = 4_096;
const BATCH_MAX = 65_536;
const LETTERS = 10_000;
const LETTERS_MAX = 10_000_000;

/**
 * Declares a source: what it reads, and what becomes of each item.
 *
 * ```ts
 * const flights = defineSource("flights", {
 *   from: parquet({ path: "flights.parquet" }),
 *   to: (row) => toldTo(airport, row.origin, { type: "departed", delay: row.delay }),
 * });
 * const node = await startNode({ actors: [airport, ...flights.actors], store });
 * await runSource(node.client, flights).done;
 * ```
 *
 * @param name letters, digits, `_` and `-`; under it the position is kept
 * @throws KeyturnError `invalid_options`
 */
export function defineSource<T>(name: string, options: EachOptions<T> | BatchOptions<T>): Source<T> {
  if (typeof name !== "string" || !NAME.test(name))
    bad(`"${name}" is not the name of a source: up to 40 letters, digits, "_" or "-".`);
  if (typeof options !== "object" || options === null) bad("defineSource takes a name and { from, to }.");
  const { from, onMalformed = "letter", keepLetters = LETTERS } = options;
  const to = "to" in options ? options.to : undefined;
  const toBatch = "toBatch" in options ? options.toBatch : undefined;
  const { batch = toBatch === undefined ? BATCH : BATCH_COMBINED } = options;
  if (typeof from?.read !== "function")
    bad(
      `The source "${name}" reads from nothing: from is what ndjson(), csv(), parquet(), jetstream() return.`,
    );
  if ((typeof to === "function") === (typeof toBatch === "function"))
    bad(`The source "${name}" needs a function: either to or toBatch.`);
  if (onMalformed !== "letter" && onMalformed !== "stop") bad('onMalformed is "letter" or "stop".');
  checkWhole("batch", batch, 1, BATCH_MAX);
  checkWhole("keepLetters", keepLetters, 1, LETTERS_MAX);
  const parts = sourceActors(name, keepLetters);
  const actors = [parts.partition, parts.plan, parts.gate, parts.page];
  const source = Object.freeze({ name, from, actors, to, toBatch, batch, onMalformed, keepLetters, parts });
  declared.set(parts.partition, source);
  return source;
}

const declared = new WeakMap<AnyActorDefinition, AnySource>();

/** The sources among what a node hosts. */
export function sourcesAmong(actors: readonly AnyActorDefinition[]): readonly AnySource[] {
  return actors.map((actor) => declared.get(actor)).filter((source) => source !== undefined);
}

/**
 * A message for an actor, with the types of its definition; an event that does not fit its schema makes the item malformed.
 * @throws KeyturnError `invalid_address`, `invalid_event`
 */
export function toldTo<M extends Machine, R extends object>(
  definition: ActorDefinition<string, M, R>,
  key: string,
  event: EventOf<M>,
): Told {
  if (typeof key !== "string" || key === "")
    throw new KeyturnError(
      "invalid_address",
      `The key of a message to "${definition.type}" is ${String(key)}.`,
    );
  checkEventSchema(definition, event);
  return { to: `${definition.type}/${key}`, event: event as Told["event"] };
}

function bad(text: string): never {
  throw new KeyturnError("invalid_options", text);
}
