/**
 * Executable content: an SCXML block as one XState action.
 *
 * Owns the meaning of <assign>, <if>, <foreach>, <script>, <raise>, <send>, <cancel> and <log>, and that an error ends its
 * block and becomes `error.execution`. Talks to the data model for values and to `enqueueActions` for effects: what
 * becomes of states, queues and timers is left to XState.
 */
import { enqueueActions, sendParent } from "xstate";
import { type DataModel, locationOf, SCXML_PROCESSOR, type Data, type ScxmlEvent } from "./data-model.ts";
import {
  attribute,
  childrenOf,
  ConversionError,
  milliseconds,
  nameOf,
  normalized,
  readBeside,
  textIn,
  words,
  type XmlElement,
} from "./document.ts";
import { machineNameOf } from "./names.ts";

/** The context of a converted machine. */
export interface ScxmlContext {
  readonly data: Data;
  /** What the invoking session gave. */
  readonly given: Data;
  /** Sends that were given an id by us so far. */
  readonly sends: number;
  /** States whose late data are bound. */
  readonly bound: readonly string[];
}

/** An event of a converted machine. `data` is what SCXML calls so; the rest of `_event` is in `scxml`. */
export interface MachineEvent {
  readonly type: string;
  readonly data?: unknown;
  readonly output?: unknown;
  readonly scxml?: {
    readonly type?: "internal" | "platform";
    readonly sendid?: string;
    readonly origin?: string;
    readonly invokeid?: string;
  };
}

/** What is known of a document while it is converted. */
export interface Document {
  readonly folder: string;
  readonly model: DataModel;
  /** Ids of its <invoke>s. */
  readonly invokeIds: ReadonlySet<string>;
  /** Its id in the session that invokes it. */
  readonly invokedAs: string | undefined;
}

/** Begins a machine that waits for it; see convert.ts. */
export const BEGIN = "(begin)";

const STATE_DONE = "xstate.done.state.";
const ACTOR_DONE = "xstate.done.actor.";

/** What the document sees of an event; nothing of the one that starts it. */
export function scxmlEventOf(event: MachineEvent): ScxmlEvent | undefined {
  const { type, scxml = {} } = event;
  const rest = { sendid: undefined, origin: undefined, origintype: undefined, invokeid: undefined };
  if (type === BEGIN || type === "xstate.init") return undefined;
  if (type.startsWith(STATE_DONE)) {
    const name = `done.state.${type.slice(STATE_DONE.length)}`;
    return { ...rest, name, type: "platform", data: event.output };
  }
  if (type.startsWith(ACTOR_DONE)) {
    const invokeid = type.slice(ACTOR_DONE.length);
    return { ...rest, name: `done.invoke.${invokeid}`, type: "external", data: event.output, invokeid };
  }
  return {
    name: type,
    type: scxml.type ?? "external",
    data: event.data,
    sendid: scxml.sendid,
    origin: scxml.origin,
    origintype: scxml.origin === undefined ? undefined : SCXML_PROCESSOR,
    invokeid: scxml.invokeid,
  };
}

type Guard = (id: string) => unknown;

/** What a block uses of XState's `enqueueActions`. */
interface Enqueue {
  (action: unknown): void;
  assign(change: Partial<ScxmlContext>): void;
  raise(event: MachineEvent, options?: { id?: string; delay?: number }): void;
  sendTo(to: unknown, event: MachineEvent, options?: { id?: string; delay?: number }): void;
  cancel(id: string): void;
}

interface BlockArgs {
  readonly context: ScxmlContext;
  readonly event: MachineEvent;
  readonly enqueue: Enqueue;
  readonly check: (guard: unknown) => boolean;
}

/** One run of a block. */
interface Run {
  readonly document: Document;
  readonly model: DataModel;
  readonly enqueue: Enqueue;
  readonly given: Data;
  readonly bound: readonly string[];
  /** Says `error.execution` without ending the block. */
  readonly fail: () => void;
  sends: number;
}

export type Step = (run: Run) => void;

