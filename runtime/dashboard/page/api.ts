/**
 * The server that this page came from, as the page asks it.
 *
 * Owns the token, which is kept for this tab only. Every refusal is thrown as a `Refused` with its problem document.
 */
import type { ChartState } from "../../words/chart.ts";

export interface Problem {
  readonly title?: string;
  readonly detail?: string;
  readonly code: string;
  readonly status: number;
  readonly retryable?: boolean;
  readonly outcome?: string;
}

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };
export type Status = "active" | "done" | "error" | "stopped";

export interface ClusterNode {
  readonly name: string;
  readonly incarnation: string;
  readonly weight: number;
  readonly leaving: boolean;
  readonly types: readonly string[];
  readonly shards: number;
}

export interface Cluster {
  readonly nodes: readonly ClusterNode[];
  readonly shards: readonly { readonly shard: number; readonly owner?: string; readonly epoch: number }[];
  readonly sources: readonly ClusterSource[];
}

export interface ClusterSource {
  readonly source: string;
  readonly runner: string;
  readonly node?: string;
  readonly partitions: number;
  readonly lag?: number;
  readonly unit: string;
}

export interface TypeRow {
  readonly type: string;
  readonly version: number;
  readonly index?: readonly string[];
  readonly events?: readonly string[];
}

export interface MachineDescription {
  readonly chart: ChartState;
  /** Which machine an actor of this one is, by the name of its logic. */
  readonly actors: Readonly<Record<string, number>>;
}

export interface TypeDescription extends TypeRow {
  readonly chart: ChartState;
  readonly machines?: readonly MachineDescription[];
  readonly eventSchema?: Schema;
  readonly inputSchema?: Schema;
}

/** As much of a JSON Schema as forms are made from. */
export interface Schema {
  readonly type?: string | readonly string[];
  readonly const?: Json;
  readonly enum?: readonly Json[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly description?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly default?: Json;
}

export interface Count {
  readonly total: number;
  readonly states: Readonly<Record<string, number>>;
}

export interface Found {
  readonly key: string;
  readonly value: Json;
  readonly status: Status;
  readonly turn: number;
  readonly time?: number;
  readonly fields: Readonly<Record<string, Json>>;
}

export interface ChildState {
  readonly src: string;
  readonly status: Status;
  readonly value?: Json;
  readonly context?: Json;
  readonly output?: Json;
  readonly error?: Json;
}

/** By path, parents before their children. */
export type Children = Readonly<Record<string, ChildState>>;

export interface ActorState {
  readonly value: Json;
  readonly context: Json;
  readonly status: Status;
  readonly output?: Json;
  readonly error?: Json;
  readonly tags?: readonly string[];
  readonly children?: Children;
  readonly turn: number;
  readonly position: number;
}

export interface Turn {
  readonly turn: number;
  readonly time: number;
  readonly event: { readonly type: string; readonly [name: string]: Json };
  readonly value: Json;
  readonly context: Json;
  readonly status: Status;
  readonly children?: Children;
  readonly error?: Json;
  readonly replied: boolean;
  readonly reply?: Json;
  readonly told: readonly { readonly to: string; readonly event: Json }[];
  readonly emitted: readonly Json[];
  readonly refusal?: readonly [code: string, text: string] | null;
  readonly position: number;
}

export interface Timer {
  readonly id: string;
  readonly child?: string;
  readonly due: number;
  readonly event: { readonly type: string };
}

/** What one event of a what-if would do, or one delay that falls due in it. */
export interface WhatIfStep {
  readonly event: { readonly type: string; readonly [name: string]: Json };
  readonly time: number;
  readonly fired: boolean;
  readonly refused?: { readonly code: string; readonly reason: string };
  readonly state: ActorState;
  readonly told: readonly { readonly to: string; readonly event: Json; readonly asked: boolean }[];
  readonly emitted: readonly Json[];
  readonly replied: boolean;
  readonly reply?: Json;
  readonly actions: readonly string[];
  readonly begun: readonly string[];
}

export interface WhatIf {
  readonly from: { readonly turn: number; readonly time: number } | null;
  readonly steps: readonly WhatIfStep[];
  readonly state: ActorState;
  readonly timers: readonly { readonly id: string; readonly due: number }[];
}

export interface DeadLetter {
  readonly id: string;
  readonly type: string;
  readonly key: string;
  readonly event: Json;
  readonly time: number;
  readonly code: string;
  readonly reason: string;
}

export interface SourceRow {
  readonly source: string;
  /** Counted up to 100; missing while it is not known. */
  readonly deadLetters?: number;
  readonly more: boolean;
  /** The node that is asked can read its items again. */
  readonly retries: boolean;
}

export interface SourceDeadLetter {
  readonly id: string;
  /** A file's path, a stream, a producer. */
  readonly of: string;
  readonly number: number;
  readonly reason: string;
  readonly text: string;
  readonly time: number;
}

/** A request that was refused, or found nobody. */
export class Refused extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail ?? problem.title ?? problem.code);
    this.problem = problem;
  }
}

