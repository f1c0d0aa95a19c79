/**
 * SCXML to XState: an SCXML document as the config of an XState 5 machine.
 *
 * Owns the translation of states, transitions, event descriptors, histories, data and invocations. Talks to content.ts
 * for what blocks do. Nothing here interprets a state chart: which states are entered and left, in what order, and
 * what becomes of queues, timers and children is XState's doing, which is what the conformance table measures.
 *
 * Choices:
 * 1. The key and the id of a state are its SCXML id. States that only the translation needs have names in parentheses.
 * 2. SCXML takes the first transition in document order whose descriptor matches, by prefix; XState looks at the exact
 *    type first, then at `prefix.*` from long to short. Hence each descriptor's key lists, in document order, every
 *    transition of its state whose descriptor covers that one.
 * 3. An initial state that is not a child, or several, becomes a state with an eventless transition there.
 * 4. A machine that must run before its first event (a timer is set, say, and the script only waits) is made to wait in
 *    `(before)` for the event `(begin)`: a durable actor lives from its first message on. `gated` asks for that.
 */
import { type AnyStateMachine, createMachine, stateIn } from "xstate";
import {
  BEGIN,
  blockOf,
  type Document,
  type MachineEvent,
  payloadOf,
  type ScxmlContext,
  type Step,
  stepsOf,
} from "./content.ts";
import { dataOf, dataSteps } from "./data.ts";
import { type Data, DataModel } from "./data-model.ts";
import {
  attribute,
  childrenOf,
  ConversionError,
  nameOf,
  parseDocument,
  readBeside,
  words,
  type XmlElement,
} from "./document.ts";
import { type Args, guardOf, useData } from "./guard.ts";
import { covers, descriptorOf, escaped, idOf } from "./names.ts";

type Config = Record<string, unknown>;

const STATES = ["state", "parallel", "final", "history"];
const BEFORE = "(before)";
const INITIAL = "(initial)";
/** An eventless circle is an error and not for ever; the durable runtime's bound is the same. */
const MOST_MICROSTEPS = 1_000;

/**
 * The machine of an SCXML document.
 * @param folder where the document lies, for the files that it names
 * @param gated whether it waits for `(begin)`
 * @throws ConversionError what of the document has no translation
 */
export function convert(text: string, folder: string, gated: boolean): AnyStateMachine {
  return new Conversion(parseDocument(text), folder, "session", undefined).machine(gated);
}

class Conversion {
  readonly #root: XmlElement;
  readonly #document: Document;
  readonly #early: boolean;
  readonly #actors: Record<string, AnyStateMachine> = {};
  readonly #ids = new Map<XmlElement, string>();
  readonly #states = new Map<string, XmlElement>();