/** A <send> that could not be: the event says which. */
class SendError extends Error {
  readonly sendid: string | undefined;
  constructor(sendid: string | undefined, cause: unknown) {
    super("The event could not be sent.", { cause });
    this.sendid = sendid;
  }
}

/** One XState action that runs steps, and says `error.execution` if one of them cannot. */
export function blockOf(
  document: Document,
  stateIn: Guard,
  steps: readonly Step[],
  also: (context: ScxmlContext) => Partial<ScxmlContext> = () => ({}),
): unknown {
  const run = ({ context, event, enqueue, check }: BlockArgs): void => {
    const isIn = (id: string): boolean => check(stateIn(id));
    document.model.use(context.data, { event: scxmlEventOf(event), isIn }, (model) => {
      const { given, bound, sends } = context;
      const fail = (): void => raiseError(enqueue, "error.execution", undefined);
      const now: Run = { document, model, enqueue, given, bound, fail, sends };
      try {
        for (const step of steps) step(now);
      } catch (error) {
        if (error instanceof ConversionError) throw error;
        raiseError(enqueue, "error.execution", error instanceof SendError ? error.sendid : undefined);
      }
      enqueue.assign({ data: model.collect(), sends: now.sends, ...also(context) });
    });
  };
  return enqueueActions(run as never);
}

function raiseError(enqueue: Enqueue, type: string, sendid: string | undefined): void {
  enqueue.raise({ type, scxml: { type: "platform", ...(sendid === undefined ? {} : { sendid }) } });
}

/** What the children of an element do, in order. Throws a ConversionError for elements that mean nothing here. */
export function stepsOf(document: Document, elements: readonly XmlElement[]): Step[] {
  return elements.map((element) => stepOf(document, element));
}

function stepOf(document: Document, element: XmlElement): Step {
  const given = (name: string): string | undefined => attribute(element, name);
  switch (nameOf(element)) {
    case "assign":
      return assignStep(element);
    case "raise": {
      const type = machineNameOf(given("event") ?? "");
      return ({ enqueue }) => enqueue.raise({ type, scxml: { type: "internal" } });
    }
    case "log": {
      // Where a log goes is no part of a state; that its expression can be evaluated is.
      const expression = given("expr");
      return ({ model }) => void (expression === undefined || model.evaluate(`void (${expression})`));
    }
    case "script": {
      const source = given("src");
      const text = source === undefined ? (element.textContent ?? "") : readBeside(document.folder, source);
      return ({ model }) => model.execute(text);
    }
    case "if":
      return ifStep(document, element);
    case "foreach":
      return foreachStep(document, element);
    case "cancel":
      return ({ model, enqueue }) =>
        enqueue.cancel(given("sendid") ?? String(model.evaluate(given("sendidexpr") ?? "")));
    case "send":
      return (run) => sendOf(run, element);
    default:
      throw new ConversionError(`has <${nameOf(element)}> as executable content`);
  }
}

function assignStep(element: XmlElement): Step {
  const location = attribute(element, "location") ?? "";
  const expression = attribute(element, "expr");
  const text = textIn(element);
  return ({ model }) =>
    model.assign(location, expression === undefined ? textValue(model, text) : model.evaluate(expression));
}

/** What a text between tags is: the value that it spells, or else itself. */
export function textValue(model: DataModel, text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    return model.evaluate(text);
  } catch {
    return normalized(text);
  }
}

function ifStep(document: Document, element: XmlElement): Step {
  const branches: { condition: string | undefined; elements: XmlElement[] }[] = [
    { condition: attribute(element, "cond"), elements: [] },
  ];
  for (const child of childrenOf(element)) {
    const name = nameOf(child);
    if (name === "elseif") branches.push({ condition: attribute(child, "cond"), elements: [] });
    else if (name === "else") branches.push({ condition: "true", elements: [] });
    else branches.at(-1)?.elements.push(child);
  }
  const ready = branches.map(({ condition = "true", elements }) => ({
    condition,
    steps: stepsOf(document, elements),
  }));
  return (run) => {
    for (const { condition, steps } of ready) {
      if (!run.model.isTrue(condition)) continue;
      for (const step of steps) step(run);
      return;
    }
  };
}

