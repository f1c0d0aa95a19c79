/**
 * Schemas: the one place that knows how a Standard Schema is run, and how its verdict reads.
 *
 * Talks to nobody but user code: the schema's `validate`, which may throw, be asynchronous, or give no verdict at all.
 *
 * Invariants:
 * 1. Only the verdict is used; what a schema would turn the value into is not. What an actor sees is what was sent.
 * 2. Whatever a schema does ends in a KeyturnError of the code that was asked for, or in nothing.
 * 3. Texts are bounded, however long paths and messages are.
 */
import { type ErrorCode, KeyturnError, textOf } from "../words/errors.ts";

/**
 * A check of values, as libraries like zod, valibot and arktype make them. Only its verdict is used; what it would turn
 * the value into is not. It must be synchronous. Source: the Standard Schema specification, version 1.
 */
export interface StandardSchema {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaVerdict | Promise<SchemaVerdict>;
  };
}

/** A check of events. */
export type EventSchema = StandardSchema;

export interface SchemaVerdict {
  readonly issues?: readonly SchemaIssue[] | undefined;
}

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** What is checked, as its errors call it. */
export interface Checked {
  readonly code: ErrorCode;
  /** Where paths begin: `event`. */
  readonly name: string;
  /** Of the actor. */
  readonly type: string;
}

/** Faults that are told in one text; the others are counted. */
const FAULTS_TOLD = 3;
const PATH_LENGTH = 200;
const MESSAGE_LENGTH = 400;
const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;

export function isSchema(value: unknown): value is StandardSchema {
  // arktype's schemas are functions.
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return false;
  const standard = (value as Partial<StandardSchema>)["~standard"];
  return typeof standard?.validate === "function";
}

/**
 * Throws if a value does not fit a schema; what it says is like `event.items[0].price: Expected number`.
 * @param value was sealed before: a schema cannot change it
 * @throws KeyturnError with the given code
 */
export function checkSchema(schema: StandardSchema | undefined, value: unknown, checked: Checked): void {
  if (schema === undefined) return;
  let faults: readonly string[];
  try {
    const verdict = schema["~standard"].validate(value);
    if (isPromise(verdict)) {
      // What it would find comes too late, and must not end the process.
      verdict.then(undefined, () => undefined);
      throw new KeyturnError(checked.code, `${schemaOf(checked)} is asynchronous. Use one that is not.`);
    }
    faults = faultsOf(verdict, checked.name);
  } catch (cause) {
    if (cause instanceof KeyturnError) throw cause;
    const text = `${schemaOf(checked)} threw: ${clip(textOf(cause), MESSAGE_LENGTH)}`;
    throw new KeyturnError(checked.code, text, { cause });
  }
  if (faults.length === 0) return;
  const more = faults.length > FAULTS_TOLD ? `; and ${faults.length - FAULTS_TOLD} more` : "";
  throw new KeyturnError(checked.code, faults.slice(0, FAULTS_TOLD).join("; ") + more);
}

function schemaOf({ name, type }: Checked): string {
  return `The schema for the ${name} of "${type}"`;
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

function faultsOf({ issues }: SchemaVerdict, name: string): string[] {
  if (issues === undefined) return [];
  // A failed verdict may say nothing; the value does not fit all the same.
  if (issues.length === 0) return [`${name}: does not fit its schema`];
  return Array.from(issues, ({ message, path }, at) =>
    at < FAULTS_TOLD ? `${pathText(name, path ?? [])}: ${clip(String(message), MESSAGE_LENGTH)}` : "",
  );
}

/** `event.items[0].price`; what is no name stands in brackets: `event["a b"]`, `event[Symbol(x)]`. */
function pathText(name: string, path: NonNullable<SchemaIssue["path"]>): string {
  let text = name;
  for (const part of path) {
    const key: unknown = typeof part === "object" ? part.key : part;
    if (typeof key === "string" && !/^\d+$/.test(key))
      text += IDENTIFIER.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
    else text += `[${String(key)}]`;
    if (text.length > PATH_LENGTH) break;
  }
  return clip(text, PATH_LENGTH);
}

function clip(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