  constructor(root: XmlElement, folder: string, session: string, invokedAs: string | undefined) {
    this.#root = root;
    this.#early = attribute(root, "binding") !== "late";
    if (attribute(root, "datamodel") === "xpath") throw new ConversionError("has an XPath data model");
    this.#name(root, "(root)");
    const invokeIds = new Set<string>();
    for (const element of this.#ids.keys())
      for (const [at, invoke] of childrenOf(element, "invoke").entries())
        invokeIds.add(this.#invokeId(element, invoke, at));
    const scripts = childrenOf(root, "script").map((script) => scriptText(script, folder));
    const model = new DataModel(session, attribute(root, "name") ?? session, scripts);
    this.#document = { folder, model, invokeIds, invokedAs };
  }

  machine(gated: boolean): AnyStateMachine {
    const { initial, states } = this.#children(this.#root);
    const start = this.#block([
      ...dataSteps(this.#document, this.#early ? [...this.#ids.keys()] : [this.#root], this.#allData()),
      ...stepsOf(this.#document, childrenOf(this.#root, "script")),
    ]);
    const config: Config = {
      id: "(root)",
      options: { maxIterations: MOST_MICROSTEPS },
      context: ({ input }: { input: { given?: Data } | undefined }): ScxmlContext => ({
        data: {},
        given: input?.given ?? {},
        sends: 0,
        bound: [],
      }),
      output: ({ event }: { event: MachineEvent }) => event.output,
    };
    if (gated) {
      const first =
        typeof initial === "string"
          ? { target: initial }
          : (initial as { target: string; actions?: unknown[] });
      const begin = { target: escaped(first.target), actions: [start, ...(first.actions ?? [])] };
      Object.assign(config, { initial: BEFORE, states: { [BEFORE]: { on: { [BEGIN]: begin } }, ...states } });
    } else Object.assign(config, { entry: [start], initial, states });
    try {
      const machine = createMachine(config as never) as AnyStateMachine;
      return machine.provide({ actors: this.#actors } as never);
    } catch (cause) {
      throw new ConversionError(`is refused by XState: ${(cause as Error).message}`, { cause });
    }
  }

  /** Gives every state its id. */
  #name(element: XmlElement, id: string): void {
    if (this.#states.has(id)) throw new ConversionError(`has two states "${id}"`);
    this.#ids.set(element, id);
    this.#states.set(id, element);
    for (const [at, child] of childrenOf(element, ...STATES).entries())
      this.#name(child, attribute(child, "id") ?? `(${id}.${at})`);
  }

  #id(element: XmlElement): string {
    return this.#ids.get(element) as string;
  }

  #block(steps: readonly Step[], also?: (context: ScxmlContext) => Partial<ScxmlContext>): unknown {
    return blockOf(this.#document, (id) => this.#isIn(id), steps, also);
  }

  #isIn(id: string): unknown {
    return this.#states.has(id) ? stateIn(idOf(id)) : () => false;
  }

  #state(element: XmlElement): Config {
    const id = this.#id(element);
    switch (nameOf(element)) {
      case "history": {
        const [transition] = childrenOf(element, "transition");
        const target = transition === undefined ? [] : this.#targets(transition);
        const history = attribute(element, "type") === "deep" ? "deep" : "shallow";
        return { id, type: "history", history, ...(target.length > 0 ? { target } : {}) };
      }
      case "final":
        return { id, type: "final", ...this.#final(element) };
      case "parallel":
        return { id, type: "parallel", ...this.#inner(element) };
      default:
        return { id, ...this.#inner(element) };
    }
  }

  #inner(element: XmlElement): Config {
    const { initial, states } = this.#children(element);
    return {
      ...this.#entryAndExit(element),
      ...this.#transitions(element),
      ...(Object.keys(states).length === 0 ? {} : initial === undefined ? { states } : { initial, states }),
      ...this.#invokes(element),
    };
  }

  /** A state's children and which of them is entered first. */
  #children(element: XmlElement): { initial: unknown; states: Record<string, Config> } {
    const children = childrenOf(element, ...STATES);
    const states: Record<string, Config> = {};
    for (const child of children) states[this.#id(child)] = this.#state(child);
    if (nameOf(element) === "parallel") return { initial: undefined, states };
    const [transition] = childrenOf(element, "initial").flatMap((initial) =>
      childrenOf(initial, "transition"),
    );
    const named =
      transition === undefined
        ? words(attribute(element, "initial"))
        : words(attribute(transition, "target"));
    const [first] = children;
    const targets = named.length > 0 || first === undefined ? named : [this.#id(first)];
    const actions = transition === undefined ? [] : this.#actionsOf(transition);
    const [target = ""] = targets;
    const child = children.find((one) => this.#id(one) === target);
    if (targets.length > 1 || (child === undefined ? targets.length === 1 : nameOf(child) === "history")) {
      this.#check(targets);
      states[INITIAL] = { always: { target: targets.map(idOf), actions } };
      return { initial: INITIAL, states };
    }
    return { initial: actions.length === 0 ? target : { target, actions }, states };
  }

  #check(targets: readonly string[]): void {
    for (const target of targets)
      if (!this.#states.has(target))
        throw new ConversionError(`has a transition to "${target}", which is no state`);
  }

  #targets(transition: XmlElement): string[] {
    const targets = words(attribute(transition, "target"));
    this.#check(targets);
    return targets.map(idOf);
  }

  #actionsOf(element: XmlElement): unknown[] {
    const steps = stepsOf(this.#document, childrenOf(element));
    return steps.length === 0 ? [] : [this.#block(steps)];
  }

  #entryAndExit(element: XmlElement): { readonly entry: unknown[]; readonly exit: unknown[] } {
    const entry = childrenOf(element, "onentry").flatMap((block) => this.#actionsOf(block));
    const exit = childrenOf(element, "onexit").flatMap((block) => this.#actionsOf(block));
    const invokes = childrenOf(element, "invoke").flatMap((invoke, at) => {
      const location = attribute(invoke, "idlocation");
      const id = this.#invokeId(element, invoke, at);
      return location === undefined ? [] : [this.#block([({ model }) => model.assign(location, id)])];
    });
    const late = this.#early ? [] : this.#lateData(element);
    return { entry: [...late, ...entry, ...invokes], exit };
  }

  /** What a final state hands on. What cannot be evaluated is said on entry, and nothing is handed on. */
  #final(element: XmlElement): Config {
    const { entry, exit } = this.#entryAndExit(element);
    const [data] = childrenOf(element, "donedata");
    if (data === undefined) return { entry, exit };
    const output = (args: Args): unknown => {
      try {
        return useData(this.#document, args, (model) => payloadOf(model, data));
      } catch {
        return undefined;
      }
    };
    return { entry: [...entry, this.#block([({ model }) => void payloadOf(model, data)])], exit, output };
  }

  #transitions(element: XmlElement): Config {
    const on: Record<string, unknown[]> = {};
    const always: unknown[] = [];
    const listed: { descriptors: string[]; config: Config }[] = [];
    for (const transition of childrenOf(element, "transition")) {
      const descriptors = words(attribute(transition, "event")).map(descriptorOf);
      const config = this.#transition(element, transition);
      if (descriptors.length === 0) always.push(config);
      else listed.push({ descriptors, config });
    }
    for (const descriptor of new Set(listed.flatMap(({ descriptors }) => descriptors))) {
      const configs = listed
        .filter(({ descriptors }) => descriptors.some((other) => covers(other, descriptor)))
        .map(({ config }) => config);
      on[descriptor] = configs;
      if (descriptor !== "*") on[`${descriptor}.*`] = configs;
    }
    return { ...(listed.length > 0 ? { on } : {}), ...(always.length > 0 ? { always } : {}) };
  }

  #transition(source: XmlElement, transition: XmlElement): Config {
    const target = this.#targets(transition);
    const condition = attribute(transition, "cond");
    const actions = this.#actionsOf(transition);
    const compound = nameOf(source) === "state" && childrenOf(source, ...STATES).length > 0;
    const inside = words(attribute(transition, "target")).every((id) =>
      isInside(this.#states.get(id), source),
    );
    return {
      ...(target.length > 0 ? { target } : {}),
      ...(actions.length > 0 ? { actions } : {}),
      ...(condition === undefined
        ? {}
        : { guard: guardOf(this.#document, condition, (id) => this.#isIn(id)) }),
      ...(target.length > 0
        ? { reenter: !(attribute(transition, "type") === "internal" && compound && inside) }
        : {}),
    };
  }

  #allData(): string[] {
    return dataOf([...this.#ids.keys()]).map((one) => attribute(one, "id") ?? "");
  }

  #lateData(element: XmlElement): unknown[] {
    const id = this.#id(element);
    const steps = dataSteps(this.#document, [element], undefined);
    if (steps.length === 0) return [];
    const once: Step = (run) => {
      if (!run.bound.includes(id)) for (const step of steps) step(run);
    };
    return [this.#block([once], ({ bound }) => (bound.includes(id) ? {} : { bound: [...bound, id] }))];
  }

  #invokeId(element: XmlElement, invoke: XmlElement, at: number): string {
    return attribute(invoke, "id") ?? `${this.#id(element)}.invoke${at}`;
  }

  #invokes(element: XmlElement): Config {
    const invokes = childrenOf(element, "invoke").map((invoke, at) => this.#invoke(element, invoke, at));
    return invokes.length === 0 ? {} : { invoke: invokes };
  }

  #invoke(element: XmlElement, invoke: XmlElement, at: number): Config {
    const type = attribute(invoke, "type") ?? "scxml";
    for (const name of ["typeexpr", "srcexpr"])
      if (attribute(invoke, name) !== undefined)
        throw new ConversionError(`has <invoke ${name}>; XState names what it invokes`);
    if (type !== "scxml" && !/^http:\/\/www\.w3\.org\/TR\/scxml\/?$/.test(type))
      throw new ConversionError(`invokes something of type ${type}`);
    if (attribute(invoke, "autoforward") === "true")
      throw new ConversionError("has <invoke autoforward>, which XState lacks");
    if (childrenOf(invoke, "finalize").some((finalize) => childrenOf(finalize).length > 0))
      throw new ConversionError("has <finalize>, which XState lacks");
    const { folder, model } = this.#document;
    const source = attribute(invoke, "src");
    const [content] = childrenOf(invoke, "content");
    let root: XmlElement | undefined;
    if (source !== undefined) root = parseDocument(readBeside(folder, source));
    else if (content !== undefined) [root] = childrenOf(content, "scxml");
    if (root === undefined) throw new ConversionError("invokes no document that is known before it runs");
    const id = this.#invokeId(element, invoke, at);
    const name = `child ${id}`;
    this.#actors[name] = new Conversion(root, folder, `${model.session}/${id}`, id).machine(false);
    // <content> is the document here, not a value.
    const input = (args: Args): unknown => ({
      given: useData(
        this.#document,
        args,
        (scope) =>
          (content === undefined || source !== undefined
            ? payloadOf(scope, invoke)
            : paramsOf(scope, invoke)) ?? {},
      ),
    });
    return { id, src: name, input };
  }
}

function paramsOf(model: DataModel, invoke: XmlElement): unknown {
  const copy = invoke.cloneNode(true) as XmlElement;
  for (const content of childrenOf(copy, "content")) copy.removeChild(content);
  return payloadOf(model, copy);
}

function scriptText(script: XmlElement, folder: string): string {
  const source = attribute(script, "src");
  return source === undefined ? (script.textContent ?? "") : readBeside(folder, source);
}

/** Whether a state lies inside another. */
function isInside(state: XmlElement | undefined, other: XmlElement): boolean {
  for (let node = state?.parentNode; node !== null && node !== undefined; node = node.parentNode)
    if (node === other) return true;
  return false;
}