function foreachStep(document: Document, element: XmlElement): Step {
  const array = attribute(element, "array") ?? "";
  const item = attribute(element, "item") ?? "";
  const index = attribute(element, "index");
  const steps = stepsOf(document, childrenOf(element));
  return (run) => {
    // `evaluate` makes a copy: the body may change the list.
    const items = run.model.evaluate(array);
    if (!Array.isArray(items)) throw new Error(`"${array}" is no list.`);
    if (items.length === 0) run.model.declare(item, undefined);
    for (const [at, value] of items.entries()) {
      run.model.declare(item, value);
      if (index !== undefined) run.model.declare(index, at);
      for (const step of steps) step(run);
    }
  };
}

/** The data that namelist, <param> and <content> make. */
export function payloadOf(model: DataModel, element: XmlElement): unknown {
  const [content] = childrenOf(element, "content");
  if (content !== undefined) return contentOf(model, content);
  const payload: [string, unknown][] = words(attribute(element, "namelist")).map((name) => [
    name,
    model.evaluate(name),
  ]);
  for (const param of childrenOf(element, "param")) {
    const expression = attribute(param, "expr") ?? attribute(param, "location") ?? "";
    payload.push([attribute(param, "name") ?? "", model.evaluate(expression)]);
  }
  return payload.length === 0 ? undefined : Object.fromEntries(payload);
}

function contentOf(model: DataModel, content: XmlElement): unknown {
  const expression = attribute(content, "expr");
  if (expression !== undefined) return model.evaluate(expression);
  const text = textIn(content) ?? "";
  try {
    return JSON.parse(text);
  } catch {
    return normalized(text);
  }
}

const itself = ({ self }: { readonly self: unknown }): unknown => self;

function sendOf(run: Run, element: XmlElement): void {
  const { model, enqueue } = run;
  const { invokedAs, invokeIds } = run.document;
  const given = (name: string): string | undefined => {
    const expression = attribute(element, `${name}expr`);
    return expression === undefined ? attribute(element, name) : String(model.evaluate(expression));
  };
  const idlocation = attribute(element, "idlocation");
  let id = attribute(element, "id");
  if (idlocation !== undefined) {
    id = `send.${run.sends++}`;
    model.assign(idlocation, id);
  }
  try {
    const type = given("type");
    const target = given("target");
    const delay = attribute(element, "delay") ?? attribute(element, "delayexpr");
    const delay_ms = delay === undefined ? 0 : milliseconds(given("delay") ?? "");
    const data = payloadOf(model, element);
    if (type !== undefined && type !== "scxml" && type !== SCXML_PROCESSOR)
      throw new Error(`There are no sends of type ${type}.`);
    const event: MachineEvent = {
      type: machineNameOf(given("event") ?? ""),
      ...(data === undefined ? {} : { data }),
      scxml: {
        origin: locationOf(model.session),
        ...(id === undefined ? {} : { sendid: id }),
      },
    };
    const options = { ...(delay_ms > 0 ? { delay: delay_ms } : {}), ...(id === undefined ? {} : { id }) };
    const inside: MachineEvent = { ...event, scxml: { ...event.scxml, type: "internal" } };
    if (target === undefined || target === locationOf(model.session)) enqueue.sendTo(itself, event, options);
    else if (target === "#_internal") enqueue.raise(inside);
    else if (target === "#_parent" && invokedAs !== undefined)
      enqueue(sendParent({ ...event, scxml: { ...event.scxml, invokeid: invokedAs } }, options));
    else if (target.startsWith("#_") && invokeIds.has(target.slice(2)))
      enqueue.sendTo(target.slice(2), event, options);
    else if (target.startsWith("#_")) raiseError(enqueue, "error.communication", id);
    else throw new Error(`"${target}" is no target.`);
  } catch (cause) {
    throw new SendError(id, cause);
  }
}
