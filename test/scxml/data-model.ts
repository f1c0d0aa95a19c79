/**
 * The ECMAScript data model of an SCXML document: evaluates its expressions and scripts.
 *
 * Owns one V8 context per document, with nothing of this process in it. The values do not live there: every use is
 * given the data that the machine's context holds, and hands back what became of them, as plain data. So a machine
 * can be thrown away between any two events, and two variables never hold one object. Functions that the document's own scripts declare are code and stay.
 * Talks to nobody.
 */
import vm from "node:vm";

export type Data = Readonly<Record<string, unknown>>;

/** What SCXML calls `_event`. */
export interface ScxmlEvent {
  readonly name: string;
  readonly type: "internal" | "external" | "platform";
  readonly data: unknown;
  readonly sendid: string | undefined;
  readonly origin: string | undefined;
  readonly origintype: string | undefined;
  readonly invokeid: string | undefined;
}

/** What an evaluation sees besides the data. */
export interface Surroundings {
  readonly event: ScxmlEvent | undefined;
  /** The predicate `In`. */
  readonly isIn: (state: string) => boolean;
}

const SYSTEM = ["_event", "_sessionid", "_name", "_ioprocessors", "_x", "In", "$value", "$copy"];
const DEEPEST = 32;
/** A document that loops is a document that fails. */
const TIMEOUT_MS = 1_000;
/** Arrays and objects of the document's own realm, so that `instanceof` and the like hold there. */
const COPY = `(function copy(v) {
  if (Array.isArray(v)) return Array.from(v, (item) => copy(item));
  if (typeof v !== "object" || v === null) return v;
  const made = {};
  for (const name of Object.keys(v)) made[name] = copy(v[name]);
  return made;
})`;

/** The session's own address, as _ioprocessors and _event.origin give it. */
export function locationOf(session: string): string {
  return `#_scxml_${session}`;
}

export const SCXML_PROCESSOR = "http://www.w3.org/TR/scxml/#SCXMLEventProcessor";

export class DataModel {
  readonly session: string;
  readonly #sandbox: Record<string, unknown>;
  readonly #context: vm.Context;
  readonly #compiled = new Map<string, vm.Script>();

  /** @param scripts the document's own, run once here for the functions that they declare */
  constructor(session: string, name: string, scripts: readonly string[]) {
    this.session = session;
    this.#sandbox = Object.create(null) as Record<string, unknown>;
    this.#context = vm.createContext(this.#sandbox, {
      codeGeneration: { strings: false, wasm: false },
    });
    this.#sandbox.$copy = this.#run(COPY);
    const processor = { location: locationOf(session) };
    this.#sandbox._sessionid = session;
    this.#sandbox._name = name;
    this.#sandbox._ioprocessors = this.#foreign({ scxml: processor, [SCXML_PROCESSOR]: processor });
    for (const script of scripts) {
      try {
        this.#run(script);
      } catch {
        // Run again when the document starts, where its error becomes an event.
      }
    }
    this.#clear();
  }

  /** Works on the data: nothing that `work` does is kept but by `collect`. */
  use<T>(data: Data, { event, isIn }: Surroundings, work: (scope: DataModel) => T): T {
    this.#clear();
    for (const [name, value] of Object.entries(data)) this.#sandbox[name] = this.#foreign(value);
    this.#sandbox._event = event === undefined ? undefined : this.#foreign(event);
    this.#sandbox.In = isIn;
    return work(this);
  }

  /** The data as they are now, as plain data of this realm. Throws for what is none. */
  collect(): Data {
    const data: Record<string, unknown> = {};
    for (const name of Object.keys(this.#sandbox)) {
      const value = this.#sandbox[name];
      if (!SYSTEM.includes(name) && typeof value !== "function") data[name] = plain(value, 0);
    }
    return data;
  }

  declares(name: string): boolean {
    return name in this.#sandbox;
  }

  /** An expression's value, as plain data. */
  evaluate(expression: string): unknown {
    return plain(this.#evaluate(expression), 0);
  }

  isTrue(expression: string): boolean {
    return Boolean(this.#evaluate(expression));
  }

  /** Assigns to a place that there is. */
  assign(location: string, value: unknown): void {
    const root = /^[\p{ID_Start}$_][\p{ID_Continue}$]*/u.exec(location.trim())?.[0];
    if (root === undefined || SYSTEM.includes(root) || !(root in this.#sandbox))
      throw new Error(`"${location}" is no place to assign to.`);
    this.#sandbox.$value = this.#foreign(value);
    this.#run(`"use strict"; ${location} = $value;`);
  }

  /** Makes a variable, or gives it a value. */
  declare(name: string, value: unknown): void {
    if (!/^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(name)) throw new Error(`"${name}" is not a name.`);
    if (SYSTEM.includes(name)) throw new Error(`"${name}" belongs to the system.`);
    this.#sandbox[name] = this.#foreign(value);
  }

  execute(script: string): void {
    this.#run(script);
  }

  #evaluate(expression: string): unknown {
    // Some documents end their expressions as statements.
    return this.#run(`(${expression.replace(/;\s*$/, "")}\n)`);
  }

  #run(text: string): unknown {
    let script = this.#compiled.get(text);
    if (script === undefined) {
      script = new vm.Script(text);
      this.#compiled.set(text, script);
    }
    return script.runInContext(this.#context, { timeout: TIMEOUT_MS });
  }

  #foreign(value: unknown): unknown {
    const copy = this.#sandbox.$copy as (value: unknown) => unknown;
    return copy(value);
  }

  #clear(): void {
    for (const name of Object.keys(this.#sandbox)) {
      if (!SYSTEM.includes(name) && typeof this.#sandbox[name] !== "function") delete this.#sandbox[name];
    }
  }
}

function plain(value: unknown, depth: number): unknown {
  if (typeof value === "function" || typeof value === "symbol") throw new Error("A function is no data.");
  if (typeof value !== "object" || value === null) return value;
  if (depth > DEEPEST) throw new Error("The data are too deep.");
  if (Array.isArray(value)) return Array.from(value, (item) => plain(item, depth + 1));
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plain(item, depth + 1)]));
}
