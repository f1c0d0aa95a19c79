/**
 * Errors as values: what of one is kept, and how one is made again from that.
 *
 * Owns the anatomy of an Error: its kind, name, message, properties, and `cause` and `errors`, which are properties
 * that are not enumerable. Talks to nobody.
 *
 * Invariants:
 * 1. What `rebuilt` makes of `partsOf` has the same parts again.
 * 2. A stack is never kept: it names files of one version on one machine, and is worth nothing after a year.
 */

/** Their places are part of the format. Every other class comes back as the first, with its own name. */
const kinds = [
  Error,
  EvalError,
  RangeError,
  ReferenceError,
  SyntaxError,
  TypeError,
  URIError,
  AggregateError,
] as const;
export const errorKinds = kinds.length;
const aggregate = kinds.indexOf(AggregateError);
/** Properties that JavaScript itself gives to Errors, not enumerable. Names and messages are here if they are no texts. */
const hiddenNames: readonly string[] = ["cause", "errors", "name", "message"];

type Properties = Readonly<Record<string, unknown>>;
/** Null stands for a name or message that the kind has by itself, or that is among the properties. */
export type ErrorParts = readonly [
  kind: number,
  name: string | null,
  message: string | null,
  properties?: Properties | undefined,
  hidden?: Properties | undefined,
];

/** Names of the properties to keep, enumerable ones first, and which of them are to be enumerable. */
export function namesOf(error: Error): { shown: readonly string[]; hidden: readonly string[] } {
  const hidden = hiddenNames.filter((name) => {
    const property = Object.getOwnPropertyDescriptor(error, name);
    if (property?.enumerable !== false || !("value" in property)) return false;
    return name === "cause" || name === "errors" || typeof property.value !== "string";
  });
  return { shown: Object.keys(error).filter((name) => name !== "stack"), hidden };
}

/** The parts of an Error that was sealed. */
export function partsOf(error: Error): ErrorParts {
  const kind = Math.max(
    0,
    kinds.findIndex((one) => one.prototype === Object.getPrototypeOf(error)),
  );
  const { shown, hidden } = namesOf(error);
  const name = ownText(error, "name");
  const head = [
    kind,
    name === kinds[kind]?.prototype.name ? null : name,
    ownText(error, "message") || null,
  ] as const;
  if (hidden.length > 0) return [...head, picked(error, shown), picked(error, hidden)];
  return shown.length > 0 ? [...head, picked(error, shown)] : head;
}

/** An Error of these parts; not frozen. */
export function rebuilt([kind, name, message, shown = {}, hidden = {}]: ErrorParts): Error {
  const limit = Error.stackTraceLimit;
  // Where it is made again says nothing about where it came from, and costs more than all the rest.
  Error.stackTraceLimit = 0;
  try {
    const text = message ?? undefined;
    const Kind = (kinds[kind] ?? Error) as ErrorConstructor;
    const error = kind === aggregate ? new AggregateError([], text) : new Kind(text);
    if (kind === aggregate) Reflect.deleteProperty(error, "errors");
    // First, while its name and message are texts: engines put a stack together when it is asked for.
    const title = textAmong(shown, "name") ?? name ?? error.name;
    const rest = textAmong(shown, "message") ?? message;
    define(error, "stack", rest ? `${title}: ${rest}` : title, false);
    if (name !== null) define(error, "name", name, false);
    for (const [property, value] of Object.entries(hidden)) define(error, property, value, false);
    for (const [property, value] of Object.entries(shown)) define(error, property, value, true);
    return error;
  } finally {
    Error.stackTraceLimit = limit;
  }
}

/** Whether it may stand among the properties that are not enumerable. */
export function isHidden(name: string): boolean {
  return hiddenNames.includes(name);
}

/** The name or message, if it is a text and not among the enumerable properties. */
function ownText(error: Error, name: "name" | "message"): string | null {
  const text: unknown = error[name];
  return typeof text === "string" && !Object.prototype.propertyIsEnumerable.call(error, name) ? text : null;
}

function textAmong(properties: Properties, name: string): string | undefined {
  const text = Object.hasOwn(properties, name) ? properties[name] : undefined;
  return typeof text === "string" ? text : undefined;
}

function picked(error: Error, names: readonly string[]): Properties {
  return Object.fromEntries(names.map((name) => [name, (error as unknown as Properties)[name]]));
}

function define(error: Error, name: string, value: unknown, enumerable: boolean): void {
  Object.defineProperty(error, name, { value, enumerable, writable: true, configurable: true });
}