const TOKEN = "keyturn.token";
const BACK_MS = 1_500;

/** Whoever asks the user for a token. */
let tokenAsker: { needToken(): void } | undefined;

/** Hears when a token is needed, or another one. */
export function onTokenNeeded(ask: () => void): void {
  tokenAsker = { needToken: ask };
}

export function setToken(token: string): void {
  sessionStorage.setItem(TOKEN, token.trim().replace(/^Bearer +/i, ""));
}

export function hasToken(): boolean {
  return sessionStorage.getItem(TOKEN) !== null;
}

export interface Asked {
  readonly method?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

/** Asks the server; resolves with the JSON of its answer. @throws Refused */
export async function ask<T>(path: string, asked: Asked = {}): Promise<T> {
  const response = await request(path, asked);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

/** The same, as text. @throws Refused */
export async function askText(path: string, asked: Asked = {}): Promise<string> {
  return (await request(path, asked)).text();
}

async function request(path: string, { method = "GET", body, headers, signal }: Asked): Promise<Response> {
  const token = sessionStorage.getItem(TOKEN);
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      cache: "no-store",
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    if (signal?.aborted === true) throw error;
    throw new Refused({
      code: "unreachable",
      status: 0,
      detail: "The node that served this page does not answer.",
    });
  }
  if (response.ok) return response;
  if (response.status === 401) tokenAsker?.needToken();
  const problem = (await response.json().catch(() => ({}))) as Partial<Problem>;
  throw new Refused({ code: "unreachable", status: response.status, ...problem });
}

/**
 * Listens to a stream of server-sent events until it is aborted; comes back when it breaks.
 * (A browser's own EventSource carries no token.)
 */
export async function listen(
  path: string,
  signal: AbortSignal,
  heard: (event: string, data: string) => void,
  broken: (error: unknown) => void,
): Promise<void> {
  while (!signal.aborted) {
    try {
      const { body } = await request(path, { signal, headers: { accept: "text/event-stream" } });
      if (body !== null) await readEvents(body, heard);
    } catch (error) {
      if (signal.aborted) return;
      broken(error);
    }
    await new Promise((resolve) => setTimeout(resolve, BACK_MS));
  }
}

async function readEvents(
  body: ReadableStream<Uint8Array>,
  heard: (event: string, data: string) => void,
): Promise<void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const blocks = text.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const field = (name: string): string | undefined =>
        block
          .split("\n")
          .find((line) => line.startsWith(`${name}: `))
          ?.slice(name.length + 2);
      const data = field("data");
      if (data !== undefined) heard(field("event") ?? "message", data);
    }
  }
}

export function actorPath(type: string, key: string): string {
  return `/actors/${type}/${encodeURIComponent(key)}`;
}

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
