/**
 * `keyturn/browser`: the actors of an app from a page, over HTTP (`keyturn/http`), with the types of their definitions.
 *
 *     import { actorType, createClient } from "keyturn/browser";
 *     import type { counter } from "../actors.ts";
 *
 *     const client = createClient({ token: () => session.token });
 *     const home = client.actor(actorType<typeof counter>("counter"), "home");
 *     await home.ask({ type: "add", by: 1 });
 *     for await (const state of home.watch()) show(state.context.count);
 *
 * Nothing of it is of Node, and it loads no machine. It runs wherever there is `fetch`.
 */
export {
  type BrowserChangesQuery,
  type BrowserClient,
  type BrowserFindQuery,
  type ClientOptions,
  createClient,
} from "./client.ts";
export type { TokenSource } from "./http.ts";
export type {
  BrowserRef,
  CallOptions,
  CreateArgs,
  HistoryOptions,
  HistoryPageOptions,
  TurnOptions,
  TurnsPage,
  WatchOptions,
} from "./ref.ts";
export { matchesState, type StateTest } from "./matches.ts";
export type { ReadOptions } from "./reads.ts";
export { type ActorType, actorType, type MachineOf, type RepliesOf } from "./types.ts";
export type { Watched, WatchStatus } from "./watches.ts";
export type { ChangedActor } from "../client/changes.ts";
export type { Count, FindQuery, FoundActor, FoundPage } from "../client/find.ts";
export type { ActorState, AnswerTo, AnyActorDefinition } from "../engine/definition.ts";
export type { HistoryTurn } from "../engine/history.ts";
export { type ErrorCode, isKeyturnError, KeyturnError, type Outcome } from "../words/errors.ts";
